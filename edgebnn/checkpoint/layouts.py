"""Reads published checkpoints. The keys of a file show its layout:

    reactnet, s2-bnn, burn              ReActNet-A                        edgebnn.checkpoint.reactnet
    reactnet-18, birealnet-18           binary ResNet-18s                 edgebnn.checkpoint.bireal
    torchvision, moco, swav             real-valued ResNet-18, 34, 50     edgebnn.checkpoint.resnet

A layout's reader translates the names to those of the networks in `edgebnn.nn`. The network can be anywhere in the
file, under any keys (`state_dict`, `model_state_dict`, ...) and module names (`module.`, `encoder_q.`, ...).
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
    # ReActNet comes first: BURN's pretraining file contains a ResNet-50 too, but its network is the student.
    (r"feature\.0\.conv1\.weight", layouts_reactnet.read_reactnet),
    (r"layer1\.0\.binary_conv\.weights?", layouts_bireal.read_bireal),
    (r"layer1\.0\.conv1\.weight", layouts_resnet.read_resnet),
)
"""For each kind of layout: a key that its files have, and its reader."""


def read_published(data: Any, what: str, hints: Hints = NO_HINTS) -> Published:
    """Translates the content of a published file.

    Args:
        data: the result of `torch.load`.
        what: the name of the file in messages.
        hints: the user's hints about the file.

    Raises:
        UserError: the layout is unknown, a key is missing, unexpected or of the wrong shape, or the file contains
            several networks and does not show which one is meant.
    """
    refuse_last_ckpt(data, what)
    bundles = find_bundles(data)
    check(bundles, f"{what} contains no state dict of tensors; give the file with the weights")
    reader, places = _find_reader(bundles, what)
    place, assumed = choose_place(places, what, hints)
    bundle = place.bundle
    source = Source(
        bundle.tensors,
        place.prefix,
        what,
        hints=hints,
        others=describe_others(places, place),
        names=bundle.names,
    )
    source.assumed += assumed
    published = reader(source)
    heads = layouts_burn.find_heads(bundles) if published.layout == "burn" else {}
    ignored = published.ignored | _ignored_elsewhere(bundles, bundle)
    ignored |= {_listed(found, name, bundle): layouts_burn.WHY for found, name in heads.values()}
    tensors = {head: found.tensors[name] for head, (found, name) in heads.items()}
    return replace(published, ignored=ignored, heads=tensors)


def _find_reader(bundles: list[Bundle], what: str) -> tuple[Callable[[Source], Published], list[Place]]:
    """Returns the reader of the file's network, and the places of such networks in the file."""
    found = [(reader, find_places(bundles, key)) for key, reader in _READERS]
    # The trained network has priority over its teacher, even if the teacher is binary.
    for wanted in (lambda place: not place.aside and not place.unusual[0], lambda place: not place.aside, bool):
        for reader, places in found:
            if any(map(wanted, places)):
                return reader, places
    example = next(iter(bundles[0].names.values()))
    raise UserError(
        f"{what} is of an unknown layout (it contains {example}); known are edgebnn's .safetensors, S2-BNN, BURN, "
        "ReActNet and Bi-Real-Net files, and ResNet-18, 34 and 50 of torchvision and others with its names"
    )


def _ignored_elsewhere(bundles: Iterable[Bundle], chosen: Bundle) -> dict[str, str]:
    """Returns the keys of the file outside the chosen mapping, each with the reason why it is not read."""
    names = (_listed(bundle, name, chosen) for bundle in bundles if bundle is not chosen for name in bundle.tensors)
    return {name: explain(name) or "beside the network's weights" for name in names}


def _listed(bundle: Bundle, name: str, chosen: Bundle) -> str:
    """Returns a tensor's name in `ignored`. A mapping that does not lead to the chosen one counts as one key."""
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(bundle.path, chosen.path)))
    if bundle is chosen:
        return bundle.names[name]
    if shared < len(bundle.path):
        return ".".join(bundle.path[: shared + 1])
    return ".".join((*bundle.path, bundle.names[name]))
