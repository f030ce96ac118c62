"""The inference graph as plain TFLite, no operator of LCE's: every convolution a float CONV_2D.

It is what a binary network costs where nothing knows bits, and how a real-valued network runs beside a binary one
under one tool, TFLite's `benchmark_model`. Scales are folded into the weights, so accumulators are rounded sums of
+scale and -scale and no longer whole numbers; `export verify` holds them to rounding.
"""

from dataclasses import replace

import numpy as np

from edgebnn.graph import InferenceGraph, Unit

from .builder import Tensor, TFLiteBuilder
from .network import floats, padding_before, rotated, write_network


def convert(graph: InferenceGraph) -> bytes:
    """Returns a TFLite file: float32 image (1, resolution, resolution, channels) to outputs (1, outputs).

    The metadata entry "edgebnn" holds `graph.info` as JSON.
    """
    return write_network(graph, _convolution)


def real_valued(graph: InferenceGraph) -> InferenceGraph:
    """The network's real-valued twin: its units see floats and hold floats. For timing; it is not trained so."""
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
