"""Real-valued ResNet-18 and ResNet-50 as published, translated to the names of `edgebnn.nn.ResNet`.

    torchvision   a classifier `fc`; also MoCo v1's files and MoCo's linear evaluations
    moco          MoCo v2 (Chen et al., 2020): `fc.0`, ReLU, `fc.2`; the key encoder and the queue beside it
    swav          SwAV (Caron et al., NeurIPS 2020): `projection_head` of a linear layer, BatchNorm, ReLU and
                  a linear layer, then L2 normalisation; `prototypes` after it. Any width: RN50-w2, w4, w5

The blocks are torchvision's in all three.
"""

from torch import Tensor

from edgebnn.errors import UserError
from edgebnn.graph.shapes import RESNET_CHANNELS
from edgebnn.layouts_source import Published, Source
from edgebnn.nn import ResNetConfig
from edgebnn.nn.resnet import BLOCKS, ResNetArch

_NOT_OURS = [("prototypes.", "scores of SwAV's prototypes, which follow the network's output")]


def read(source: Source) -> Published:
    """The network in `source`. Raises `UserError` as `edgebnn.layouts.read` does."""
    arch = _find_arch(source)
    layout, names = _find_head(source)
    config = ResNetConfig(
        arch=arch,
        width=source.peek("conv1.weight").shape[0] / RESNET_CHANNELS[0],
        head=tuple(len(source.peek(f"{old}.weight")) for old, _ in names),
        swav_head=layout == "swav",
    )
    state = {"conv1.weight": source.take("conv1.weight")} | source.norm("bn1", "bn1")
    for stage, count in enumerate(BLOCKS[arch], start=1):
        for block in range(count):
            state |= _block(source, f"layer{stage}.{block}")
    for old, new in names:
        state |= source.linear(new, old)
    if layout == "swav":
        state |= source.norm("head.1", "projection_head.1")
    return Published(config, state, layout, source.rest(_NOT_OURS), tuple(source.assumed))


def _find_arch(source: Source) -> ResNetArch:
    counts = []
    for stage in range(1, 5):
        count = 0
        while f"layer{stage}.{count}.conv1.weight" in source:
            count += 1
        counts.append(count)
    if "layer1.0.conv3.weight" in source and tuple(counts) == BLOCKS["resnet-50"]:
        return "resnet-50"
    if "layer1.0.conv3.weight" not in source and tuple(counts) == BLOCKS["resnet-18"]:
        return "resnet-18"
    raise UserError(f"{source.what} holds a ResNet of {counts} blocks; give a ResNet-18 or a ResNet-50, of any width")


def _find_head(source: Source) -> tuple[str, list[tuple[str, str]]]:
    """The layout, and the linear layers' names: theirs and ours."""
    if "projection_head.0.weight" in source:
        return "swav", [("projection_head.0", "head.0"), ("projection_head.3", "head.3")]
    if "fc.0.weight" in source:
        return "moco", [("fc.0", "head.0"), ("fc.2", "head.2")]
    return "torchvision", [("fc", "head.0")] if "fc.weight" in source else []


def _block(source: Source, name: str) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    number = 1
    while f"{name}.conv{number}.weight" in source:
        state[f"{name}.conv{number}.weight"] = source.take(f"{name}.conv{number}.weight")
        state |= source.norm(f"{name}.bn{number}", f"{name}.bn{number}")
        number += 1
    if f"{name}.downsample.0.weight" in source:
        state[f"{name}.downsample.0.weight"] = source.take(f"{name}.downsample.0.weight")
        state |= source.norm(f"{name}.downsample.1", f"{name}.downsample.1")
    return state
