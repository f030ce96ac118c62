"""The inference graph as a portable ONNX file: standard operators only.

A binary network's convolutions are products of small integers, and so exact in any order: the bits are the
uint8 2 and 0 about the zero point 1, the weights the int8 +1 and -1, and a 3x3 convolution is a MatMulInteger
of each pixel's nine neighbours laid side by side. Channels come last, so that a neighbour is copied whole. In
ONNX Runtime this takes half the time of float convolutions and a quarter of their space (docs/notes/exports.md).

A network with float activations or weights, or any at wish, keeps channels first and one Conv a unit.
"""

import numpy as np
from onnx import TensorProto

from edgebnn.graph import InferenceGraph, Unit

from . import float_units
from .builder import INPUT, OPSET, OUTPUT, Builder, add_stem, assemble, stem_output_name, unit_output_name

__all__ = ["INPUT", "OPSET", "OUTPUT", "convert_to_onnx", "stem_output_name", "unit_output_name"]

PLUS, MINUS, ZERO = (np.array(value, np.uint8) for value in (2, 0, 1))
"""The activations +1, -1, and the 0 of padding."""


def convert_to_onnx(graph: InferenceGraph, *, floats: bool = False, int8_head: bool = False) -> bytes:
    """A serialised ONNX model: `image` float32 (batch, channels, height, width) -> `logits` (batch, outputs).

    Args:
        graph: the network.
        floats: whether the convolutions of a binary network are float ones too: four times as large and half
            as fast in ONNX Runtime, for runtimes without MatMulInteger.
        int8_head: whether the linear layers' weights are kept as int8, a scale an output.
    """
    if floats or not graph.binary:
        return assemble(graph, float_units.body, channels_last=False, int8_head=int8_head)
    return assemble(graph, _body, channels_last=True, int8_head=int8_head)


def _body(builder: Builder, graph: InferenceGraph) -> str:
    x = add_stem(builder, graph.stem, channels_last=True)
    side = graph.info.resolution // graph.stem.reduction
    for number, unit in enumerate(graph.units):
        x = _unit(builder, unit, unit_output_name(number), x, side)
        side //= unit.stride
    return x


def _unit(builder: Builder, unit: Unit, name: str, x: str, side: int) -> str:
    outputs = len(unit.scale)
    columns = _columns(builder, unit, name, _bits(builder, unit, name, x), side)
    # (outputs, inputs, row, column) -> (row, column and input, outputs), as the columns lie.
    weight = builder.constant(f"{name}.weight", unit.weight.transpose(2, 3, 1, 0).reshape(-1, outputs))
    zero = builder.constant("bits.zero", ZERO)
    counted = builder.add("MatMulInteger", [columns, weight, zero], f"{name}.counted")
    acc = builder.add("Cast", [counted], f"{name}.acc", to=TensorProto.FLOAT)
    scaled = builder.add("Mul", [acc, builder.constant(f"{name}.scale", unit.scale)], f"{name}.scaled")
    # A slope of 1 throughout is Bi-Real-Net's: it has no PReLU.
    linear, alone = bool((unit.slope == 1).all()), unit.shortcut == "none"
    z_name = name if linear else f"{name}.z"
    bias = builder.constant(f"{name}.bias", unit.bias)
    z = builder.add("Add", [scaled, bias], z_name if alone else f"{name}.biased")
    if not alone:
        z = builder.add("Add", [z, shortcut(builder, unit, name, x, side)], z_name)
    return z if linear else prelu(builder, unit, name, z)


def _bits(builder: Builder, unit: Unit, name: str, x: str) -> str:
    threshold = builder.constant(f"{name}.threshold", unit.threshold)
    at_least = builder.add("GreaterOrEqual", [x, threshold], f"{name}.at_least")
    values = [builder.constant("bits.plus", PLUS), builder.constant("bits.minus", MINUS)]
    return builder.add("Where", [at_least, *values], f"{name}.bits")


def _columns(builder: Builder, unit: Unit, name: str, bits: str, side: int) -> str:
    """(batch, side, side, inputs) -> (batch, side / stride, side / stride, kernel * kernel * inputs).

    First the neighbours in a row are laid side by side, then the rows: so most of what is copied is contiguous.
    """
    kernel, stride = unit.weight.shape[2], unit.stride
    if kernel > 1:
        border = builder.integers(0, 1, 1, 0, 0, 1, 1, 0)
        fill = builder.constant("bits.zero", ZERO) if unit.padding == "zero" else builder.constant("bits.plus", PLUS)
        bits = builder.add("Pad", [bits, border, fill], f"{name}.padded", mode="constant")
    elif stride == 1:
        return bits
    reach = side - stride + 1
    for axis, letter in ((2, "column"), (1, "row")):
        parts = [
            _slice(builder, bits, f"{name}.{letter}_{start}", axis, start, start + reach, stride)
            for start in range(kernel)
        ]
        bits = builder.add("Concat", parts, f"{name}.{letter}s", axis=3)
    return bits


def shortcut(builder: Builder, unit: Unit, name: str, x: str, side: int) -> str:
    """What a unit adds to its convolution of x (batch, side, side, inputs)."""
    if unit.shortcut == "repeat":
        return builder.add("Concat", [x, x], f"{name}.repeated", axis=3)
    if unit.shortcut == "identity":
        return x
    # Added in the reference's order. AveragePool wants channels first, and adds in an order of its version's.
    total = ""
    for row in range(2):
        rows = _slice(builder, x, f"{name}.pool_{row}", 1, row, side, 2)
        for column in range(2):
            part = _slice(builder, rows, f"{name}.pool_{row}{column}", 2, column, side, 2)
            total = builder.add("Add", [total, part], f"{name}.sum_{row}{column}") if total else part
    pooled = builder.add("Mul", [total, builder.constant("quarter", np.array(0.25, np.float32))], f"{name}.pooled")
    if unit.downsample is None:
        return pooled
    return builder.add("MatMul", [pooled, builder.constant(f"{name}.downsample", unit.downsample.T)], f"{name}.down")


def prelu(builder: Builder, unit: Unit, name: str, z: str) -> str:
    """PReLU without PRelu, which takes ONNX Runtime eight times as long: slope * z >= z for z < 0 and slope <= 1."""
    slope = builder.constant(f"{name}.slope", unit.slope)
    if (unit.slope <= 1).all():
        return builder.add("Max", [z, builder.add("Mul", [z, slope], f"{name}.sloped")], name)
    zero = builder.constant("zero", np.array(0, np.float32))
    negative = builder.add("Mul", [builder.add("Min", [z, zero], f"{name}.negative"), slope], f"{name}.sloped")
    return builder.add("Add", [builder.add("Relu", [z], f"{name}.positive"), negative], name)


def _slice(builder: Builder, x: str, output: str, axis: int, start: int, end: int, step: int) -> str:
    return builder.add("Slice", [x, *map(builder.integers, (start, end, axis, step))], output)
