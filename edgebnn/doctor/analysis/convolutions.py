"""Lists the convolutions of a file: whether each is binary, its padding and its work."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgebnn.doctor.analysis.fallback import Candidate, fallback_reason, holds_bits, is_binary, operators_between
from edgebnn.doctor.analysis.levels import Levels, infer_levels
from edgebnn.doctor.analysis.padding import Padding, find_padding, first_integer, same_padding
from edgebnn.doctor.file_graph import BIPOLAR, OPERATORS, FileGraph, Node

BINARY = {"LceBconv2d", "BinaryUnit"}
CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D", "Conv", "FusedConv", "ImageConv", "ConvInteger", "QLinearConv"}
PRODUCTS = {"FULLY_CONNECTED", "BATCH_MATMUL", "Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "QGemm"}
INTEGERS = {"ConvInteger", "QLinearConv", "MatMulInteger", "QLinearMatMul", "QGemm"}
WEIGHT_INPUT = dict.fromkeys(("QLinearConv", "QLinearMatMul", "QGemm"), 3)
"""The index of the input that holds the weights, if it is not 1."""

SAME_MAGNITUDES = {"Identity", "Cast", "CAST", "DequantizeLinear", "DEQUANTIZE"}
"""Operators behind which weights have equal magnitudes if they had equal magnitudes before."""


@dataclass(frozen=True)
class Convolution:
    """One convolution or linear layer.

    Attributes:
        name: name of the operator.
        kind: "binary" (XNOR and popcount), "integer" (products of whole numbers), "float", or "linear" for a linear
            layer in floats.
        kernel, stride: in pixels. The kernel of a matrix product is 0.
        inputs, outputs: channels. For a grouped convolution, `inputs` are the input channels of one group.
        padding: the padding value and the padded sides, or "none".
        macs: multiply-accumulates for one image.
        weight: key of the constant that holds the weights.
        fell_back: why the convolution is not binary although its input is: a key of `findings.FELL_BACK`. "" if it is
            binary or is not expected to be.
        lopsided: whether it pads one side more than the other.
        side: height of its input, or None if it is not known.
        between: kinds of the operators between the quantiser and the convolution, joined by commas, if they are the
            reason why it is not binary.
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
    between: str = ""


def find_convolutions(graph: FileGraph) -> Iterator[Convolution]:
    """Yields all convolutions and linear layers of the file in the order in which they run."""
    levels = infer_levels(graph)
    for node in graph.nodes:
        if node.kind == "BinaryUnit":
            yield _packed_unit(graph, node)
        elif node.kind == "LceBconv2d":
            yield _lce_convolution(graph, node)
        elif node.kind in CONVOLUTIONS and _weight_key(node):
            yield _convolution(graph, node, levels)
        elif node.kind in PRODUCTS and _weight_key(node):
            yield from _product(graph, node, levels)


def _packed_unit(graph: FileGraph, node: Node) -> Convolution:
    """Returns the convolution of a `BinaryUnit`."""
    threshold, weight = graph.tensor(node, 2), _input_key(node, 1)
    outputs, kernel, *_ = _shape(graph, weight, 4)
    inputs = threshold.size if threshold else 0
    # Some units write a 2x2 average alone. It has a quarter of the pixels of the unit's output map.
    writes_output = any(node.outputs[:2])
    pixels = _pixels(graph, node) * (1 if writes_output else 4)
    return Convolution(
        name=node.name,
        kind="binary",
        kernel=kernel,
        stride=first_integer(node.attributes.get("stride"), 1),
        inputs=inputs,
        outputs=outputs,
        padding=str(node.attributes.get("padding")) if kernel > 1 else "none",
        macs=pixels * kernel**2 * inputs * outputs,
        weight=weight,
    )


def _lce_convolution(graph: FileGraph, node: Node) -> Convolution:
    """Returns the convolution of an `LceBconv2d`."""
    weight = _input_key(node, 1)
    outputs, kernel, width, words = _shape(graph, weight, 4)
    inputs = node.attributes.get("channels") or 32 * words
    side = _shape(graph, _input_key(node, 0), 4)[1] or None
    stride = node.attributes["stride"]
    before, after = same_padding(side, kernel, stride) if node.attributes["same"] else (0, 0)
    padding = Padding(stride, before, after, "one" if node.attributes["ones"] else "zero")
    return Convolution(
        name=node.name,
        kind="binary",
        kernel=kernel,
        stride=stride,
        inputs=inputs,
        outputs=outputs,
        padding=padding.to_text(),
        macs=_pixels(graph, node) * kernel * width * inputs * outputs,
        weight=weight,
        lopsided=before != after,
        side=side,
    )


def _convolution(graph: FileGraph, node: Node, levels: Levels) -> Convolution:
    """Returns a convolution that is not binary."""
    key = _weight_key(node)
    shape = _shape(graph, key, 4)
    outputs, kernel, width, inputs = shape if graph.channels_last else (shape[0], *shape[2:], shape[1])
    if node.kind == "DEPTHWISE_CONV_2D":
        outputs, inputs = shape[3], 1
    side = _shape(graph, node.inputs[0], 4)[1 if graph.channels_last else 2] or None
    padding = find_padding(graph, node, side=side, kernel=kernel)
    weight = _stored_values(graph, key)
    integer = _is_integer(graph, node, weight)
    reason = fallback_reason(graph, Candidate(node, key, weight, integer), levels)
    return Convolution(
        name=node.name,
        kind="integer" if integer else "float",
        kernel=kernel,
        stride=padding.stride,
        inputs=inputs,
        outputs=outputs,
        padding=padding.to_text(),
        macs=_pixels(graph, node) * kernel * width * inputs * outputs,
        weight=graph.source(key),
        fell_back=reason,
        between=", ".join(operators_between(graph, node)) if reason == "between" else "",
        lopsided=padding.before != padding.after,
        side=side,
    )


def _product(graph: FileGraph, node: Node, levels: Levels) -> Iterator[Convolution]:
    """Yields a matrix product with constant weights: a linear layer, or a convolution that is written as a product."""
    key, output = _weight_key(node), graph.output(node)
    shape = graph.tensors[key].shape
    if key not in graph.fixed or shape is None or len(shape) < 2:
        return
    transposed = node.kind == "FULLY_CONNECTED" or (node.kind in ("Gemm", "QGemm") and node.attributes.get("transB"))
    *_, inputs, outputs = shape[::-1] if transposed else shape
    integer = node.kind in INTEGERS
    is_map = output is not None and output.shape is not None and len(output.shape) == 4
    weight = _stored_values(graph, key)
    reads_bits = holds_bits(node.inputs[0], levels) and _weight_key(node) == _input_key(node, 1)
    rows = weight if weight is None or transposed else weight.T
    reason = ("int8" if integer else "dense") if reads_bits and rows is not None and is_binary(rows) else ""
    yield Convolution(
        name=node.name,
        kind="integer" if integer else "float" if is_map else "linear",
        kernel=1 if is_map and not integer else 0,
        stride=1,
        inputs=inputs,
        outputs=outputs,
        padding="none",
        macs=(output.size if output is not None else 0) * inputs,
        weight=graph.source(key),
        fell_back=reason,
    )


def _is_integer(graph: FileGraph, node: Node, weight: np.ndarray | None) -> bool:
    """Returns whether a convolution multiplies whole numbers. Int8 weights alone do not suffice.

    Some files store weights as int8 and convert them to floats before a float convolution.
    """
    if node.kind in INTEGERS:
        return True
    if weight is None or weight.dtype.kind not in "iu":
        return False
    if graph.channels_last:
        return _weight_key(node) not in graph.makers
    maker = graph.makers.get(node.inputs[0])
    return maker is not None and maker.kind == "DequantizeLinear"


def _stored_values(graph: FileGraph, key: str) -> np.ndarray | None:
    """Returns the values of the constant that holds the weights. A scale may be applied to them later."""
    source = graph.source(key, SAME_MAGNITUDES)
    tensor, maker = graph.tensors.get(source), graph.makers.get(source)
    if maker is not None and maker.kind == BIPOLAR and maker.inputs:
        latent = _stored_values(graph, maker.inputs[0])
        return None if latent is None else np.where(latent >= 0, np.float32(1), np.float32(-1))
    return None if tensor is None else tensor.data


def _pixels(graph: FileGraph, node: Node) -> int:
    """Returns the number of pixels of a node's output map."""
    output = graph.output(node)
    if output is None or output.shape is None or len(output.shape) != 4:
        return 0
    channels_last = graph.channels_last or node.kind in OPERATORS
    return output.shape[1] * output.shape[2] if channels_last else output.shape[2] * output.shape[3]


def _shape(graph: FileGraph, key: str, rank: int) -> tuple[int, ...]:
    """Returns the shape of a tensor, or zeros if it is not known or has another rank."""
    tensor = graph.tensors.get(key)
    shape = tensor.shape if tensor is not None else None
    return shape if shape is not None and len(shape) == rank else (0,) * rank


def _weight_key(node: Node) -> str:
    return _input_key(node, WEIGHT_INPUT.get(node.kind, 1))


def _input_key(node: Node, index: int) -> str:
    return node.inputs[index] if index < len(node.inputs) else ""
