"""Converts torchvision's small networks to TFLite.

torch.fx traces the network and folds its BatchNorms into the convolutions. Then each operation is written in
TensorFlow, with channels last. Only the layers of these networks are supported.
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
from ..tflite.file import load_triton, quietly

LOWEST = -3.4e38
"""The padding of a max pool: lower than any value."""


def convert_module_to_tflite(model: nn.Module, name: str, resolution: int) -> bytes:
    """Returns a network in eval mode as a TFLite file: float32 image (1, resolution, resolution, 3) -> logits.

    Args:
        model: the network.
        name: its name in the file's metadata.
        resolution: side of the image in pixels.

    Raises:
        UserError: the network has an unsupported layer, or TensorFlow is not installed.
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
    """Returns the output of a traced network (a GraphModule) in TensorFlow, for image (1, height, width, channels)."""
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
        inputs = [values[each] if isinstance(each, fx.Node) else each for each in node.args]
        if node.op == "placeholder":
            values[node] = image
        elif node.op == "call_module":
            values[node] = _layer(tf, modules[str(node.target)], inputs[0])
        elif node.op == "call_function" and node.target in functions:
            values[node] = functions[node.target](*inputs)
        elif node.op == "output":
            return inputs[0]
        else:
            raise UserError(
                f"a baseline contains {node.op} {node.target}, which cannot be written as TFLite; report this"
            )
    raise UserError("a baseline has no output; report this")


def _layer(tf: Any, layer: nn.Module, x: Any) -> Any:
    if isinstance(layer, nn.Conv2d):
        return _convolution(tf, layer, x)
    if isinstance(layer, nn.Linear):
        return tf.matmul(x, layer.weight.detach().numpy().T) + layer.bias.detach().numpy()
    if isinstance(layer, nn.MaxPool2d):
        assert isinstance(layer.padding, int)
        pad = layer.padding
        x = tf.pad(x, [[0, 0], [pad, pad], [pad, pad], [0, 0]], constant_values=LOWEST)
        return tf.nn.max_pool2d(x, layer.kernel_size, layer.stride, "VALID")
    if isinstance(layer, nn.ReLU6):
        return tf.nn.relu6(x)
    if isinstance(layer, nn.ReLU):
        return tf.nn.relu(x)
    if isinstance(layer, nn.Hardswish):
        # TensorFlow's converter recognises this form as one operator.
        return x * tf.nn.relu6(x + 3.0) * (1 / 6)
    if isinstance(layer, nn.Hardsigmoid):
        return tf.nn.relu6(x + 3.0) * (1 / 6)
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        return _average(tf, x)
    if isinstance(layer, (nn.Dropout, nn.Identity)):
        return x
    raise UserError(f"a baseline contains {type(layer).__name__}, which cannot be written as TFLite; report this")


def _average(tf: Any, x: Any) -> Any:
    return tf.reduce_mean(x, [1, 2], keepdims=True)


def _convolution(tf: Any, layer: nn.Conv2d, x: Any) -> Any:
    weight = layer.weight.detach().numpy()
    pad, stride, size = (int(each[0]) for each in (layer.padding, layer.stride, layer.kernel_size))
    padding = "VALID"
    if stride == 1 and pad == size // 2:
        padding = "SAME"
    elif pad:
        # With stride 2, SAME pads only the bottom and the right.
        x = tf.pad(x, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    if layer.groups == 1:
        y = tf.nn.conv2d(x, weight.transpose(2, 3, 1, 0), stride, padding)
    else:
        # Depthwise, weights (channels, 1, height, width). These networks have no other groups.
        y = tf.nn.depthwise_conv2d(x, weight.transpose(2, 3, 0, 1), (1, stride, stride, 1), padding)
    return y if layer.bias is None else y + layer.bias.detach().numpy()
