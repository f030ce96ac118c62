"""Every convolution of a file: whether it is binary, its padding and its work."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgebnn.doctor.analysis import borders, fallback
from edgebnn.doctor.analysis.levels import Levels, of_network
from edgebnn.doctor.network import OPERATORS, Network, Node

BINARY = {"LceBconv2d", "BinaryUnit"}
CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D", "Conv", "FusedConv", "ImageConv", "ConvInteger", "QLinearConv"}
PRODUCTS = {"FULLY_CONNECTED", "BATCH_MATMUL", "Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "QGemm"}
INTEGERS = {"ConvInteger", "QLinearConv", "MatMulInteger", "QLinearMatMul", "QGemm"}
WEIGHT = dict.fromkeys(("QLinearConv", "QLinearMatMul", "QGemm"), 3)
"""Which input holds the weights, where it is not the second."""

SAME_VALUES = {"Identity", "Cast", "CAST", "DequantizeLinear", "DEQUANTIZE"}
"""Operators behind which weights are of one size where they were before."""


@dataclass(frozen=True)
class Convolution:
    """One convolution or linear layer.

    Attributes:
        name: of its output.
        kind: "binary" as XNOR and popcount, "integer" as whole numbers, "float"; "linear" for a linear layer in floats.
        kernel, stride: pixels; the kernel of a product of matrices is 0.
        inputs, outputs: channels; of grouped convolutions the inputs of one group.
        padding: "none", or what lies beyond the border and on which sides, in words.
        macs: multiply-accumulates for one image.
        weight: key of the constant that its weights are kept as.
        fell_back: why it is not binary though its input is: a key of `findings.FELL_BACK`; "" where it should not be.
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
        elif node.kind in CONVOLUTIONS and _weight(node):
            yield _convolution(network, node, levels)
        elif node.kind in PRODUCTS and _weight(node):
            yield from _product(network, node, levels)


def _unit(network: Network, node: Node) -> Convolution:
    threshold = network.tensor(node, 2)
    outputs, kernel, *_ = _shape(network, _key(node, 1), 4)
    inputs = threshold.size if threshold else 0
    padding = str(node.attributes.get("padding")) if kernel > 1 else "none"
    # Of a unit that gives averages alone, they are the map that is known: a quarter of its pixels.
    pixels = _pixels(network, node) * (1 if any(node.outputs[:2]) else 4)
    work = pixels * kernel**2 * inputs * outputs
    stride = borders.whole(node.attributes.get("stride"), 1)
    return Convolution(node.name, "binary", kernel, stride, inputs, outputs, padding, work, _key(node, 1))


def _lce(network: Network, node: Node) -> Convolution:
    outputs, kernel, width, words = _shape(network, _key(node, 1), 4)
    inputs = node.attributes.get("channels") or 32 * words
    side = _shape(network, _key(node, 0), 4)[1] or None
    stride = node.attributes["stride"]
    before, after = borders.same(side, kernel, stride) if node.attributes["same"] else (0, 0)
    return Convolution(
        node.name,
        "binary",
        kernel,
        stride,
        inputs,
        outputs,
        borders.words("one" if node.attributes["ones"] else "zero", before, after),
        _pixels(network, node) * kernel * width * inputs * outputs,
        _key(node, 1),
        lopsided=before != after,
        side=side,
    )


def _convolution(network: Network, node: Node, levels: Levels) -> Convolution:
    key = _weight(node)
    shape = _shape(network, key, 4)
    outputs, kernel, width, inputs = shape if network.channels_last else (shape[0], *shape[2:], shape[1])
    if node.kind == "DEPTHWISE_CONV_2D":
        outputs, inputs = shape[3], 1
    side = _shape(network, node.inputs[0], 4)[1 if network.channels_last else 2] or None
    border = borders.find(network, node, side, kernel)
    weight = _held(network, key)
    integer = _integer(network, node, weight)
    return Convolution(
        node.name,
        "integer" if integer else "float",
        kernel,
        border.stride,
        inputs,
        outputs,
        borders.words(border.fill, border.before, border.after),
        _pixels(network, node) * kernel * width * inputs * outputs,
        network.source(key),
        fell_back=fallback.why(network, node, key, weight, levels, integer=integer),
        lopsided=border.before != border.after,
        side=side,
    )


def _product(network: Network, node: Node, levels: Levels) -> Iterator[Convolution]:
    """A product with constant weights: a linear layer, or a convolution written as one."""
    key, made = _weight(node), network.output(node)
    shape = network.tensors[key].shape
    if key not in network.fixed or shape is None or len(shape) < 2:
        return
    transposed = node.kind == "FULLY_CONNECTED" or (node.kind in ("Gemm", "QGemm") and node.attributes.get("transB"))
    *_, inputs, outputs = shape[::-1] if transposed else shape
    of_map = made is not None and made.shape is not None and len(made.shape) == 4
    weight = _held(network, key)
    of_bits = node.kind == "MatMulInteger" and fallback.sees_bits(node.inputs[0], levels)
    yield Convolution(
        node.name,
        "integer" if node.kind in INTEGERS else "float" if of_map else "linear",
        1 if of_map and node.kind not in INTEGERS else 0,
        1,
        inputs,
        outputs,
        "none",
        (made.size if made is not None else 0) * inputs,
        network.source(key),
        fell_back="int8" if of_bits and weight is not None and fallback.binary(weight.T) else "",
    )


def _integer(network: Network, node: Node, weight: np.ndarray | None) -> bool:
    """Whether a convolution is computed with whole numbers; int8 weights alone are made floats again."""
    if node.kind in INTEGERS:
        return True
    if weight is None or weight.dtype.kind not in "iu":
        return False
    if network.channels_last:
        return _weight(node) not in network.makers
    maker = network.makers.get(node.inputs[0])
    return maker is not None and maker.kind == "DequantizeLinear"


def _held(network: Network, key: str) -> np.ndarray | None:
    """The values that weights are kept as, scaled or not."""
    tensor = network.tensors.get(network.source(key, SAME_VALUES))
    return None if tensor is None else tensor.data


def _pixels(network: Network, node: Node) -> int:
    """Pixels of a node's output map."""
    made = network.output(node)
    if made is None or made.shape is None or len(made.shape) != 4:
        return 0
    last = network.channels_last or node.kind in OPERATORS
    return made.shape[1] * made.shape[2] if last else made.shape[2] * made.shape[3]


def _shape(network: Network, key: str, rank: int) -> tuple[int, ...]:
    tensor = network.tensors.get(key)
    shape = tensor.shape if tensor is not None else None
    return shape if shape is not None and len(shape) == rank else (0,) * rank


def _weight(node: Node) -> str:
    return _key(node, WEIGHT.get(node.kind, 1))


def _key(node: Node, place: int) -> str:
    return node.inputs[place] if place < len(node.inputs) else ""
