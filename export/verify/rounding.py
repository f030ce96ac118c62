"""Bounds on the difference between a runtime and the reference that rounding alone can explain.

The bounds hold for one part (stem, unit or head) that both compute on the same input. Runtimes add the same floats in
other orders, and LCE adds other floats (docs/reference/lce.md). A part within its bound has the same accumulators as
the reference: one wrong bit moves a unit's output by `2 * scale * min(1, slope)`, which is hundreds of times the bound
in a full-size network.
"""

from dataclasses import replace

import numpy as np

from edgebnn.graph import Head, Stem, Unit, reference

FEW_ROUNDINGS = 2.0**-20
"""Sixteen roundings of a float32: for the last few operations of a unit."""

FLOAT_SUM = 2.0**-18
"""Sixty-four roundings: for a long sum of floats of both signs, whose rounding errors partly cancel."""


def stem_bound(part: Stem, images: np.ndarray) -> np.ndarray:
    """Returns the bound on the stem's output (N, outputs, H', W') for images (N, channels, H, W).

    The bound is `FLOAT_SUM` times the sum of the magnitudes that the stem adds.
    """
    magnitudes = replace(part, weight=np.abs(part.weight), bias=np.abs(part.bias))
    return FLOAT_SUM * reference.stem(magnitudes, np.abs(images))


def unit_bound(part: Unit, x: np.ndarray) -> np.ndarray:
    """Returns the bound on a unit's output for x (N, inputs, H, W). It broadcasts to the output's shape.

    The accumulator of a binary unit is exact. From d differing bits of K, LCE computes `2d * -scale + (bias + K *
    scale)`: these floats are as large as K * scale, and the reference's only as large as acc * scale. A unit whose
    convolution or shortcut is a sum of floats has that long sum to round as well.
    """
    steepest = np.maximum(1, np.abs(part.slope))[:, None, None]
    scale, bias = np.abs(part.scale)[:, None, None], np.abs(part.bias)[:, None, None]
    downsample = None if part.downsample is None else np.abs(part.downsample)
    if part.shortcut == "none":
        added = np.zeros(1, x.dtype)
    else:
        added = np.abs(reference.shortcut(replace(part, downsample=downsample), np.abs(x)))
    if part.binary:
        bound = FEW_ROUNDINGS * steepest * (part.weight[0].size * scale + bias + np.abs(x).max())
        return bound if downsample is None else bound + FLOAT_SUM * steepest * added
    sums = reference.accumulate(replace(part, weight=np.abs(part.weight)), np.abs(reference.seen(part, x)))
    return FLOAT_SUM * steepest * (sums * scale + bias + added)


def head_bound(part: Head, x: np.ndarray) -> np.ndarray:
    """Returns the bound on the head's outputs (N, outputs) for x (N, channels, H, W)."""
    layers = tuple(replace(layer, weight=np.abs(layer.weight), bias=np.abs(layer.bias)) for layer in part.layers)
    return FLOAT_SUM * reference.head(Head(np.abs(part.offset), layers), np.abs(x))


def share_of_bound(found: np.ndarray, expected: np.ndarray, bound: np.ndarray) -> float:
    """Returns the largest difference as a share of its bound. Rounding explains a share of up to 1."""
    difference = np.abs(found.astype(np.float64) - expected)
    bound = np.broadcast_to(bound, difference.shape)
    # Where the bound is 0 nothing can round, so any difference is an error.
    shares = np.where(difference == 0, 0.0, np.inf)
    np.divide(difference, bound, out=shares, where=bound > 0)
    return largest_value(shares)


def largest_value(values: np.ndarray) -> float:
    """Returns the largest value, or the largest float32 if a value is not finite: a NaN would compare as small."""
    return float(values.max()) if np.isfinite(values).all() else float(np.finfo(np.float32).max)
