"""Writes the inference graph in TensorFlow operations. Both TFLite exporters share this module.

For a stride-2 convolution, TensorFlow's SAME padding pads only the bottom and the right, while the network also pads
the top and the left. The output would be shifted by a pixel. Seen from the opposite corner, SAME pads what the network
needs. So the image is rotated by 180 degrees once, and every kernel is rotated with it. Global pooling removes the
rotation.

`tf` is the module `tensorflow`. Only the exporters import it, inside functions.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from edgebnn.files import temporary_folder
from edgebnn.graph import Head, InferenceGraph, Stem, Unit

from .file import STEM_SCOPE, UNIT_SCOPE

Convolution = Callable[[Any, Unit, Any, bool], Any]
"""A function (tf, unit, x, plus_zero) -> acc * scale + bias.

x is the rotated map (1, H, W, inputs), and the result is (1, H / stride, W / stride, outputs). `plus_zero` tells that
no value of x is -0.0. After a PReLU a value can be -0.0.
"""


def load_triton() -> None:
    """Loads triton before TensorFlow. Both bring an LLVM, and in the other order the process crashes.

    torchvision would load triton later.
    """
    with suppress(ImportError):
        import triton  # noqa: F401


@contextmanager
def saved_model(tf: Any, graph: InferenceGraph, convolution: Convolution) -> Iterator[str]:
    """Yields a temporary folder with the graph as a SavedModel.

    The model takes a float32 image (1, resolution, resolution, channels) and returns `logits` (1, outputs).

    Args:
        tf: the module `tensorflow`.
        graph: the network.
        convolution: writes the convolution of a unit.
    """

    def network(image: Any) -> dict[str, Any]:
        with tf.name_scope(STEM_SCOPE):
            x = _stem(tf, graph.stem, image)
        for number, unit in enumerate(graph.units):
            with tf.name_scope(f"{UNIT_SCOPE}{number:02d}"):
                z = convolution(tf, unit, x, number == 0)
                if unit.shortcut != "none":
                    z = z + _shortcut(tf, unit, x)
                # TFLite's converter merges this into one PRELU if the slope has rank 3. Bi-Real-Net (slope 1) has no
                # PReLU.
                linear = bool((unit.slope == 1).all())
                x = z if linear else tf.nn.relu(z) + -floats(unit.slope)[None, None] * tf.nn.relu(-z)
        return {"logits": _head(tf, graph.head, x)}

    side = graph.info.resolution
    image = tf.TensorSpec((1, side, side, graph.stem.weight.shape[1]), tf.float32, name="image")
    module = tf.Module()
    module.network = tf.function(network, input_signature=[image])
    with temporary_folder() as folder:
        tf.saved_model.save(module, str(folder), signatures=module.network)
        yield str(folder)


def second_pixels(x: Any) -> Any:
    """Returns every second pixel of the rotated map, which a 1x1 convolution of stride 2 reads."""
    return x[:, 1::2, 1::2]


def pad_ones(tf: Any, x: Any, stride: int) -> Any:
    """Pads x with +1 where SAME would pad it with 0 for a 3x3 kernel."""
    before = 1 if stride == 1 else 0
    return tf.pad(x, [[0, 0], [before, 1], [before, 1], [0, 0]], constant_values=1.0)


def floats(array: np.ndarray) -> np.ndarray:
    """Returns an array as float32 in C order."""
    return np.ascontiguousarray(array, np.float32)


def rotated(weight: np.ndarray) -> np.ndarray:
    """Returns a weight (outputs, inputs, H, W) as (H, W, inputs, outputs), rotated by 180 degrees."""
    return floats(weight[:, :, ::-1, ::-1].transpose(2, 3, 1, 0))


def _stem(tf: Any, part: Stem, image: Any) -> Any:
    turned = tf.reverse(image, [1, 2])
    # Adding +0.0 removes a bias of -0.0. An output of -0.0 would be -1 for LCE's ARM kernel, which reads the sign bit.
    x = tf.nn.conv2d(turned, rotated(part.weight), part.stride, "SAME") + (floats(part.bias) + np.float32(0))
    # On the rotated map SAME is also the pool's padding of one pixel. Its padding never is the largest value.
    return tf.nn.max_pool2d(x, 3, 2, "SAME") if part.pool else x


def _shortcut(tf: Any, part: Unit, x: Any) -> Any:
    if part.shortcut == "repeat":
        return tf.concat([x, x], axis=3)
    if part.shortcut in ("pool", "downsample"):
        pooled = tf.nn.avg_pool2d(x, 2, 2, "VALID")
        if part.downsample is None:
            return pooled
        return tf.nn.conv2d(pooled, floats(part.downsample.T)[None, None], 1, "VALID")
    return x


def _head(tf: Any, part: Head, x: Any) -> Any:
    features = tf.reduce_mean(x, [1, 2])
    if part.offset.any():
        features = features + floats(part.offset)
    for layer in part.layers:
        features = tf.matmul(features, floats(layer.weight.T)) + floats(layer.bias)
        features = tf.nn.relu(features) if layer.relu else features
    return features
