"""Writes the inference graph as a TFLite file for the Larq Compute Engine (LCE).

Two faults of LCE 0.16 must be avoided (docs/reference/lce.md):

- Its converter turns the one-pixel padding of a 3x3 stride-2 convolution into SAME padding, which pads only bottom and
  right. Therefore the image is rotated by 180 degrees (`export.tflite.graph`).
- Its kernels compute zero padding wrongly on maps of 1x1 and 2x2. There a 3x3 convolution is written as an equal dense
  binary layer.

A unit becomes five operators: ADD of -threshold, LceQuantize, LceBconv2d, ADD of the shortcut, PRELU. The first unit
needs no ADD of -threshold, because `export.fold` subtracts that threshold in the stem's bias. docs/notes/exports.md
lists other forms that were tried.

The batch is 1, because LCE's converter sets a free batch to 1. Maps are NHWC.
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from edgebnn.errors import check
from edgebnn.graph import InferenceGraph, Unit
from edgebnn.graph.info import METADATA_KEY
from edgebnn.optional import LCE_PACKAGE, TENSORFLOW_PACKAGE, require

from . import file as tflite_file
from .file import UNIT_SCOPE, quietly
from .graph import floats, load_triton, pad_ones, rotated, saved_model, second_pixels

BINARY_CONVOLUTION = "LceBconv2d"
UNIT_KINDS = {BINARY_CONVOLUTION, "LceQuantize", "ADD", "PRELU"}
SHORTCUT_AND_SHAPE_KINDS = {"AVERAGE_POOL_2D", "CONCATENATION", "RESHAPE", "STRIDED_SLICE"}

SMALLEST_CORRECTED_SIDE = 3
"""LCE computes zero padding of a 3x3 convolution correctly from this height and width on."""


def convert_to_lce(graph: InferenceGraph) -> bytes:
    """Returns an LCE TFLite file: float32 image (1, resolution, resolution, channels) -> logits (1, outputs).

    The metadata entry "edgebnn" holds `graph.info` as JSON.

    Raises:
        UserError: a unit is not binary, LCE's converter did not write it as a binary convolution, or LCE or TensorFlow
            is not installed.
    """
    for number, unit in enumerate(graph.units):
        check(unit.binary, f"unit {number} has float {unit.floats}; LCE runs only binary units; train stage 2 first")
    data = tflite_file.add_metadata(_flatbuffer(graph), METADATA_KEY, graph.info.to_json())
    downsampling = [number for number, unit in enumerate(graph.units) if unit.downsample is not None]
    check_operators(data, len(graph.units), downsampling)
    return data


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
    operators = tflite_file.read_operators(data)
    for number in range(units):
        scope = f"{UNIT_SCOPE}{number:02d}"
        kinds = [operator.kind for operator in operators if operator.scope == scope]
        expected = UNIT_KINDS | SHORTCUT_AND_SHAPE_KINDS | ({"CONV_2D"} if number in downsampling else set())
        foreign = sorted(set(kinds) - expected)
        check(
            kinds.count(BINARY_CONVOLUTION) == 1 and not foreign,
            f"{scope} fell back to {', '.join(foreign) or 'no binary convolution'} in LCE's converter; "
            "install larq-compute-engine 0.16, or report the network",
        )
    floats = sum(operator.kind == "CONV_2D" for operator in operators)
    wanted = 1 + len(downsampling)
    check(floats == wanted, f"LCE's converter wrote {floats} float convolutions, not {wanted}; report the network")


def open_interpreter(data: bytes) -> Callable[[np.ndarray], tuple[list[np.ndarray], np.ndarray]]:
    """Opens a file in LCE's interpreter so that the output of each part can be read.

    LCE's x86 kernels are slow: a ReActNet-A at 224x224 takes up to half a second per image.

    Args:
        data: a TFLite file of `export`.

    Returns:
        A function of normalised float32 images (N, channels, H, W). It returns the stem's output and every unit's
        output, each (N, channels, H, W) and not rotated, and the logits (N, outputs).

    Raises:
        UserError: LCE or TensorFlow is not installed, or the data is no such file.
    """
    require("verifying a .tflite file", LCE_PACKAGE, TENSORFLOW_PACKAGE)
    load_triton()
    with quietly():
        from larq_compute_engine.tflite.python.interpreter import Interpreter
    interpreter = Interpreter(tflite_file.expose_units(data))

    def trace(images: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        logits, *outputs = interpreter.predict(images.transpose(0, 2, 3, 1))
        return [np.ascontiguousarray(output[:, ::-1, ::-1].transpose(0, 3, 1, 2)) for output in outputs], logits

    return trace


def _flatbuffer(graph: InferenceGraph) -> bytes:
    require("the LCE export", LCE_PACKAGE, TENSORFLOW_PACKAGE)
    load_triton()
    with quietly():
        import tensorflow as tf
        from larq_compute_engine import convert_saved_model

        with saved_model(tf, graph, _convolution) as folder:
            return bytes(convert_saved_model(Path(folder)))


def _convolution(tf: Any, part: Unit, x: Any, plus_zero: bool) -> Any:
    """Writes the operations that LCE's converter merges into an LceQuantize and an LceBconv2d."""
    kernel, threshold, scale, bias = rotated(part.weight), floats(part.threshold), part.scale, part.bias
    stride, side, outputs = part.stride, x.shape[1], len(scale)
    out_side = side // stride
    if part.border and part.padding == "zero" and side < SMALLEST_CORRECTED_SIDE:
        kernel, stride = _dense(kernel, side, stride), 1
        x = tf.reshape(x, (1, 1, 1, -1))
        threshold = np.tile(threshold, side**2)
        scale, bias = np.tile(scale, out_side**2), np.tile(bias, out_side**2)
    elif part.border == 0 and stride == 2:
        x, stride = second_pixels(x), 1
    if threshold.any() or not plus_zero:
        # TFLite's kernels for ADD are faster than those for SUB (docs/notes/exports.md).
        x = x + -_never_zero(threshold)
    bits, padding = tf.where(x >= 0, 1.0, -1.0), "SAME"
    if part.border and part.padding == "one":
        # LCE's converter recognises this as SAME padding with ones, because it is where SAME would put it.
        bits, padding = pad_ones(tf, bits, stride), "VALID"
    out = tf.nn.conv2d(bits, kernel, stride, padding) * floats(scale) + floats(bias)
    return tf.reshape(out, (1, out_side, out_side, outputs))


def _dense(kernel: np.ndarray, side: int, stride: int) -> np.ndarray:
    """Returns the 1x1 kernel that equals a 3x3 kernel with SAME padding on a map of 1x1 or 2x2.

    Its shape is (1, 1, side * side * inputs, out * out * outputs). On so small a map every output pixel sees every
    input pixel, so the dense kernel has no zeros. Bits could not represent zeros.
    """
    out = side // stride
    before = 1 if stride == 1 else 0
    tap = np.arange(side)[:, None] - stride * np.arange(out) + before
    dense = kernel[tap[:, None, :, None], tap[None, :, None, :]]  # row, column, out row, out column, input, output
    inputs, outputs = kernel.shape[2:]
    return dense.transpose(0, 1, 4, 2, 3, 5).reshape(1, 1, side**2 * inputs, out**2 * outputs)


def _never_zero(threshold: np.ndarray) -> np.ndarray:
    """Returns the thresholds, with each 0 replaced by the next lower float.

    LCE tests the sign of `x - threshold`, and on ARM its sign bit. At threshold 0 the value x = -0.0 would become -1,
    although -0.0 >= 0.
    """
    return np.where(threshold == 0, np.nextafter(np.float32(0), np.float32(-1)), threshold)
