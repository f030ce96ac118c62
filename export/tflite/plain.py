"""Writes the inference graph as plain TFLite, without LCE operators: every convolution is a float CONV_2D.

The file shows what a binary network costs in a runtime without binary convolutions. It also lets TFLite's
`benchmark_model` measure a real-valued network beside a binary one.

Scales are folded into the weights. Accumulators are therefore rounded sums of +scale and -scale, and no whole numbers.
`export verify` allows for this rounding.
"""

from dataclasses import replace
from typing import Any

from edgebnn.graph import InferenceGraph, Unit
from edgebnn.graph.info import METADATA_KEY
from edgebnn.optional import TENSORFLOW_PACKAGE, require

from . import file as tflite_file
from .file import quietly
from .graph import floats, load_triton, pad_ones, rotated, saved_model, second_pixels


def convert_to_tflite(graph: InferenceGraph) -> bytes:
    """Returns a TFLite file: float32 image (1, resolution, resolution, channels) -> logits (1, outputs).

    The metadata entry "edgebnn" holds `graph.info` as JSON.

    Raises:
        UserError: TensorFlow is not installed.
    """
    require("the TFLite export", TENSORFLOW_PACKAGE)
    load_triton()
    with quietly():
        import tensorflow as tf

        with saved_model(tf, graph, _convolution) as folder:
            data = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    return tflite_file.add_metadata(data, METADATA_KEY, graph.info.to_json())


def real_valued(graph: InferenceGraph) -> InferenceGraph:
    """Returns the real-valued twin of a network, with float activations and weights. It is only for timing."""
    units = (replace(unit, weight=floats(unit.weight), binary_input=False) for unit in graph.units)
    return replace(graph, units=tuple(units), info=replace(graph.info, name=f"{graph.info.name}-real-valued"))


def _convolution(tf: Any, part: Unit, x: Any, plus_zero: bool) -> Any:
    if part.border == 0 and part.stride == 2:
        x = second_pixels(x)
    seen = x + -floats(part.threshold) if part.threshold.any() else x
    if part.binary_input:
        # sign(0) is 0 and must become +1. A comparison with where() is two operators too, and takes six times as long
        # (docs/notes/exports.md).
        seen = tf.sign(tf.sign(seen) + 0.5)
    stride, padding = part.stride if part.border else 1, "SAME"
    if part.border and part.padding == "one":
        seen, padding = pad_ones(tf, seen, stride), "VALID"
    kernel = rotated(part.weight) * floats(part.scale)
    return tf.nn.conv2d(seen, floats(kernel), stride, padding) + floats(part.bias)
