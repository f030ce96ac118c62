"""Builds the parts that all ONNX files of an inference graph share: names, the stem, the head, the metadata.

The units between stem and head are standard operators (`export.onnx.portable`) or one operator each
(`export.onnx.packed`). Their maps have channels first, like the image, or channels last. For channels last, a Transpose
follows a stem of standard operators.
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
    """Collects the nodes and initializers of an ONNX graph in order."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}
        self.shapes: list[ValueInfoProto] = []

    def add(
        self, operator: str, inputs: list[str], *outputs: str, name: str = "", domain: str = "", **attributes: Any
    ) -> str:
        """Adds a node and returns its first output ("" if that is left out). The node is named after it by default."""
        self.nodes.append(helper.make_node(operator, inputs, outputs, name or outputs[0], domain=domain, **attributes))
        return outputs[0]

    def constant(self, name: str, value: np.ndarray) -> str:
        """Adds a constant and returns its name. A constant of the same name is stored only once."""
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def shape(self, name: str, *sizes: int) -> None:
        """States that a tensor is float32 (batch, *sizes), for runtimes that cannot infer it."""
        self.shapes.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *sizes]))

    def integers(self, *values: int) -> str:
        """Adds a constant of sizes, axes or positions and returns its name, which is made of the values."""
        return self.constant(f"int64.{'_'.join(map(str, values))}", np.array(values, np.int64))


def stem_output_name() -> str:
    """Returns the name of the tensor that the first unit reads."""
    return "stem"


def unit_output_name(number: int) -> str:
    """Returns the name of the output of unit `number`."""
    return f"unit_{number:02d}"


def assemble(
    graph: InferenceGraph,
    body: Callable[[Builder, InferenceGraph], str],
    *,
    channels_last: bool,
    int8_head: bool,
    domains: Iterable[tuple[str, int]] = (),
) -> bytes:
    """Returns a serialised ONNX model: `image` float32 (batch, channels, height, width) -> `logits` (batch, outputs).

    Args:
        graph: the network.
        body: adds the nodes of the stem (`add_stem`) and of all units to a builder, and returns the name of the last
            output.
        channels_last: whether the units' maps are (batch, height, width, channels).
        int8_head: whether the weights of the linear layers are stored as int8 (`quantise_weight`).
        domains: further operator domains, with their versions.
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


def quantise_weight(layer: Linear) -> tuple[np.ndarray, np.ndarray]:
    """Quantises the weight of a linear layer symmetrically: weight = int8 * scale.

    In each output the weight with the largest magnitude becomes +127 or -127. So a weight is off by at most half a
    scale and a few roundings of a float32.

    Returns:
        The weight as int8 (outputs, inputs), and the scale of each output (outputs,).
    """
    largest = np.abs(layer.weight).max(axis=1)
    # If all weights are 0, or so small that the scale would be 0, any scale will do.
    scale = (largest / np.float32(127)).astype(np.float32)
    scale[scale < np.finfo(np.float32).tiny] = 1
    return np.clip(np.rint(layer.weight / scale[:, None]), -127, 127).astype(np.int8), scale


def with_int8_weights(head: Head) -> Head:
    """Returns the head of a file with int8 weights: each weight is rounded to the value that its int8 represents."""
    layers = []
    for layer in head.layers:
        weight, scale = quantise_weight(layer)
        layers.append(replace(layer, weight=weight.astype(np.float32) * scale[:, None]))
    return replace(head, layers=tuple(layers))


def add_stem(builder: Builder, part: Stem, *, channels_last: bool) -> str:
    """Adds the stem as standard operators and returns the name of its output."""
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
    for number, (operator, constants, attributes) in enumerate(steps):
        output = name if number + 1 == len(steps) else f"{name}.{operator.lower()}"
        x = builder.add(operator, [x, *constants], output, **attributes)
    return x


def _pool_channels_last(builder: Builder, x: str, side: int, channels: int) -> str:
    """Adds the global average pool of (batch, side, side, channels), as a product with a row of 1 / side**2.

    In ONNX Runtime a ReduceMean over two axes takes nine times as long, and rounds more (docs/notes/exports.md).
    """
    pixels = builder.add("Reshape", [x, builder.integers(0, side**2, channels)], "head.pixels")
    share = builder.constant("head.share", np.full((1, side**2), 1 / side**2, np.float32))
    return builder.add("Flatten", [builder.add("MatMul", [share, pixels], "head.pooled")], "head.flat", axis=1)


def _head(builder: Builder, part: Head, features: str, int8: bool) -> None:
    """Adds the offset and the linear layers."""
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
    """Adds int8 weights and their conversion to floats, and returns the name of the floats.

    ONNX Runtime computes Cast and Mul of constants once, when it loads the file. It would run a DequantizeLinear for
    every image. An integer product (DynamicQuantizeLinear, MatMulInteger) would save 0.1 ms more, but it rounds the
    features by the largest feature of the batch. The result of an image would then depend on the other images.
    """
    weight, scale = quantise_weight(layer)
    floats = builder.add("Cast", [builder.constant(f"{name}.int8", weight)], f"{name}.float", to=TensorProto.FLOAT)
    return builder.add("Mul", [floats, builder.constant(f"{name}.scale", scale[:, None])], name)
