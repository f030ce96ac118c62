"""torchvision's small networks as TFLite: traced by torch.fx, written again in TensorFlow, channels last.

BatchNorms are folded into the convolutions first. Only what these networks are made of is known here.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.fx.experimental.optimization import fuse

from edgebnn.errors import UserError
from edgebnn.graph import ModelInfo
from edgebnn.graph.info import METADATA_KEY
from edgebnn.optional import TENSORFLOW_PACKAGE, require

from ..tflite import file as tflite_file
from ..tflite.file import quietly
from ..tflite.graph import load_triton

LOWEST = -3.4e38
"""Padding for a maximum."""


def convert_module_to_tflite(model: nn.Module, name: str, resolution: int) -> bytes:
    """`model`, in eval mode, as TFLite: float32 image (1, resolution, resolution, 3) -> logits.

    Raises:
        UserError: it holds a layer that is not known here, or TensorFlow is not installed.
    """
    require("a TFLite baseline", TENSORFLOW_PACKAGE)
    graph = fuse(fx.symbolic_trace(model))
    load_triton()
    with quietly():
        import tensorflow as tf

        image = tf.TensorSpec((1, resolution, resolution, 3), tf.float32, name="image")
        network = tf.function(
            lambda image: {"logits": _run(tf, graph, image)}, input_signature=[image], autograph=False
        )
        converter = tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()])
        data = converter.convert()
    return tflite_file.add_metadata(data, METADATA_KEY, ModelInfo(name=name, resolution=resolution).to_json())


def _run(tf: Any, graph: Any, image: Any) -> Any:
    """What the traced network, a GraphModule, gives, as TensorFlow's operations on (1, height, width, channels)."""
    values: dict[fx.Node, Any] = {}
    modules = dict(graph.named_modules())
    functions: dict[Any, Callable[..., Any]] = {
        operator.add: tf.add,
        torch.add: tf.add,
        operator.mul: tf.multiply,
        torch.mul: tf.multiply,
        torch.flatten: lambda x, start: tf.reshape(x, (1, -1)),
        nn.functional.adaptive_avg_pool2d: lambda x, size: _average(tf, x),
    }
    for node in graph.graph.nodes:
        given = [values[each] if isinstance(each, fx.Node) else each for each in node.args]
        if node.op == "placeholder":
            values[node] = image
        elif node.op == "call_module":
            values[node] = _layer(tf, modules[str(node.target)], given[0])
        elif node.op == "call_function" and node.target in functions:
            values[node] = functions[node.target](*given)
        elif node.op == "output":
            return given[0]
        else:
            raise UserError(f"a baseline holds {node.op} {node.target}, which is not written as TFLite; report this")
    raise UserError("a baseline gives nothing; report this")


def _layer(tf: Any, layer: nn.Module, x: Any) -> Any:
    if isinstance(layer, nn.Conv2d):
        return _convolution(tf, layer, x)
    if isinstance(layer, nn.Linear):
        return tf.matmul(x, layer.weight.detach().numpy().T) + layer.bias.detach().numpy()
    if isinstance(layer, nn.MaxPool2d):
        assert isinstance(layer.padding, int)
        edge = layer.padding
        x = tf.pad(x, [[0, 0], [edge, edge], [edge, edge], [0, 0]], constant_values=LOWEST)
        return tf.nn.max_pool2d(x, layer.kernel_size, layer.stride, "VALID")
    if isinstance(layer, nn.ReLU6):
        return tf.nn.relu6(x)
    if isinstance(layer, nn.ReLU):
        return tf.nn.relu(x)
    if isinstance(layer, nn.Hardswish):
        # As TensorFlow's converter knows it for one operator.
        return x * tf.nn.relu6(x + 3.0) * (1 / 6)
    if isinstance(layer, nn.Hardsigmoid):
        return tf.nn.relu6(x + 3.0) * (1 / 6)
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        return _average(tf, x)
    if isinstance(layer, (nn.Dropout, nn.Identity)):
        return x
    raise UserError(f"a baseline holds {type(layer).__name__}, which is not written as TFLite; report this")


def _average(tf: Any, x: Any) -> Any:
    return tf.reduce_mean(x, [1, 2], keepdims=True)


def _convolution(tf: Any, layer: nn.Conv2d, x: Any) -> Any:
    weight = layer.weight.detach().numpy()
    edge, stride, size = (int(each[0]) for each in (layer.padding, layer.stride, layer.kernel_size))
    padding = "VALID"
    if stride == 1 and edge == size // 2:
        padding = "SAME"
    elif edge:
        # SAME of a stride of 2 pads the bottom and the right alone.
        x = tf.pad(x, [[0, 0], [edge, edge], [edge, edge], [0, 0]])
    if layer.groups == 1:
        y = tf.nn.conv2d(x, weight.transpose(2, 3, 1, 0), stride, padding)
    else:
        # Depthwise, (channels, 1, height, width): these networks have no other groups.
        y = tf.nn.depthwise_conv2d(x, weight.transpose(2, 3, 0, 1), (1, stride, stride, 1), padding)
    return y if layer.bias is None else y + layer.bias.detach().numpy()
