"""The published checkpoint layouts: which one a file has, found by its keys.

    reactnet, s2-bnn, burn              ReActNet-A                      edgebnn.layouts_reactnet
    reactnet-18, birealnet-18           binary ResNet-18s               edgebnn.layouts_bireal
    torchvision, moco, swav             real-valued ResNet-18 and 50    edgebnn.layouts_resnet

Each is translated to the names of the networks in `edgebnn.nn`, under the wrappers seen in the wild
(`module.`, `encoder_q.`, `backbone.`).
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from edgebnn import layouts_bireal, layouts_reactnet, layouts_resnet
from edgebnn.errors import UserError
from edgebnn.layouts_source import NO_HINTS, Hints, Published, Source

_WRAPPERS = r"((?:module\.|encoder_q\.|backbone\.|model\.|online_net\.0\.)*)"

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
        UserError: the layout is unknown, or a key is missing, unexpected or of the wrong shape.
    """
    tensors = _state_dict(data, what)
    for key, reader in _READERS:
        found = [match[1] for match in (re.fullmatch(_WRAPPERS + key, name) for name in tensors) if match]
        if found:
            # BURN's pretraining file holds its backbone under two names; either will do.
            return reader(Source(tensors, min(found, key=lambda prefix: (len(prefix), prefix)), what, hints))
    example = next(iter(tensors), "no key at all")
    raise UserError(
        f"{what} is of an unknown layout (it holds {example}); known are edgebnn's .safetensors, S2-BNN, BURN, "
        "ReActNet and Bi-Real-Net files, and ResNet-18 and 50 of torchvision, MoCo and SwAV"
    )


def _state_dict(data: Any, what: str) -> dict[str, Tensor]:
    for key in ("state_dict", "model"):
        if isinstance(data, Mapping) and isinstance(data.get(key), Mapping):
            data = data[key]
    if not isinstance(data, Mapping) or not all(isinstance(value, Tensor) for value in data.values()):
        raise UserError(f"{what} holds no state dict of tensors; give the file that holds the weights")
    return {str(key): value for key, value in data.items()}
