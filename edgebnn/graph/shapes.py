"""Shapes of a binary network's units, without weights: what training, export and counting share."""

from dataclasses import dataclass
from typing import Literal

from edgebnn.errors import UserError

Padding = Literal["zero", "one"]
Shortcut = Literal["identity", "pool", "repeat"]

REACTNET_A_CHANNELS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
"""Output channels of ReActNet-A's stem and of its 13 blocks (Liu et al., ECCV 2020, section 3.1)."""

MAX_WIDTH = 64
MAX_RESOLUTION = 8192
"""Far above any network's and any image's: a damaged file must not make a program allocate terabytes."""


@dataclass(frozen=True)
class UnitShape:
    """Shape of one unit: a `kernel` x `kernel` convolution and its shortcut."""

    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    shortcut: Shortcut


def reactnet_channels(width: float = 1.0) -> tuple[int, ...]:
    """Channels of the stem and of each block of a ReActNet-A `width` times as wide.

    Raises:
        UserError: the stem would have no whole number of channels.
    """
    stem = width * REACTNET_A_CHANNELS[0]
    # A NaN fails every comparison.
    if not 1 <= stem <= MAX_WIDTH * REACTNET_A_CHANNELS[0] or stem != int(stem):
        raise UserError(
            f"width {width} gives the stem {stem:g} channels; use a multiple of 1/32 = 0.03125 up to {MAX_WIDTH}"
        )
    return tuple(int(channels * width) for channels in REACTNET_A_CHANNELS)


def reactnet_units(width: float = 1.0) -> tuple[UnitShape, ...]:
    """The 26 units of ReActNet-A, two a block.

    Each block is a 3x3 unit that keeps its channels and a 1x1 unit that may double them. Where
    they double, the published network runs two 1x1 convolutions side by side; that is one unit with
    twice the outputs, whose shortcut repeats its input's channels. The resolution is halved wherever
    the channels double, but for the first block.
    """
    units = []
    channels = reactnet_channels(width)
    for block, (inputs, outputs) in enumerate(zip(channels, channels[1:])):
        stride = 2 if inputs != outputs and block > 0 else 1
        units.append(UnitShape(inputs, inputs, 3, stride, "pool" if stride == 2 else "identity"))
        units.append(UnitShape(inputs, outputs, 1, 1, "repeat" if inputs != outputs else "identity"))
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
