"""The inference graph as a Larq Compute Engine (LCE) TFLite file, written without LCE and TensorFlow.

Two properties of LCE's kernels (v0.16) shape the file:

- They correct zero padding only where it is SAME padding, which pads a stride-2 convolution at the bottom and right
  alone. So the image is rotated by 180 degrees (`export.tflite.network`). A PAD operator before the convolution would
  pad with +1: a bit is never 0.
- They correct one side of the padding at a time, and not at all where a 3x3 kernel sticks out on both sides or reaches
  both, on maps of 1x1 and 2x2. There a 3x3 convolution is written as the dense binary layer that it is.

A unit is five operators: ADD of -threshold, LceQuantize, LceBconv2d, ADD of the shortcut, PRELU. The first unit needs
no ADD of -threshold: `export.fold` subtracts that threshold in the stem's bias. docs/notes/exports.md lists the other
forms that were tried.

Batch 1, NHWC: a file has static shapes, so that its memory is planned once.
"""

import numpy as np

from edgebnn.errors import check
from edgebnn.graph import InferenceGraph, Unit

from .builder import Tensor, TFLiteBuilder
from .network import floats, rotated, write_network

QUANTIZE = "LceQuantize"
BINARY_CONVOLUTION = "LceBconv2d"

WORD = 32
"""Bits in an element of LCE's packed tensors."""

SMALLEST_CORRECTED_SIDE = 3
"""Below this height and width, LCE does not correct a 3x3 convolution's zero padding."""

SAME, VALID = 0, 1
"""TFLite's paddings, as LCE's options number them."""


def convert_to_lce(graph: InferenceGraph) -> bytes:
    """Returns an LCE TFLite file: float32 image (1, resolution, resolution, channels) to outputs (1, outputs).

    The metadata entry "edgebnn" holds `graph.info` as JSON.

    Raises:
        UserError: a unit is not binary.
    """
    for number, unit in enumerate(graph.units):
        check(unit.binary, f"unit {number} has float {unit.floats}; LCE runs only binary units; train stage 2 first")
    return write_network(graph, _convolution)


def small_map(part: Unit, side: int) -> bool:
    """Returns whether LCE would not correct the zero padding of this unit's convolution, on a map of this side."""
    return part.border > 0 and part.padding == "zero" and side < SMALLEST_CORRECTED_SIDE


def dense_kernel(kernel: np.ndarray, side: int, stride: int) -> np.ndarray:
    """Returns the 1x1 kernel (1, 1, side * side * inputs, out * out * outputs) of a 3x3 one with SAME padding.

    On a map so small every output sees every input: no entry is missing, as it must be for bits.
    """
    out = side // stride
    before = 1 if stride == 1 else 0
    tap = np.arange(side)[:, None] - stride * np.arange(out) + before
    dense = kernel[tap[:, None, :, None], tap[None, :, None, :]]  # row, column, out row, out column, input, output
    inputs, outputs = kernel.shape[2:]
    return dense.transpose(0, 1, 4, 2, 3, 5).reshape(1, 1, side**2 * inputs, out**2 * outputs)


def never_zero(threshold: np.ndarray) -> np.ndarray:
    """Returns the thresholds with each 0 made the next float below it.

    LCE tests the sign of `x - threshold`, on ARM its sign bit: x = -0.0 at threshold 0 would give the
    bit -1, though -0.0 >= 0.
    """
    return np.where(threshold == 0, np.nextafter(np.float32(0), np.float32(-1)), threshold)


def packed_bits(kernel: np.ndarray) -> np.ndarray:
    """Returns a kernel (H, W, inputs, outputs) of +1 and -1 as LCE's kernels read it.

    Returns:
        int32 (outputs, H, W, ceil(inputs / 32)). Bit c % 32 of word c / 32 is channel c; it is set where the weight
        is -1. Bits after the last channel are 0.
    """
    bits = kernel.transpose(3, 0, 1, 2) < 0
    missing = -bits.shape[3] % WORD
    padded = np.ascontiguousarray(np.pad(bits, ((0, 0), (0, 0), (0, 0), (0, missing))))
    packed = np.ascontiguousarray(np.packbits(padded, axis=3, bitorder="little"))
    return packed.view("<i4")


def _convolution(builder: TFLiteBuilder, part: Unit, x: Tensor, positive_zero: bool) -> Tensor:
    kernel, threshold, scale, bias = rotated(part.weight), floats(part.threshold), floats(part.scale), floats(part.bias)
    stride, out_side, outputs = part.stride, x.side // part.stride, len(scale)
    dense = small_map(part, x.side)
    if dense:
        kernel, stride = dense_kernel(kernel, x.side, stride), 1
        threshold = np.tile(threshold, x.side**2)
        x = builder.reshape(x, (1, 1, 1, x.side**2 * x.channels)) if x.side > 1 else x
        scale, bias = np.tile(scale, out_side**2), np.tile(bias, out_side**2)
    elif part.border == 0 and stride == 2:
        x, stride = builder.second_pixels(x), 1
    if threshold.any() or not positive_zero:
        # TFLite's kernels for ADD are faster than those for SUB (docs/notes/exports.md).
        x = builder.add(x, -never_zero(threshold))
    words = -(-x.channels // WORD)
    bits = builder.custom(QUANTIZE, [x], (1, x.side, x.side, words), np.dtype(np.int32))
    options = {
        "channels_in": x.channels,
        "stride_height": stride,
        "stride_width": stride,
        "dilation_height_factor": 1,
        "dilation_width_factor": 1,
        "padding": SAME,
        "pad_values": 1 if part.border and part.padding == "one" else 0,
        "fused_activation_function": 0,
    }
    weight = builder.constant(packed_bits(kernel), "bits")
    inputs = [bits, weight, builder.constant(scale, "scale"), builder.constant(bias, "bias"), None]
    side = 1 if dense else out_side
    out = builder.custom(BINARY_CONVOLUTION, inputs, (1, side, side, len(scale)), np.dtype(np.float32), options)
    return builder.reshape(out, (1, out_side, out_side, outputs)) if dense and out_side > 1 else out
