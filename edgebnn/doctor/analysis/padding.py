"""Finds the stride and the padding of convolutions. The padding can come from a pad operator before the convolution."""

from dataclasses import dataclass
from typing import Any

from edgebnn.doctor.analysis.levels import PADS, pad_value
from edgebnn.doctor.file_graph import FileGraph, Node


@dataclass(frozen=True)
class Padding:
    """The stride and the padding of a convolution.

    Attributes:
        stride: in pixels.
        before, after: pixels of padding above and below the map.
        value: the padding value: "zero", "one" or "other".
    """

    stride: int
    before: int
    after: int
    value: str = "zero"

    def to_text(self) -> str:
        """Returns a description of the padding, such as "zero, 0 above and 1 below"."""
        if not self.before and not self.after:
            return "none"
        return self.value if self.before == self.after else f"{self.value}, {self.before} above and {self.after} below"


def find_padding(graph: FileGraph, node: Node, *, side: int | None, kernel: int) -> Padding:
    """Returns the padding of a convolution.

    Args:
        graph: the file.
        node: the convolution.
        side: height of its input, or None if it is not known.
        kernel: height of its kernel.
    """
    own = _own_padding(graph, node, side=side, kernel=kernel)
    pad = graph.makers.get(node.inputs[0])
    pads = graph.constant(pad, 1) if pad is not None and pad.kind in PADS else None
    # Two numbers for each of the four axes.
    if pad is None or pads is None or pads.size != 8:
        return own
    row = pads.reshape(4, 2)[1] if graph.channels_last else pads.reshape(2, 4)[:, 2]
    value = {0.0: "zero", 1.0: "one"}.get(pad_value(graph, pad), "other")
    return Padding(own.stride, own.before + int(row[0]), own.after + int(row[1]), value)


def same_padding(side: int | None, kernel: int, stride: int) -> tuple[int, int]:
    """Returns the pixels that SAME pads above and below a map of height `side` (None if it is not known)."""
    if side is None or stride < 1:
        return (kernel - 1) // 2, kernel // 2
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


def first_integer(value: Any, default: int) -> int:
    """Returns an attribute that is a whole number, or the first number of a list of them, or the default."""
    value = value[0] if isinstance(value, list) and value else value
    return value if isinstance(value, int) else default


def _own_padding(graph: FileGraph, node: Node, *, side: int | None, kernel: int) -> Padding:
    """Returns the padding that is set in the convolution itself."""
    if graph.channels_last:
        stride = node.attributes.get("stride", 1)
        return (
            Padding(stride, *same_padding(side, kernel, stride))
            if node.attributes.get("same")
            else Padding(stride, 0, 0)
        )
    if node.kind == "ImageConv":
        return Padding(first_integer(node.attributes.get("stride"), 1), 1, 1)
    stride = first_integer(node.attributes.get("strides"), 1)
    automatic = node.attributes.get("auto_pad")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        before, after = same_padding(side, kernel, stride)
        return Padding(stride, before, after) if automatic == "SAME_UPPER" else Padding(stride, after, before)
    pads = node.attributes.get("pads")
    return Padding(stride, pads[0], pads[2]) if isinstance(pads, list) and len(pads) == 4 else Padding(stride, 0, 0)
