"""Reads published files of real-valued ResNet-18, 34 and 50 as `edgebnn.nn.ResNet`.

    torchvision   A classifier `fc` (`linear` in ResNets for CIFAR), or none. Files of timm, MoCo v1, Barlow Twins and
                  DINO, and MoCo's linear evaluations, have this layout too.
    moco          MoCo v2 (Chen et al., 2020): `fc.0`, ReLU, `fc.2`. The file also has the key encoder and the queue.
    swav          SwAV (Caron et al., NeurIPS 2020): `projection_head` is a linear layer, BatchNorm, ReLU and a linear
                  layer, followed by L2 normalisation. `prototypes` follow. Any width: RN50-w2, w4, w5.

All three layouts have torchvision's blocks. If a network has another head (SimSiam's or MoCo v3's `fc` with
BatchNorms), its backbone is read and its head is ignored.
"""

from typing import get_args

from torch import Tensor

from edgebnn.checkpoint.reasons import PROJECTOR
from edgebnn.checkpoint.source import Published, Source
from edgebnn.errors import UserError
from edgebnn.graph.shapes import RESNET_CHANNELS
from edgebnn.nn import ResNetConfig
from edgebnn.nn.resnet import BLOCKS, EXPANSION, ResNetArch

_STEMS = ("conv1.0.weight", "conv2.weight", "stem.0.weight")
"""The first or second convolution in the stems of ResNet-C and ResNet-D."""

_NOT_OURS = [
    ("prototypes.", "scores of SwAV's prototypes, which follow the network's output"),
    *((start, PROJECTOR) for start in ("fc.", "linear.", "projector.", "projection.", "projection_head.")),
    *((start, "a head beside the network") for start in ("head.", "classifier.")),
    ("predictor.", "a predictor, which only training uses"),
]


def read_resnet(source: Source) -> Published:
    """Reads the network. Raises `UserError` as `edgebnn.checkpoint.layouts.read_published` does."""
    arch = _find_arch(source)
    layout, names = _find_head(source)
    config = ResNetConfig(
        arch=arch,
        width=source.peek("conv1.weight").shape[0] / RESNET_CHANNELS[0],
        stem_stride=source.resnet_stem_stride(),
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
    deep = next((key for key in _STEMS if key in source), None)
    if deep:
        raise UserError(
            f"{source.what} contains {deep}: its stem is several 3x3 convolutions (ResNet-C, ResNet-D), which "
            "edgebnn's ResNets do not have; give a ResNet with a single first convolution"
        )
    counts = []
    for stage in range(1, 5):
        count = 0
        while f"layer{stage}.{count}.conv1.weight" in source:
            count += 1
        counts.append(count)
    expansion = 4 if "layer1.0.conv3.weight" in source else 1
    for arch in get_args(ResNetArch):
        if BLOCKS[arch] == tuple(counts) and EXPANSION[arch] == expansion:
            return arch
    blocks = "bottleneck blocks" if expansion == 4 else "blocks"
    raise UserError(
        f"{source.what} contains a ResNet of {counts} {blocks}; give a ResNet-18, ResNet-34 or ResNet-50, of any width"
    )


def _find_head(source: Source) -> tuple[str, list[tuple[str, str]]]:
    """Returns the layout, and the names of each linear layer: in the file and in edgebnn."""
    if _has_layers(source, "projection_head.", {"0", "1", "3"}):
        return "swav", [("projection_head.0", "head.0"), ("projection_head.3", "head.3")]
    if _has_layers(source, "fc.", {"0", "2"}):
        return "moco", [("fc.0", "head.0"), ("fc.2", "head.2")]
    classifier = next((name for name in ("fc", "linear") if {"weight", "bias"} & {*source.under(f"{name}.")}), None)
    return "torchvision", [(classifier, "head.0")] if classifier else []


def _has_layers(source: Source, name: str, numbers: set[str]) -> bool:
    """Returns whether a head has layer 0, and no layers beside the given numbers."""
    found = {part.split(".")[0] for part in source.under(name)}
    return "0" in found and found <= numbers


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
