"""The inference graph converted by LCE's and TensorFlow's own converters: the judge of the files that we write.

`export.tflite.lce` and `export.tflite.plain` write files directly. Here the same network is written in TensorFlow
operations and goes through the converter. `export verify --against-converter` and the tests compare the two files.
LCE's converter keeps what it does not recognise as float operators, silently, so the operations here are in the form
that it recognises: SAME padding on the rotated map (`export.tflite.network`), and a select for the bits.

`tf` is the module `tensorflow`, which is imported inside functions only.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgebnn.errors import check
from edgebnn.files import temporary_folder
from edgebnn.graph import Head, InferenceGraph, Stem, Unit
from edgebnn.graph.info import METADATA_KEY
from edgebnn.optional import LCE_PACKAGE, TENSORFLOW_PACKAGE, require

from .file import STEM_SCOPE, UNIT_SCOPE, add_metadata, load_triton, quietly, read_operators
from .lce import BINARY_CONVOLUTION, QUANTIZE, dense_kernel, never_zero, small_map
from .network import floats, padding_before, rotated

UNIT_KINDS = {BINARY_CONVOLUTION, QUANTIZE, "ADD", "PRELU"}
SHORTCUT_AND_SHAPE_KINDS = {"AVERAGE_POOL_2D", "CONCATENATION", "RESHAPE", "STRIDED_SLICE"}

Convolution = Callable[[Any, Unit, Any, bool], Any]
"""(tf, unit, x, plus_zero) -> acc * scale + bias, (1, H, W, outputs), of the rotated map x (1, H, W, inputs).

`plus_zero` says that no x is -0.0, as behind a PReLU it may be.
"""


def convert_with_lce(graph: InferenceGraph) -> bytes:
    """Returns the LCE file that LCE's converter makes of a binary network, with the metadata of our own files.

    Raises:
        UserError: larq-compute-engine or TensorFlow is not installed.
    """
    require("LCE's converter", LCE_PACKAGE, TENSORFLOW_PACKAGE)
    load_triton()
    with quietly():
        import tensorflow as tf
        from larq_compute_engine import convert_saved_model

        with saved_model(tf, graph, _binary_convolution) as folder:
            data = bytes(convert_saved_model(Path(folder)))
    return add_metadata(data, METADATA_KEY, graph.info.to_json())


def check_operators(data: bytes, units: int, downsampling: Collection[int] = ()) -> None:
    """Checks that each unit of a file is one binary convolution, and that no other convolution runs in floats.

    LCE's converter writes operators that it does not recognise as slow float operators, without a message. Only the
    stem and the shortcuts with a convolution may have float convolutions.

    Args:
        data: the file.
        units: number of units.
        downsampling: numbers of the units whose shortcut has a convolution.

    Raises:
        UserError: a unit fell back to floats, or the number of float convolutions is wrong.
    """
    found = read_operators(data)
    for number in range(units):
        scope = f"{UNIT_SCOPE}{number:02d}"
        kinds = [operator.kind for operator in found if operator.scope == scope]
        expected = UNIT_KINDS | SHORTCUT_AND_SHAPE_KINDS | ({"CONV_2D"} if number in downsampling else set())
        foreign = sorted(set(kinds) - expected)
        check(
            kinds.count(BINARY_CONVOLUTION) == 1 and not foreign,
            f"{scope} fell back to {', '.join(foreign) or 'no binary convolution'} in LCE's converter; "
            "install larq-compute-engine 0.16, or report the network",
        )
    convolutions = sum(operator.kind == "CONV_2D" for operator in found)
    wanted = 1 + len(downsampling)
    check(
        convolutions == wanted,
        f"LCE's converter wrote {convolutions} float convolutions, not {wanted}; report the network",
    )


def convert_with_tensorflow(graph: InferenceGraph) -> bytes:
    """Returns the plain TFLite file that TensorFlow's converter makes of a network, with the metadata of our own files.

    Raises:
        UserError: TensorFlow is not installed.
    """
    require("TensorFlow's converter", TENSORFLOW_PACKAGE)
    load_triton()
    with quietly():
        import tensorflow as tf

        with saved_model(tf, graph, _float_convolution) as folder:
            data = bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())
    return add_metadata(data, METADATA_KEY, graph.info.to_json())


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


def _second_pixels(x: Any) -> Any:
    """Of each two pixels of the rotated map the second: what a 1x1 convolution of stride 2 sees."""
    return x[:, 1::2, 1::2]


def _pad_ones(tf: Any, x: Any, stride: int) -> Any:
    """A border of +1 where SAME, for a 3x3 kernel, would put one of 0."""
    before = padding_before(stride)
    return tf.pad(x, [[0, 0], [before, 1], [before, 1], [0, 0]], constant_values=1.0)


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


def _binary_convolution(tf: Any, part: Unit, x: Any, plus_zero: bool) -> Any:
    """What LCE's converter makes one LceBconv2d of, after its LceQuantize."""
    kernel, threshold, scale, bias = rotated(part.weight), floats(part.threshold), part.scale, part.bias
    stride, side, outputs = part.stride, x.shape[1], len(scale)
    out_side = side // stride
    if small_map(part, side):
        kernel, stride = dense_kernel(kernel, side, stride), 1
        x = tf.reshape(x, (1, 1, 1, -1))
        threshold = np.tile(threshold, side**2)
        scale, bias = np.tile(scale, out_side**2), np.tile(bias, out_side**2)
    elif part.border == 0 and stride == 2:
        x, stride = _second_pixels(x), 1
    if threshold.any() or not plus_zero:
        # TFLite's kernels for ADD are faster than those for SUB (docs/notes/exports.md).
        x = x + -never_zero(threshold)
    bits, padding = tf.where(x >= 0, 1.0, -1.0), "SAME"
    if part.border and part.padding == "one":
        # Recognised as SAME padding with ones, since it lies where SAME would put it.
        bits, padding = _pad_ones(tf, bits, stride), "VALID"
    out = tf.nn.conv2d(bits, kernel, stride, padding) * floats(scale) + floats(bias)
    return tf.reshape(out, (1, out_side, out_side, outputs))


def _float_convolution(tf: Any, part: Unit, x: Any, plus_zero: bool) -> Any:
    if part.border == 0 and part.stride == 2:
        x = _second_pixels(x)
    seen = x + -floats(part.threshold) if part.threshold.any() else x
    if part.binary_input:
        # sign(0) is 0 and must be +1. A where() of the comparison is two operators as well, and takes six times as
        # long (docs/notes/exports.md).
        seen = tf.sign(tf.sign(seen) + 0.5)
    stride, padding = part.stride if part.border else 1, "SAME"
    if part.border and part.padding == "one":
        seen, padding = _pad_ones(tf, seen, stride), "VALID"
    kernel = rotated(part.weight) * floats(part.scale)
    return tf.nn.conv2d(seen, floats(kernel), stride, padding) + floats(part.bias)
