"""The published checkpoint layouts: which one a file has, found by its keys.

    reactnet, s2-bnn, burn              ReActNet-A                        edgebnn.checkpoint.reactnet
    reactnet-18, birealnet-18           binary ResNet-18s                 edgebnn.checkpoint.bireal
    torchvision, moco, swav             real-valued ResNet-18, 34, 50     edgebnn.checkpoint.resnet

Each is translated to the names of the networks in `edgebnn.nn`, wherever in the file the network lies: under whatever
keys (`state_dict`, `model_state_dict`, ...) and module names (`module.`, `encoder_q.`, ...) lead to the layout's own.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import takewhile
from typing import Any

from edgebnn.checkpoint import bireal as layouts_bireal
from edgebnn.checkpoint import burn_heads as layouts_burn
from edgebnn.checkpoint import reactnet as layouts_reactnet
from edgebnn.checkpoint import resnet as layouts_resnet
from edgebnn.checkpoint.contents import Bundle, find_bundles, refuse_last_ckpt
from edgebnn.checkpoint.place import Place, choose_place, describe_others, find_places
from edgebnn.checkpoint.reasons import explain
from edgebnn.checkpoint.source import Published, Source
from edgebnn.errors import UserError, check
from edgebnn.hints import NO_HINTS, Hints

_READERS = (
    # BURN's pretraining file holds its ResNet-50 besides the student, which is what the file is for.
    (r"feature\.0\.conv1\.weight", layouts_reactnet.read),
    (r"layer1\.0\.binary_conv\.weights?", layouts_bireal.read),
    (r"layer1\.0\.conv1\.weight", layouts_resnet.read),
)
"""A key that files of the layout have, and what reads them."""


def read(data: Any, what: str, hints: Hints = NO_HINTS) -> Published:
    """Translates the content of a published file.

    Args:
        data: what `torch.load` gave.
        what: the file, for messages.
        hints: what the user says about the file.

    Raises:
        UserError: the layout is unknown, a key is missing, unexpected or of the wrong shape, or the file holds several
            networks and does not say which is meant.
    """
    refuse_last_ckpt(data, what)
    bundles = find_bundles(data)
    check(bundles, f"{what} holds no state dict of tensors; give the file that holds the weights")
    reader, places = _find_reader(bundles, what)
    place, assumed = choose_place(places, what, hints)
    bundle = place.bundle
    source = Source(bundle.tensors, place.prefix, what, hints, describe_others(places, place), bundle.names)
    source.assumed += assumed
    published = reader(source)
    heads = layouts_burn.find_heads(bundles) if published.layout == "burn" else {}
    ignored = published.ignored | _ignored_elsewhere(bundles, bundle)
    ignored |= {_listed(found, name, bundle): layouts_burn.WHY for found, name in heads.values()}
    tensors = {head: found.tensors[name] for head, (found, name) in heads.items()}
    return replace(published, ignored=ignored, heads=tensors)


def _find_reader(bundles: list[Bundle], what: str) -> tuple[Callable[[Source], Published], list[Place]]:
    """What reads the network that the file is for, and where in the file it finds networks."""
    found = [(reader, find_places(bundles, key)) for key, reader in _READERS]
    # The trained network counts before its teacher, though that be binary.
    for wanted in (lambda place: not place.aside and not place.unusual[0], lambda place: not place.aside, bool):
        for reader, places in found:
            if any(map(wanted, places)):
                return reader, places
    example = next(iter(bundles[0].names.values()))
    raise UserError(
        f"{what} is of an unknown layout (it holds {example}); known are edgebnn's .safetensors, S2-BNN, BURN, "
        "ReActNet and Bi-Real-Net files, and ResNet-18, 34 and 50 of torchvision, MoCo, SwAV and others with its names"
    )


def _ignored_elsewhere(bundles: Iterable[Bundle], chosen: Bundle) -> dict[str, str]:
    """What the file holds outside the chosen mapping, and why it is not read."""
    names = (_listed(bundle, name, chosen) for bundle in bundles if bundle is not chosen for name in bundle.tensors)
    return {name: explain(name) or "beside the network's weights" for name in names}


def _listed(bundle: Bundle, name: str, chosen: Bundle) -> str:
    """How a tensor is called in `ignored`: a mapping that does not lead to the chosen one counts as a whole."""
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(bundle.path, chosen.path)))
    if bundle is chosen:
        return bundle.names[name]
    if shared < len(bundle.path):
        return ".".join(bundle.path[: shared + 1])
    return ".".join((*bundle.path, bundle.names[name]))
