"""Loads the trained networks that a configuration names: our checkpoints and published files."""

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
    """Returns the checkpoint in a file, and prints on stderr what was assumed about a published file.

    Args:
        path: the file.
        data: the images that the network will see. Their resolution is used, so no assumption about it is printed. A
            normalisation that the data already use is not printed either.
        what: what the file is to the user, for messages.
        key: the method's argument that names the file. `KEY_hints` says more about the file.
        hints: the value of `KEY_hints`.
        weights_alone: whether another network takes the weights. Then it does not matter which stage the file is of.

    Raises:
        UserError: as `edgebnn.checkpoint.load_checkpoint`, or the hints have a resolution.
    """
    option = f"model.init_args.{key}_hints"
    if hints is not None and hints.resolution is not None:
        raise UserError(f"{option}.resolution: the images' resolution is the data's; set data.init_args.resolution")
    found = checkpoints.load_checkpoint(path, what=what, hints=hints or NO_HINTS)
    confirmed = data.has_normalisation(found.info)
    known = [RESOLUTION, *([NORMALISATION] if confirmed else []), *(["stage"] if weights_alone else [])]
    assumed = not_assumed(found.assumed, *known)
    if assumed and is_first():
        line = f"assumed of {what} {path}: {', '.join(assumed)} ({option} says otherwise)"
        print(printable(line), file=sys.stderr, flush=True)
    return replace(found, assumed=assumed)
