"""Writes the inference graph as plain TFLite, without LCE operators: every convolution is a float CONV_2D.

The file shows what a binary network costs in a runtime without binary convolutions. It also lets TFLite's
`benchmark_model` measure a real-valued network beside a binary one.

Scales are folded into the weights. Accumulators are therefore rounded sums of +scale and -scale, and no whole numbers.
`export verify` allows for this rounding.
"""

from dataclasses import replace

import numpy as np

from edgebnn.graph import InferenceGraph, Unit

from .builder import Tensor, TFLiteBuilder
from .network import floats, padding_before, rotated, write_network


def convert_to_tflite(graph: InferenceGraph) -> bytes:
    """Returns a TFLite file: float32 image (1, resolution, resolution, channels) to outputs (1, outputs).

    The metadata entry "edgebnn" holds `graph.info` as JSON.
    """
    return write_network(graph, _convolution)


def real_valued(graph: InferenceGraph) -> InferenceGraph:
    """Returns the real-valued twin of a network, with float activations and weights. It is only for timing."""
    units = (replace(unit, weight=floats(unit.weight), binary_input=False) for unit in graph.units)
    return replace(graph, units=tuple(units), info=replace(graph.info, name=f"{graph.info.name}-real-valued"))


def _convolution(builder: TFLiteBuilder, part: Unit, x: Tensor, positive_zero: bool) -> Tensor:
    if part.border == 0 and part.stride == 2:
        x = builder.second_pixels(x)
    seen = builder.add(x, -floats(part.threshold)) if part.threshold.any() else x
    if part.binary_input:
        # TFLite's sign is 0 at 0 and must be +1. A select by comparison is two operators as well, and takes six times
        # as long (docs/notes/exports.md).
        seen = builder.sign(builder.add(builder.sign(seen), np.array(0.5, np.float32)))
    stride = part.stride if part.border else 1
    padded = bool(part.border) and part.padding == "one"
    if padded:
        seen = builder.pad_ones(seen, padding_before(stride))
    kernel = rotated(part.weight) * floats(part.scale)
    return builder.conv_2d(seen, floats(kernel), floats(part.bias), stride=stride, same=not padded)
