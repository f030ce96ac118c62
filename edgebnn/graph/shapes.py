"""Shapes of a binary network's units, without weights. Training, export and counting share them."""

from dataclasses import dataclass
from typing import Literal

from edgebnn.errors import UserError

Padding = Literal["zero", "one"]
Shortcut = Literal["identity", "pool", "repeat", "downsample", "none"]

REACTNET_A_CHANNELS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
"""Output channels of ReActNet-A's stem and of its 13 blocks (Liu et al., ECCV 2020, section 3.1)."""

RESNET_CHANNELS = (64, 64, 128, 256, 512)
"""Channels of a ResNet's stem and of its four stages (He et al., CVPR 2016, table 1), bottlenecks not widened."""

MAX_WIDTH = 64
MAX_RESOLUTION = 8192
"""Far above any real network or image. A damaged file must not make a program allocate terabytes."""


@dataclass(frozen=True)
class UnitShape:
    """Shape of one unit: a `kernel` x `kernel` convolution and its shortcut."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    shortcut: Shortcut


def scale_channels(channels: tuple[int, ...], width: float) -> tuple[int, ...]:
    """Returns `channels` times `width`. The first entry, the stem's, is the smallest.

    Raises:
        UserError: the stem would have no whole number of channels.
    """
    stem = width * channels[0]
    # A NaN fails every comparison.
    if not 1 <= stem <= MAX_WIDTH * channels[0] or stem != int(stem):
        raise UserError(
            f"width {width} gives the stem {stem:g} channels; "
            f"use a multiple of 1/{channels[0]} = {1 / channels[0]} up to {MAX_WIDTH}"
        )
    return tuple(int(count * width) for count in channels)


def reactnet_channels(width: float = 1.0) -> tuple[int, ...]:
    """Returns the channels of the stem and of each block of a ReActNet-A that is `width` times as wide."""
    return scale_channels(REACTNET_A_CHANNELS, width)


def reactnet_units(width: float = 1.0) -> tuple[UnitShape, ...]:
    """Returns the 26 units of ReActNet-A, two per block.

    Each block is a 3x3 unit that keeps its channels and a 1x1 unit that may double them. Where they double, the
    published network runs two 1x1 convolutions side by side. Here they are one unit with twice the outputs, whose
    shortcut repeats its input's channels. The resolution is halved wherever the channels double, except in the first
    block.
    """
    units = []
    channels = reactnet_channels(width)
    for block, (inputs, outputs) in enumerate(zip(channels, channels[1:])):
        stride = 2 if inputs != outputs and block > 0 else 1
        units.append(UnitShape(inputs, inputs, 3, stride, "pool" if stride == 2 else "identity"))
        units.append(UnitShape(inputs, outputs, 1, 1, "repeat" if inputs != outputs else "identity"))
    return tuple(units)


def resnet18_units(width: float = 1.0) -> tuple[UnitShape, ...]:
    """Returns the 16 units of Bi-Real-Net-18 and ReActNet-18: four per stage, each a 3x3 convolution.

    The first unit of each stage except the first stage halves the resolution and doubles the channels. Its shortcut
    is a 2x2 average pool, a real-valued 1x1 convolution and a BatchNorm.
    """
    units = []
    stem, *stages = scale_channels(RESNET_CHANNELS, width)
    inputs = stem
    for outputs in stages:
        if inputs == outputs:
            units.append(UnitShape(inputs, outputs, 3, 1, "identity"))
        else:
            units.append(UnitShape(inputs, outputs, 3, 2, "downsample"))
        units += [UnitShape(outputs, outputs, 3, 1, "identity")] * 3
        inputs = outputs
    return tuple(units)


def check_resolution(resolution: int, stem_stride: int, units: tuple[UnitShape, ...]) -> None:
    """Raises `UserError` unless every stride of the network divides its input evenly."""
    if resolution > MAX_RESOLUTION:
        raise UserError(f"resolution {resolution} is more than {MAX_RESOLUTION}; use a smaller one")
    factor = stem_stride
    for unit in units:
        factor *= unit.stride
    if resolution < factor or resolution % factor:
        low = max(factor, resolution // factor * factor)
        raise UserError(
            f"resolution {resolution} does not divide by the network's total stride {factor}; "
            f"use {low} or {low + factor}, or another multiple of {factor}"
        )
