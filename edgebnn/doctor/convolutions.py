"""Every convolution of a file: whether it is binary, its padding and work; and why one that could be binary is not."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgebnn.doctor.levels import PADS, fill, of_network
from edgebnn.doctor.network import Network, Node

BINARY = {"LceBconv2d", "BinaryUnit"}
FLOATS = {"CONV_2D", "DEPTHWISE_CONV_2D", "Conv"}
INTEGERS = {"MatMulInteger"}
LINEAR = {"FULLY_CONNECTED", "Gemm", "MatMul", "BATCH_MATMUL"}
Levels = dict[str, frozenset[float]]

FEWEST_WEIGHTS = 8
"""An output's weights of which fewer than these are alike in size may be so by chance."""


@dataclass(frozen=True)
class Convolution:
    """One convolution or linear layer.

    Attributes:
        name: of its output.
        kind: "binary" as XNOR and popcount, "integer" as whole numbers, "float"; "linear" for a linear layer.
        kernel, stride: pixels.
        inputs, outputs: channels.
        padding: "none", or what lies beyond the border and on which sides, in words.
        macs: multiply-accumulates for one image.
        weight: key of its weights in the network's tensors.
        fell_back: why it is not binary though its input or its weights are; "" where it should not be.
        lopsided: whether it pads one side more than the other.
        side: height of its input, None where that is unknown.
    """

    name: str
    kind: str
    kernel: int
    stride: int
    inputs: int
    outputs: int
    padding: str
    macs: int
    weight: str
    fell_back: str = ""
    lopsided: bool = False
    side: int | None = None


def find(network: Network) -> Iterator[Convolution]:
    """All convolutions and linear layers of the file in the order they run."""
    levels = of_network(network)
    for node in network.nodes:
        if node.kind == "BinaryUnit":
            yield _unit(network, node)
        elif node.kind == "LceBconv2d":
            yield _lce(network, node)
        elif node.kind in FLOATS and len(node.inputs) > 1:
            yield _float(network, node, levels)
        elif node.kind in INTEGERS | LINEAR and len(node.inputs) > 1:
            yield from _product(network, node)


def _unit(network: Network, node: Node) -> Convolution:
    threshold = network.tensor(node, 2)
    outputs, kernel, *_ = _shape(network, _key(node, 1), 4)
    inputs = threshold.size if threshold else 0
    padding = str(node.attributes.get("padding")) if kernel > 1 else "none"
    work = _pixels(network, node) * kernel**2 * inputs * outputs
    stride = _whole(node.attributes.get("stride"), 1)
    return Convolution(node.name, "binary", kernel, stride, inputs, outputs, padding, work, _key(node, 1))


def _lce(network: Network, node: Node) -> Convolution:
    shape = _shape(network, _key(node, 1), 4)
    outputs, kernel, width, words = shape
    inputs = node.attributes.get("channels") or 32 * words
    side = _side(network, _key(node, 0))
    stride, same = node.attributes["stride"], node.attributes["same"]
    before, after = _same(side, kernel, stride) if same else (0, 0)
    fills = "one" if node.attributes["ones"] else "zero"
    return Convolution(
        node.name,
        "binary",
        kernel,
        stride,
        inputs,
        outputs,
        _padding(fills, before, after),
        _pixels(network, node) * kernel * width * inputs * outputs,
        _key(node, 1),
        lopsided=before != after,
        side=side,
    )


def _float(network: Network, node: Node, levels: Levels) -> Convolution:
    key, channels_last = node.inputs[1], network.channels_last
    shape = _shape(network, key, 4)
    outputs, kernel, width, inputs = shape if channels_last else (shape[0], shape[2], shape[3], shape[1])
    if node.kind == "DEPTHWISE_CONV_2D":
        outputs, inputs = shape[3], 1
    side = _side(network, node.inputs[0]) if channels_last else _side_first(network, node.inputs[0])
    stride, before, after = _sizes(node, side, kernel)
    fills = "zero"
    pad = network.makers.get(node.inputs[0])
    if pad is not None and pad.kind in PADS:
        pads = network.constant(pad, 1)
        if pads is not None and pads.size == 8:
            row = pads.reshape(4, 2)[1] if channels_last else pads.reshape(2, 4)[:, 2]
            before, after = before + int(row[0]), after + int(row[1])
            fills = "one" if fill(network, pad) == 1 else "zero" if fill(network, pad) == 0 else "other"
    work = _pixels(network, node) * kernel * width * inputs * outputs
    return Convolution(
        node.name,
        "float",
        kernel,
        stride,
        inputs,
        outputs,
        _padding(fills, before, after),
        work,
        key,
        fell_back=_why_float(network, node, inputs, levels),
        lopsided=before != after,
        side=side,
    )


def _product(network: Network, node: Node) -> Iterator[Convolution]:
    """A product with constant weights: a linear layer, or a binary convolution as whole numbers."""
    tensor = network.tensor(node, 1)
    if tensor is None or not tensor.stored or tensor.shape is None or len(tensor.shape) < 2:
        return
    made = network.output(node)
    transposed = node.kind == "FULLY_CONNECTED" or (node.kind == "Gemm" and node.attributes.get("transB"))
    *_, inputs, outputs = tensor.shape if not transposed else tensor.shape[::-1]
    work = (made.size if made is not None else 0) * inputs
    kind = "integer" if node.kind in INTEGERS else "linear"
    yield Convolution(node.name, kind, 1, 1, inputs, outputs, "none", work, node.inputs[1])


def _why_float(network: Network, node: Node, inputs: int, levels: Levels) -> str:
    """Why a float convolution of bits or of binary weights is not binary: a key of `findings.FELL_BACK`, or ""."""
    given, data = node.inputs[0], network.constant(node, 1)
    of_bits = len(levels.get(given, frozenset()) - {0.0}) > 0
    if data is None:
        return "weights not constant" if of_bits or node.inputs[1] in levels else ""
    if not of_bits:
        return ""
    if node.kind == "DEPTHWISE_CONV_2D":
        return "channels"
    if not _binary(data):
        return "weights not binary"
    if network.format == "onnx":
        return "floats"
    pad = network.makers.get(given)
    pad = pad if pad is not None and pad.kind in PADS else None
    made = network.makers.get(pad.inputs[0]) if pad is not None and pad.inputs else network.makers.get(given)
    if made is not None and made.kind == "SIGN" and 0.0 in levels.get(made.outputs[0], ()):
        return "tf.sign"
    tensor = network.tensors.get(given)
    if tensor is not None and tensor.shape and tensor.shape[-1] != inputs:
        return "channels"
    if network.format != "lce":
        return "floats"
    if pad is not None:
        return "explicit zero pad" if fill(network, pad) == 0 else "explicit pad"
    if node.attributes.get("same") and data.ndim == 4 and data.shape[1] > 1:
        return "activation" if node.attributes.get("activation") else "explicit zero pad"
    return "pattern"


def _binary(weight: np.ndarray) -> bool:
    """Whether all weights of an output (first axis) are of one size and none is 0."""
    each = np.abs(weight.reshape(len(weight), -1)) if weight.size else weight
    if weight.size == 0 or each.shape[1] < FEWEST_WEIGHTS:
        return False
    return bool(each.min() > 0 and np.allclose(each, each[:, :1], rtol=1e-5, atol=0))


def _sizes(node: Node, side: int | None, kernel: int) -> tuple[int, int, int]:
    """Stride, and the pixels of border above and below."""
    if node.kind != "Conv":
        stride = node.attributes.get("stride", 1)
        return (stride, *_same(side, kernel, stride)) if node.attributes.get("same") else (stride, 0, 0)
    stride = _whole(node.attributes.get("strides"), 1)
    automatic = node.attributes.get("auto_pad")
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        before, after = _same(side, kernel, stride)
        return (stride, before, after) if automatic == "SAME_UPPER" else (stride, after, before)
    pads = node.attributes.get("pads")
    if isinstance(pads, list) and len(pads) == 4:
        return stride, pads[0], pads[2]
    return stride, 0, 0


def _same(side: int | None, kernel: int, stride: int) -> tuple[int, int]:
    """What SAME pads above and below a map of that side."""
    if side is None or stride < 1:
        return (kernel - 1) // 2, kernel // 2
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


def _padding(fills: str, before: int, after: int) -> str:
    if not before and not after:
        return "none"
    return fills if before == after else f"{fills}, {before} above and {after} below"


def _pixels(network: Network, node: Node) -> int:
    """Pixels of a node's output map."""
    made = network.output(node)
    if made is None or made.shape is None or len(made.shape) != 4:
        return 0
    last = network.channels_last or node.kind == "BinaryUnit"
    return made.shape[1] * made.shape[2] if last else made.shape[2] * made.shape[3]


def _shape(network: Network, key: str, rank: int) -> tuple[int, ...]:
    tensor = network.tensors.get(key)
    shape = tensor.shape if tensor is not None else None
    return shape if shape is not None and len(shape) == rank else (0,) * rank


def _side(network: Network, key: str) -> int | None:
    return _shape(network, key, 4)[1] or None


def _side_first(network: Network, key: str) -> int | None:
    return _shape(network, key, 4)[2] or None


def _key(node: Node, place: int) -> str:
    return node.inputs[place] if place < len(node.inputs) else ""


def _whole(value: Any, default: int) -> int:
    value = value[0] if isinstance(value, list) and value else value
    return value if isinstance(value, int) else default
