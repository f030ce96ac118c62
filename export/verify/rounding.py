"""How far a runtime may lie from the reference by rounding alone, given the same input.

Runtimes add the same floats in other orders, and LCE other floats (docs/reference/lce.md). Whatever lies within
these bounds computes the same accumulators: one wrong bit moves a unit's output by
`2 * scale * min(1, slope)`, hundreds of times as far at full size.
"""

from dataclasses import replace

import numpy as np

from edgebnn.graph import Head, Stem, Unit, reference

FEW_ROUNDINGS = 2.0**-20
"""Sixteen roundings of a float32: for the last few operations of a unit."""

FLOAT_SUM = 2.0**-18
"""Sixty-four: for a long sum of floats of both signs, whose roundings partly cancel."""


def of_stem(part: Stem, images: np.ndarray) -> np.ndarray:
    """Bound on the stem's output, of its shape: a share of the sum of the magnitudes it adds."""
    magnitudes = replace(part, weight=np.abs(part.weight), bias=np.abs(part.bias))
    return FLOAT_SUM * reference.stem(magnitudes, np.abs(images))


def of_unit(part: Unit, x: np.ndarray) -> np.ndarray:
    """Bound on a unit's output, broadcastable to its shape.

    A binary unit's accumulator is exact, and LCE computes it as `2d * -scale + (bias + K * scale)` from d
    differing bits of K: floats as large as K * scale, where the reference's are as large as
    acc * scale. A unit with floats in its convolution has a long sum of them to round, and so has one whose
    shortcut is a convolution.
    """
    steepest = np.maximum(1, np.abs(part.slope))[:, None, None]
    scale, bias = np.abs(part.scale)[:, None, None], np.abs(part.bias)[:, None, None]
    down = None if part.downsample is None else np.abs(part.downsample)
    if part.shortcut == "none":
        passed = np.zeros(1, x.dtype)
    else:
        passed = np.abs(reference.shortcut(replace(part, downsample=down), np.abs(x)))
    if part.binary:
        bound = FEW_ROUNDINGS * steepest * (part.weight[0].size * scale + bias + np.abs(x).max())
        return bound if down is None else bound + FLOAT_SUM * steepest * passed
    sums = reference.accumulate(replace(part, weight=np.abs(part.weight)), np.abs(reference.seen(part, x)))
    return FLOAT_SUM * steepest * (sums * scale + bias + passed)


def of_head(part: Head, x: np.ndarray) -> np.ndarray:
    """Bound on the head's output, of its shape."""
    layers = tuple(replace(layer, weight=np.abs(layer.weight), bias=np.abs(layer.bias)) for layer in part.layers)
    return FLOAT_SUM * reference.head(Head(np.abs(part.offset), layers), np.abs(x))


def share(found: np.ndarray, wanted: np.ndarray, bound: np.ndarray) -> float:
    """Largest difference as a share of its bound: up to 1 is rounding."""
    difference = np.abs(found.astype(np.float64) - wanted)
    bound = np.broadcast_to(bound, difference.shape)
    # Where nothing can round, nothing may differ.
    shares = np.where(difference == 0, 0.0, np.inf)
    np.divide(difference, bound, out=shares, where=bound > 0)
    return largest(shares)


def largest(values: np.ndarray) -> float:
    """The largest value; where one is not finite, the largest float32, since a NaN would compare as small."""
    return float(values.max()) if np.isfinite(values).all() else float(np.finfo(np.float32).max)
