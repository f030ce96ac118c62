"""The inference graph as a portable ONNX file: standard operators only.

Bits are the floats +1 and -1, and a binary convolution is a Conv of them: any ONNX runtime runs the
file, at the speed of floats. The accumulators are exact in float32 (whole numbers below 2**24).
"""

from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgebnn import __version__
from edgebnn.graph import Head, InferenceGraph, Unit
from edgebnn.graph.info import METADATA_KEY

OPSET = 17
IR_VERSION = 8
INPUT = "image"
OUTPUT = "logits"


def convert(graph: InferenceGraph) -> bytes:
    """A serialised ONNX model: `image` float32 (batch, channels, height, width) -> `logits` (batch, outputs)."""
    builder = _Builder()
    stem = graph.stem
    x = builder.add(
        "Conv",
        [INPUT, builder.constant("stem.weight", stem.weight), builder.constant("stem.bias", stem.bias)],
        stem_output_name(),
        kernel_shape=[3, 3],
        strides=[stem.stride] * 2,
        pads=[1] * 4,
    )
    for number, unit in enumerate(graph.units):
        x = _unit(builder, unit, unit_output_name(number), x)
    _head(builder, graph.head, x)

    side = graph.info.resolution
    image = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", stem.weight.shape[1], side, side])
    logits = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", graph.outputs])
    model = helper.make_model(
        helper.make_graph(builder.nodes, graph.info.name, [image], [logits], builder.initializers),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="edgebnn",
        producer_version=__version__,
    )
    helper.set_model_props(model, {METADATA_KEY: graph.info.to_json()})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def stem_output_name() -> str:
    """Name of the tensor the first unit reads."""
    return "stem"


def unit_output_name(number: int) -> str:
    """Name of the tensor unit `number` gives."""
    return f"unit_{number:02d}"


class _Builder:
    """Nodes and initializers in the order they are made."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def constant(self, name: str, value: np.ndarray) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def channels(self, name: str, value: np.ndarray) -> str:
        """A constant with one value a channel, to be broadcast over NCHW."""
        return self.constant(name, value[None, :, None, None])


def _unit(builder: _Builder, unit: Unit, name: str, x: str) -> str:
    seen = _bits(builder, unit, name, x)
    border = unit.border
    if border and unit.padding == "one":
        builder.constant(f"{name}.pads", np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
        builder.constant(f"{name}.one", np.array(1, np.float32))
        seen = builder.add("Pad", [seen, f"{name}.pads", f"{name}.one"], f"{name}.padded", mode="constant")
        border = 0
    acc = builder.add(
        "Conv",
        [seen, builder.constant(f"{name}.weight", unit.weight.astype(np.float32))],
        f"{name}.acc",
        kernel_shape=list(unit.weight.shape[2:]),
        strides=[unit.stride] * 2,
        pads=[border] * 4,
    )
    # The constant comes first: ONNX Runtime merges a Mul by a second, constant operand into the weights,
    # and sums of rounded scales are no longer whole numbers. Apart, accumulators stay exact at no cost.
    scaled = builder.add("Mul", [builder.channels(f"{name}.scale", unit.scale), acc], f"{name}.scaled")
    biased = builder.add("Add", [scaled, builder.channels(f"{name}.bias", unit.bias)], f"{name}.biased")
    z = builder.add("Add", [biased, _shortcut(builder, unit, name, x)], f"{name}.z")
    return builder.add("PRelu", [z, builder.constant(f"{name}.slope", unit.slope[:, None, None])], name)


def _bits(builder: _Builder, unit: Unit, name: str, x: str) -> str:
    threshold = builder.channels(f"{name}.threshold", unit.threshold)
    if not unit.binary_input:
        return builder.add("Sub", [x, threshold], f"{name}.shifted")
    builder.constant(f"{name}.plus", np.array(1, np.float32))
    builder.constant(f"{name}.minus", np.array(-1, np.float32))
    at_least = builder.add("GreaterOrEqual", [x, threshold], f"{name}.at_least")
    return builder.add("Where", [at_least, f"{name}.plus", f"{name}.minus"], f"{name}.bits")


def _shortcut(builder: _Builder, unit: Unit, name: str, x: str) -> str:
    if unit.shortcut == "pool":
        return builder.add("AveragePool", [x], f"{name}.pooled", kernel_shape=[2, 2], strides=[2, 2])
    if unit.shortcut == "repeat":
        return builder.add("Concat", [x, x], f"{name}.repeated", axis=1)
    return x


def _head(builder: _Builder, head: Head, x: str) -> None:
    steps: list[tuple[str, list[str], dict[str, Any]]] = [
        ("GlobalAveragePool", [], {}),
        ("Flatten", [], {"axis": 1}),
    ]
    if head.offset.any() or not head.layers:
        steps.append(("Add", [builder.constant("head.offset", head.offset[None])], {}))
    for number, layer in enumerate(head.layers):
        weight = builder.constant(f"head.{number}.weight", layer.weight)
        bias = builder.constant(f"head.{number}.bias", layer.bias)
        steps.append(("Gemm", [weight, bias], {"transB": 1}))
        if layer.relu:
            steps.append(("Relu", [], {}))
    for number, (operator, inputs, attributes) in enumerate(steps):
        output = OUTPUT if number + 1 == len(steps) else f"head.step_{number}"
        x = builder.add(operator, [x, *inputs], output, **attributes)
