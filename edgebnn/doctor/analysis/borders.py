"""Strides and padding of float and int8 convolutions, whether their own or of a pad operator before them."""

from dataclasses import dataclass
from typing import Any

from edgebnn.doctor.analysis.levels import PADS, fill
from edgebnn.doctor.network import Network, Node


@dataclass(frozen=True)
class Border:
    """A convolution's stride, the pixels of border above and below, and what is in them: "zero", "one", "other"."""

    stride: int
    before: int
    after: int
    fill: str


def find(network: Network, node: Node, side: int | None, kernel: int) -> Border:
    """Of a convolution on maps `side` pixels high."""
    stride, before, after = _own(network, node, side, kernel)
    pad = network.makers.get(node.inputs[0])
    pads = network.constant(pad, 1) if pad is not None and pad.kind in PADS else None
    if pad is None or pads is None or pads.size != 8:
        return Border(stride, before, after, "zero")
    row = pads.reshape(4, 2)[1] if network.channels_last else pads.reshape(2, 4)[:, 2]
    value = {0.0: "zero", 1.0: "one"}.get(fill(network, pad), "other")
    return Border(stride, before + int(row[0]), after + int(row[1]), value)


def same(side: int | None, kernel: int, stride: int) -> tuple[int, int]:
    """What SAME pads above and below a map of that side."""
    if side is None or stride < 1:
        return (kernel - 1) // 2, kernel // 2
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


def words(fills: str, before: int, after: int) -> str:
    """Padding in words."""
    if not before and not after:
        return "none"
    return fills if before == after else f"{fills}, {before} above and {after} below"


def whole(value: Any, default: int) -> int:
    """An attribute that is a whole number, or the first of several."""
    value = value[0] if isinstance(value, list) and value else value
    return value if isinstance(value, int) else default


def _own(network: Network, node: Node, side: int | None, kernel: int) -> tuple[int, int, int]:
    """Stride, and what the convolution itself puts above and below."""
    if network.channels_last:
        stride = node.attributes.get("stride", 1)
        return (stride, *same(side, kernel, stride)) if node.attributes.get("same") else (stride, 0, 0)
    if node.kind == "ImageConv":
        return whole(node.attributes.get("stride"), 1), 1, 1
    stride = whole(node.attributes.get("strides"), 1)
    automatic = node.attributes.get("auto_pad")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        before, after = same(side, kernel, stride)
        return (stride, before, after) if automatic == "SAME_UPPER" else (stride, after, before)
    pads = node.attributes.get("pads")
    return (stride, pads[0], pads[2]) if isinstance(pads, list) and len(pads) == 4 else (stride, 0, 0)
