"""Writes the inference graph as a portable ONNX file with standard operators only.

A binary convolution becomes a MatMulInteger, which is exact in any order of summation:

- The bits are the uint8 values 2 and 0, with zero point 1.
- The weights are the int8 values +1 and -1.
- For a 3x3 convolution, the nine neighbours of each pixel are laid side by side.
- Channels come last, so that a neighbour is copied as one block.

In ONNX Runtime this takes half the time of float convolutions and a quarter of their space (docs/notes/exports.md).

A network with float activations or weights gets one float Conv per unit instead, with channels first. The option
`floats` does the same for a binary network.
"""

import numpy as np
from onnx import TensorProto

from edgebnn.graph import InferenceGraph, Unit

from . import float_units
from .builder import INPUT, OPSET, OUTPUT, Builder, add_stem, assemble, stem_output_name, unit_output_name

__all__ = ["INPUT", "OPSET", "OUTPUT", "convert_to_onnx", "stem_output_name", "unit_output_name"]

PLUS, MINUS, ZERO = (np.array(value, np.uint8) for value in (2, 0, 1))
"""The activations +1 and -1, and the padding 0, about the zero point 1."""


def convert_to_onnx(graph: InferenceGraph, *, floats: bool = False, int8_head: bool = False) -> bytes:
    """Returns a serialised ONNX model: `image` float32 (batch, channels, height, width) -> `logits` (batch, outputs).

    Args:
        graph: the network.
        floats: whether a binary network gets float convolutions too, for runtimes without MatMulInteger. In ONNX
            Runtime the file is four times as large and half as fast.
        int8_head: whether the weights of the linear layers are stored as int8, with one scale per output.
    """
    if floats or not graph.binary:
        return assemble(graph, float_units.add_float_body, channels_last=False, int8_head=int8_head)
    return assemble(graph, _body, channels_last=True, int8_head=int8_head)


def _body(builder: Builder, graph: InferenceGraph) -> str:
    x = add_stem(builder, graph.stem, channels_last=True)
    side = graph.info.resolution // graph.stem.reduction
    for number, unit in enumerate(graph.units):
        x = _unit(builder, unit, unit_output_name(number), x, side)
        side //= unit.stride
    return x


def _unit(builder: Builder, unit: Unit, name: str, x: str, side: int) -> str:
    """Adds a binary unit that reads x (batch, side, side, inputs), and returns the name of its output."""
    outputs = len(unit.scale)
    columns = _columns(builder, unit, name, _bits(builder, unit, name, x), side)
    # (outputs, inputs, row, column) -> (row * column * inputs, outputs), in the order of the columns.
    weight = builder.constant(f"{name}.weight", unit.weight.transpose(2, 3, 1, 0).reshape(-1, outputs))
    zero = builder.constant("bits.zero", ZERO)
    counted = builder.add("MatMulInteger", [columns, weight, zero], f"{name}.counted")
    acc = builder.add("Cast", [counted], f"{name}.acc", to=TensorProto.FLOAT)
    scaled = builder.add("Mul", [acc, builder.constant(f"{name}.scale", unit.scale)], f"{name}.scaled")
    # Bi-Real-Net has slope 1 everywhere, so it needs no PReLU.
    linear, alone = bool((unit.slope == 1).all()), unit.shortcut == "none"
    z_name = name if linear else f"{name}.z"
    bias = builder.constant(f"{name}.bias", unit.bias)
    z = builder.add("Add", [scaled, bias], z_name if alone else f"{name}.biased")
    if not alone:
        z = builder.add("Add", [z, add_shortcut(builder, unit, name, x, side)], z_name)
    return z if linear else add_prelu(builder, unit, name, z)


def _bits(builder: Builder, unit: Unit, name: str, x: str) -> str:
    threshold = builder.constant(f"{name}.threshold", unit.threshold)
    at_least = builder.add("GreaterOrEqual", [x, threshold], f"{name}.at_least")
    values = [builder.constant("bits.plus", PLUS), builder.constant("bits.minus", MINUS)]
    return builder.add("Where", [at_least, *values], f"{name}.bits")


def _columns(builder: Builder, unit: Unit, name: str, bits: str, side: int) -> str:
    """Adds im2col: (batch, side, side, inputs) -> (batch, side / stride, side / stride, kernel * kernel * inputs).

    The neighbours within a row are joined first, and then the rows. In this order most copies are contiguous.
    """
    kernel, stride = unit.weight.shape[2], unit.stride
    if kernel > 1:
        pads = builder.integers(0, 1, 1, 0, 0, 1, 1, 0)
        fill = builder.constant("bits.zero", ZERO) if unit.padding == "zero" else builder.constant("bits.plus", PLUS)
        bits = builder.add("Pad", [bits, pads, fill], f"{name}.padded", mode="constant")
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


def add_shortcut(builder: Builder, unit: Unit, name: str, x: str, side: int) -> str:
    """Adds the shortcut of a unit that reads x (batch, side, side, inputs), and returns the name of its output."""
    if unit.shortcut == "repeat":
        return builder.add("Concat", [x, x], f"{name}.repeated", axis=3)
    if unit.shortcut == "identity":
        return x
    # The sum has the reference's order. AveragePool needs channels first, and its order depends on its version.
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


def add_prelu(builder: Builder, unit: Unit, name: str, z: str) -> str:
    """Adds a PReLU without ONNX's PRelu, which takes ONNX Runtime eight times as long. Returns the output's name.

    For slope <= 1 it is max(z, slope * z), since slope * z >= z for z < 0.
    """
    slope = builder.constant(f"{name}.slope", unit.slope)
    if (unit.slope <= 1).all():
        return builder.add("Max", [z, builder.add("Mul", [z, slope], f"{name}.sloped")], name)
    zero = builder.constant("zero", np.array(0, np.float32))
    negative = builder.add("Mul", [builder.add("Min", [z, zero], f"{name}.negative"), slope], f"{name}.sloped")
    return builder.add("Add", [builder.add("Relu", [z], f"{name}.positive"), negative], name)


def _slice(builder: Builder, x: str, output: str, axis: int, start: int, end: int, step: int) -> str:
    return builder.add("Slice", [x, *map(builder.integers, (start, end, axis, step))], output)
