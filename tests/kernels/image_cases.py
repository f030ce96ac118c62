"""Image convolutions and images that are hard on kernels, and what the reference makes of them."""

from dataclasses import dataclass

import numpy as np

from edgebnn.graph import Stem, reference
from tests.kernels.cases import Values, pack, random_numbers


@dataclass(frozen=True)
class ImageCase:
    """A stem, images (N, channels, H, W), and the outputs (N, H / stride, W / stride, outputs) of every path."""

    stem: Stem
    next_threshold: np.ndarray
    images: np.ndarray
    y: np.ndarray
    next_bits: np.ndarray


def make_image_case(
    seed: int,
    channels: int,
    outputs: int,
    *,
    size: tuple[int, int, int],
    stride: int = 1,
    values: Values = "normal",
) -> ImageCase:
    """A random stem on random images of `size` (N, H, W); `values` as in `tests.kernels.cases.make_case`."""
    rng = np.random.default_rng(seed)
    batch, height, width = size
    weight = random_numbers(rng, values, outputs, channels, 3, 3, spread=(9 * channels) ** -0.5)
    stem = Stem(weight, random_numbers(rng, values, outputs), stride)
    return expected(
        stem, random_numbers(rng, values, batch, channels, height, width), random_numbers(rng, values, outputs)
    )


def expected(stem: Stem, images: np.ndarray, next_threshold: np.ndarray) -> ImageCase:
    """The case with its outputs as the reference computes them."""
    with np.errstate(all="ignore"):
        y = np.ascontiguousarray(reference.stem(stem, images).transpose(0, 2, 3, 1))
    assert y.dtype == np.float32
    return ImageCase(stem, next_threshold, images, y, pack(y >= next_threshold))
