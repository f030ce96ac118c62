"""The inference graph as a Larq Compute Engine TFLite file.

Two turns make the file exact, both forced by what LCE's converter does (v0.16):

- It turns a 3x3 stride-2 convolution's border of 1 into SAME padding, which pads bottom and right alone. So the image
  is rotated by 180 degrees (`export.tflite.graph`).
- Its kernels correct zero padding one border at a time, and not at all where a 3x3 kernel sticks out on both sides or
  reaches both, on maps of 1x1 and 2x2. There a 3x3 convolution is written as the dense binary layer that it is.

A unit is five operators: ADD of -threshold, LceQuantize, LceBconv2d, ADD of the shortcut, PRELU. The first unit needs
no ADD of -threshold: `export.fold` subtracts that threshold in the stem's bias. docs/notes/exports.md lists the other
forms that were tried.

Batch 1, NHWC: LCE's converter sets a free batch to 1.
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
"""Below this height and width, LCE does not correct a 3x3 convolution's zero padding."""


def convert_to_lce(graph: InferenceGraph) -> bytes:
    """An LCE TFLite file: float32 image (1, resolution, resolution, channels) to outputs (1, outputs).

    The metadata entry "edgebnn" holds `graph.info` as JSON.

    Raises:
        UserError: a unit is not binary, or did not become a binary convolution.
    """
    for number, unit in enumerate(graph.units):
        check(unit.binary, f"unit {number} has float {unit.floats}; LCE runs binary units alone: train step 2 first")
    data = tflite_file.add_metadata(_flatbuffer(graph), METADATA_KEY, graph.info.to_json())
    downsampling = [number for number, unit in enumerate(graph.units) if unit.downsample is not None]
    check_operators(data, len(graph.units), downsampling)
    return data


def check_operators(data: bytes, units: int, downsampling: Collection[int] = ()) -> None:
    """Raises `UserError` unless each unit is one binary convolution, and no convolution is float that should not be.

    LCE's converter keeps what it does not recognise as float operators, silently and slowly. Float convolutions
    are the stem's, and one around each of the units `downsampling`.
    """
    operators = tflite_file.operators(data)
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
    check(
        floats == wanted, f"{floats} float convolutions came out of LCE's converter, not {wanted}; report the network"
    )


def open_interpreter(data: bytes) -> Callable[[np.ndarray], tuple[list[np.ndarray], np.ndarray]]:
    """Opens a file in LCE's own interpreter so that what passes between its parts can be read.

    Args:
        data: a file by `convert`.

    Returns:
        A function of normalised float32 images (N, channels, H, W). It gives the stem's output and then every
        unit's, each (N, channels, H, W) and the right way up as in `edgebnn.graph.reference`; and the file's
        outputs (N, outputs). LCE's x86 kernels are slow: a ReActNet-A at 224x224 takes a third to half a second
        an image.
    """
    require("verifying a .tflite file", LCE_PACKAGE, TENSORFLOW_PACKAGE)
    load_triton()
    with quietly():
        from larq_compute_engine.tflite.python.interpreter import Interpreter
    interpreter = Interpreter(tflite_file.tap_units(data))

    def trace(images: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        logits, *taps = interpreter.predict(images.transpose(0, 2, 3, 1))
        return [np.ascontiguousarray(tap[:, ::-1, ::-1].transpose(0, 3, 1, 2)) for tap in taps], logits

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
    """What LCE's converter makes one LceBconv2d of, after its LceQuantize."""
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
        # Recognised as SAME padding with ones, since it lies where SAME would put it.
        bits, padding = pad_ones(tf, bits, stride), "VALID"
    out = tf.nn.conv2d(bits, kernel, stride, padding) * floats(scale) + floats(bias)
    return tf.reshape(out, (1, out_side, out_side, outputs))


def _dense(kernel: np.ndarray, side: int, stride: int) -> np.ndarray:
    """The 1x1 kernel (1, 1, side * side * inputs, out * out * outputs) equal to a 3x3 one with SAME padding.

    On a map so small every output sees every input: no entry is missing, as it must be for bits.
    """
    out = side // stride
    before = 1 if stride == 1 else 0
    tap = np.arange(side)[:, None] - stride * np.arange(out) + before
    dense = kernel[tap[:, None, :, None], tap[None, :, None, :]]  # row, column, out row, out column, input, output
    inputs, outputs = kernel.shape[2:]
    return dense.transpose(0, 1, 4, 2, 3, 5).reshape(1, 1, side**2 * inputs, out**2 * outputs)


def _never_zero(threshold: np.ndarray) -> np.ndarray:
    """The thresholds with each 0 made the next float below it.

    LCE tests the sign of `x - threshold`, on ARM its sign bit: x = -0.0 at threshold 0 would give the
    bit -1, though -0.0 >= 0.
    """
    return np.where(threshold == 0, np.nextafter(np.float32(0), np.float32(-1)), threshold)
