"""The networks of earlier trainings that a configuration names: ours, and published files as they are."""

import sys
from dataclasses import replace

from edgebnn import checkpoint as checkpoints
from edgebnn.checkpoint import NORMALISATION, RESOLUTION, Checkpoint
from edgebnn.checkpoint.report import not_assumed
from edgebnn.errors import UserError
from edgebnn.hints import NO_HINTS, Hints
from edgebnn.text import printable

from ..data.module import Images
from ..parallel.launch import is_first


def load_network(
    path: str, data: Images, *, what: str, key: str, hints: Hints | None, weights_alone: bool = False
) -> Checkpoint:
    """Reads the network in the file `path`, and prints on stderr what was assumed of a published file.

    Args:
        path: the file.
        data: what the network will see: its resolution is not assumed, nor a normalisation that the data confirm.
        what: what the file is to the user, for messages.
        key: the method's argument that names the file; `KEY_hints` says more about it.
        hints: that argument's value.
        weights_alone: whether another network takes the weights, so that what is binary of this one does not matter.

    Raises:
        UserError: as `edgebnn.checkpoint.load_checkpoint` does, or the hints hold a resolution.
    """
    option = f"model.init_args.{key}_hints"
    if hints is not None and hints.resolution is not None:
        raise UserError(f"{option}.resolution: the images' resolution is the data's; set data.init_args.resolution")
    found = checkpoints.load_checkpoint(path, what=what, hints=hints or NO_HINTS)
    confirmed = data.normalisation_given and (found.info.mean, found.info.std) == (data.mean, data.std)
    known = [RESOLUTION, *([NORMALISATION] if confirmed else []), *(["stage"] if weights_alone else [])]
    assumed = not_assumed(found.assumed, *known)
    if assumed and is_first():
        line = f"assumed of {what} {path}: {', '.join(assumed)} ({option} says otherwise)"
        print(printable(line), file=sys.stderr, flush=True)
    return replace(found, assumed=assumed)
