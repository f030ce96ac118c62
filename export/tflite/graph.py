"""The inference graph in TensorFlow operations: what the two TFLite exporters share.

TensorFlow's SAME padding pads a stride-2 convolution's bottom and right alone, where the network pads top and left
too: its output would be shifted by a pixel. Seen from the opposite corner, SAME pads what the network needs. So the
image is rotated by 180 degrees once, every kernel is rotated with it, and global pooling forgets the rotation.

`tf` is the module `tensorflow`, which only the exporters import, inside functions.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from edgebnn.files import temporary_folder
from edgebnn.graph import Head, InferenceGraph, Stem, Unit

from .file import STEM_SCOPE, UNIT_SCOPE

Convolution = Callable[[Any, Unit, Any, bool], Any]
"""(tf, unit, x, plus_zero) -> acc * scale + bias, (1, H, W, outputs), of the rotated map x (1, H, W, inputs).

`plus_zero` says that no x is -0.0, as behind a PReLU it may be.
"""


def load_triton() -> None:
    """Loads what torchvision would load after TensorFlow: both bring an LLVM, and in that order it ends the process."""
    with suppress(ImportError):
        import triton  # noqa: F401


@contextmanager
def saved_model(tf: Any, graph: InferenceGraph, convolution: Convolution) -> Iterator[str]:
    """A folder with the graph as a SavedModel, which is deleted afterwards.

    Takes a float32 image (1, resolution, resolution, channels) and gives `logits` (1, outputs).
    """

    def network(image: Any) -> dict[str, Any]:
        with tf.name_scope(STEM_SCOPE):
            x = _stem(tf, graph.stem, image)
        for number, unit in enumerate(graph.units):
            with tf.name_scope(f"{UNIT_SCOPE}{number:02d}"):
                z = convolution(tf, unit, x, number == 0)
                if unit.shortcut != "none":
                    z = z + _shortcut(tf, unit, x)
                # TFLite's converter makes one PRELU of this, given a slope of rank 3. Bi-Real-Net has slope 1: none.
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
    """Of each two pixels of the rotated map the second: what a 1x1 convolution of stride 2 sees."""
    return x[:, 1::2, 1::2]


def pad_ones(tf: Any, x: Any, stride: int) -> Any:
    """A border of +1 where SAME, for a 3x3 kernel, would put one of 0."""
    before = 1 if stride == 1 else 0
    return tf.pad(x, [[0, 0], [before, 1], [before, 1], [0, 0]], constant_values=1.0)


def floats(array: np.ndarray) -> np.ndarray:
    """float32 in C order."""
    return np.ascontiguousarray(array, np.float32)


def rotated(weight: np.ndarray) -> np.ndarray:
    """(outputs, inputs, H, W) -> (H, W, inputs, outputs), rotated by 180 degrees."""
    return floats(weight[:, :, ::-1, ::-1].transpose(2, 3, 1, 0))


def _stem(tf: Any, part: Stem, image: Any) -> Any:
    turned = tf.reverse(image, [1, 2])
    # A bias of -0.0 could give outputs of -0.0, whose sign bit LCE's ARM kernel would take for -1.
    x = tf.nn.conv2d(turned, rotated(part.weight), part.stride, "SAME") + (floats(part.bias) + np.float32(0))
    # On the rotated map SAME is the pool's border of 1 as well, and pads with nothing that could be the largest.
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
