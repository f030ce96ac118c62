"""What every ONNX file of an inference graph shares: names, the stem, the head, the metadata.

The units lie between, as standard operators (`export.onnx.portable`) or as one operator each (`export.onnx.packed`).
They read and write maps with channels first, as the image has them, or last: then one Transpose follows a stem of
standard operators.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from edgebnn import __version__
from edgebnn.graph import Head, InferenceGraph, Linear, Stem
from edgebnn.graph.info import METADATA_KEY

OPSET = 17
IR_VERSION = 8
INPUT = "image"
OUTPUT = "logits"


class Builder:
    """Nodes and initializers in the order they are made."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}
        self.shapes: list[ValueInfoProto] = []

    def add(
        self, operator: str, inputs: list[str], *outputs: str, name: str = "", domain: str = "", **attributes: Any
    ) -> str:
        """Adds a node, named as its first output unless a name is given. Gives that output, "" if it is left out."""
        self.nodes.append(helper.make_node(operator, inputs, outputs, name or outputs[0], domain=domain, **attributes))
        return outputs[0]

    def constant(self, name: str, value: np.ndarray) -> str:
        """A constant; one that several parts share is kept once, under one name."""
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def shape(self, name: str, *sizes: int) -> None:
        """States that `name` is float32 (batch, *sizes), where a runtime cannot infer it."""
        self.shapes.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *sizes]))

    def integers(self, *values: int) -> str:
        """A constant of sizes, axes or positions, named by its values."""
        return self.constant(f"int64.{'_'.join(map(str, values))}", np.array(values, np.int64))


def stem_output_name() -> str:
    """Name of the tensor the first unit reads."""
    return "stem"


def unit_output_name(number: int) -> str:
    """Name of the tensor unit `number` gives."""
    return f"unit_{number:02d}"


def assemble(
    graph: InferenceGraph,
    body: Callable[[Builder, InferenceGraph], str],
    *,
    channels_last: bool,
    int8_head: bool,
    domains: Iterable[tuple[str, int]] = (),
) -> bytes:
    """A serialised ONNX model: `image` float32 (batch, channels, height, width) -> `logits` (batch, outputs).

    Args:
        graph: the network.
        body: adds the nodes of the stem (`add_stem`) and of all units to a builder; gives the name of the last
            one's output.
        channels_last: whether the units' maps are (batch, height, width, channels).
        int8_head: whether the linear layers' weights are kept as int8 (`quantise`).
        domains: operator domains besides ONNX's own, and their versions.
    """
    builder = Builder()
    x = body(builder, graph)
    if channels_last:
        side = graph.info.resolution // graph.stem.reduction // int(np.prod([unit.stride for unit in graph.units]))
        features = _pool_channels_last(builder, x, side, len(graph.head.offset))
    else:
        features = builder.add("Flatten", [builder.add("GlobalAveragePool", [x], "head.pooled")], "head.flat", axis=1)
    _head(builder, graph.head, features, int8_head)

    side = graph.info.resolution
    image = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", graph.stem.weight.shape[1], side, side])
    logits = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", graph.outputs])
    initializers = list(builder.initializers.values())
    model = helper.make_model(
        helper.make_graph(builder.nodes, graph.info.name, [image], [logits], initializers, value_info=builder.shapes),
        opset_imports=[helper.make_opsetid("", OPSET), *(helper.make_opsetid(*entry) for entry in domains)],
        ir_version=IR_VERSION,
        producer_name="edgebnn",
        producer_version=__version__,
    )
    helper.set_model_props(model, {METADATA_KEY: graph.info.to_json()})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def quantise(layer: Linear) -> tuple[np.ndarray, np.ndarray]:
    """A linear layer's weight as int8 (outputs, inputs) and a scale an output (outputs,), symmetric.

    The weight is int8 * scale, the largest of an output +127 or -127 times its scale: no weight is off by more
    than half a scale, and a few roundings of a float32.
    """
    largest = np.abs(layer.weight).max(axis=1)
    # Weights that are all 0, or so small that their scale would be 0, stay 0 at any scale.
    scale = (largest / np.float32(127)).astype(np.float32)
    scale[scale < np.finfo(np.float32).tiny] = 1
    return np.clip(np.rint(layer.weight / scale[:, None]), -127, 127).astype(np.int8), scale


def with_int8_weights(head: Head) -> Head:
    """The head that a file with int8 weights holds: each weight rounded to what its int8 stands for."""
    layers = []
    for layer in head.layers:
        weight, scale = quantise(layer)
        layers.append(replace(layer, weight=weight.astype(np.float32) * scale[:, None]))
    return replace(head, layers=tuple(layers))


def add_stem(builder: Builder, part: Stem, *, channels_last: bool) -> str:
    """Adds the stem in standard operators; the name of its output."""
    name = stem_output_name()
    constants = [builder.constant("stem.weight", part.weight), builder.constant("stem.bias", part.bias)]
    sizes = {"kernel_shape": list(part.weight.shape[2:]), "strides": [part.stride] * 2, "pads": [part.border] * 4}
    steps: list[tuple[str, list[str], dict[str, Any]]] = [("Conv", constants, sizes)]
    if part.pool:
        steps.append(("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}))
    if channels_last:
        # ONNX Runtime merges the Transpose with the reordering that its own Conv needs anyway.
        steps.append(("Transpose", [], {"perm": [0, 2, 3, 1]}))
    x = INPUT
    for number, (operator, further, attributes) in enumerate(steps):
        output = name if number + 1 == len(steps) else f"{name}.{operator.lower()}"
        x = builder.add(operator, [x, *further], output, **attributes)
    return x


def _pool_channels_last(builder: Builder, x: str, side: int, channels: int) -> str:
    """Global average pool of (batch, side, side, channels), as the product with a row of 1 / side**2.

    ReduceMean over two axes takes ONNX Runtime nine times as long, and rounds more (docs/notes/exports.md).
    """
    pixels = builder.add("Reshape", [x, builder.integers(0, side**2, channels)], "head.pixels")
    share = builder.constant("head.share", np.full((1, side**2), 1 / side**2, np.float32))
    return builder.add("Flatten", [builder.add("MatMul", [share, pixels], "head.pooled")], "head.flat", axis=1)


def _head(builder: Builder, part: Head, features: str, int8: bool) -> None:
    steps: list[tuple[str, list[str], dict[str, Any]]] = []
    if part.offset.any() or not part.layers:
        steps.append(("Add", [builder.constant("head.offset", part.offset[None])], {}))
    for number, layer in enumerate(part.layers):
        name = f"head.{number}.weight"
        weight = _int8_weight(builder, layer, name) if int8 else builder.constant(name, layer.weight)
        steps.append(("Gemm", [weight, builder.constant(f"head.{number}.bias", layer.bias)], {"transB": 1}))
        if layer.relu:
            steps.append(("Relu", [], {}))
    for number, (operator, inputs, attributes) in enumerate(steps):
        output = OUTPUT if number + 1 == len(steps) else f"head.step_{number}"
        features = builder.add(operator, [features, *inputs], output, **attributes)


def _int8_weight(builder: Builder, layer: Linear, name: str) -> str:
    """Name of the float weights made of int8 ones.

    Cast and Mul of constants are worked out once, when the file is loaded; a DequantizeLinear would be run for
    every image. Integers for the product itself (DynamicQuantizeLinear, MatMulInteger) would save 0.1 ms more,
    and round the features by the largest of the whole batch: an answer would depend on the images beside it.
    """
    weight, scale = quantise(layer)
    floats = builder.add("Cast", [builder.constant(f"{name}.int8", weight)], f"{name}.float", to=TensorProto.FLOAT)
    return builder.add("Mul", [floats, builder.constant(f"{name}.scale", scale[:, None])], name)
