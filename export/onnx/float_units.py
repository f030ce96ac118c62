"""Writes units of any precision as float ONNX operators, with one Conv per unit and channels first.

Bits are the floats +1 and -1. Their accumulators are exact in float32, because they are whole numbers below 2**24.
"""

import numpy as np

from edgebnn.graph import InferenceGraph, Unit

from .builder import Builder, add_stem, unit_output_name


def add_float_body(builder: Builder, graph: InferenceGraph) -> str:
    """Adds the stem and all units, and returns the name of the last output."""
    x = add_stem(builder, graph.stem, channels_last=False)
    for number, unit in enumerate(graph.units):
        x = _unit(builder, unit, unit_output_name(number), x)
    return x


def _unit(builder: Builder, unit: Unit, name: str, x: str) -> str:
    seen = _bits(builder, unit, name, x)
    pads = unit.border
    if pads and unit.padding == "one":
        inputs = [seen, builder.integers(0, 0, 1, 1, 0, 0, 1, 1), builder.constant("plus", np.array(1, np.float32))]
        seen = builder.add("Pad", inputs, f"{name}.padded", mode="constant")
        pads = 0
    acc = builder.add(
        "Conv",
        [seen, builder.constant(f"{name}.weight", unit.weight.astype(np.float32))],
        f"{name}.acc",
        kernel_shape=list(unit.weight.shape[2:]),
        strides=[unit.stride] * 2,
        pads=[pads] * 4,
    )
    # The constant is the first operand. If it were the second, ONNX Runtime would merge the Mul into the weights. Sums
    # of rounded scales are no whole numbers, so the accumulators would no longer be exact.
    scaled = builder.add("Mul", [_channels(builder, f"{name}.scale", unit.scale), acc], f"{name}.scaled")
    z = builder.add("Add", [scaled, _channels(builder, f"{name}.bias", unit.bias)], f"{name}.biased")
    if unit.shortcut != "none":
        z = builder.add("Add", [z, _shortcut(builder, unit, name, x)], f"{name}.z")
    return builder.add("PRelu", [z, builder.constant(f"{name}.slope", unit.slope[:, None, None])], name)


def _channels(builder: Builder, name: str, value: np.ndarray) -> str:
    """Adds a constant with one value per channel that broadcasts over NCHW. Returns its name."""
    return builder.constant(name, value[None, :, None, None])


def _bits(builder: Builder, unit: Unit, name: str, x: str) -> str:
    threshold = _channels(builder, f"{name}.threshold", unit.threshold)
    if not unit.binary_input:
        return builder.add("Sub", [x, threshold], f"{name}.shifted")
    plus = builder.constant("plus", np.array(1, np.float32))
    minus = builder.constant("minus", np.array(-1, np.float32))
    at_least = builder.add("GreaterOrEqual", [x, threshold], f"{name}.at_least")
    return builder.add("Where", [at_least, plus, minus], f"{name}.bits")


def _shortcut(builder: Builder, unit: Unit, name: str, x: str) -> str:
    if unit.shortcut in ("pool", "downsample"):
        pooled = builder.add("AveragePool", [x], f"{name}.pooled", kernel_shape=[2, 2], strides=[2, 2])
        if unit.downsample is None:
            return pooled
        weight = builder.constant(f"{name}.downsample", unit.downsample[:, :, None, None])
        return builder.add("Conv", [pooled, weight], f"{name}.downsampled", kernel_shape=[1, 1])
    if unit.shortcut == "repeat":
        return builder.add("Concat", [x, x], f"{name}.repeated", axis=1)
    return x
