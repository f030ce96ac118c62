"""Draws the views of images that a network sees: random views in training, one fixed view in evaluation.

A view is made in two steps. `draw_views` draws what is done to each image. `edgebnn.ssl.augment` then applies it to a
whole batch, on the device of the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple

import numpy as np
import torch
from torchvision.transforms import v2

from edgebnn.errors import check
from edgebnn.graph.info import resize_side


@dataclass(frozen=True)
class Augmentation:
    """The settings of random views. The defaults are MoCo v2's (Chen et al., 2020). S2-BNN's views are lighter.

    Attributes:
        crop: smallest and largest area of the random crop, as a share of the image.
        jitter: strengths of brightness, contrast, saturation and hue.
        jitter_probability: share of views with colour jitter: MoCo v2 0.8, S2-BNN 0.6.
        gray_probability: share of views that are gray.
        blur: smallest and largest sigma of the Gaussian blur, in pixels.
        blur_probability: share of blurred views: MoCo v2 0.5, S2-BNN 0.2, BYOL 1.0 and 0.1.
        flip_probability: share of views that are mirrored left to right.
        solarize_probability: share of views whose bright pixels are inverted: BYOL 0 and 0.2.
        small_crop: `crop` for the small views of multi-crop (SwAV: Caron et al., 2020).
    """

    crop: tuple[float, float] = (0.2, 1.0)
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    jitter_probability: float = 0.8
    gray_probability: float = 0.2
    blur: tuple[float, float] = (0.1, 2.0)
    blur_probability: float = 0.5
    flip_probability: float = 0.5
    solarize_probability: float = 0.0
    small_crop: tuple[float, float] = (0.05, 0.14)

    def check(self) -> None:
        """Raises `UserError` if a value is invalid."""
        for name, share in vars(self).items():
            if name.endswith("_probability"):
                check(0 <= share <= 1, f"augmentation.{name} {share} is not a share; use 0 to 1")
        for name in ("crop", "small_crop"):
            least, largest = getattr(self, name)
            check(0 < least <= largest <= 1, f"augmentation.{name} {least}, {largest}: use shares of the area, up to 1")
        check(
            0 < self.blur[0] <= self.blur[1],
            f"augmentation.blur {self.blur}: use two sigmas above 0, the smaller one first",
        )
        sound = min(self.jitter) >= 0 and self.jitter[3] <= 0.5
        check(sound, f"augmentation.jitter {self.jitter}: use strengths of 0 or more, the hue's up to 0.5")


class Draws(NamedTuple):
    """The changes to each of N images that make a view, as NumPy arrays.

    Attributes:
        boxes: top, left, height and width of the crop in pixels (N, 4); None if the images are cropped already.
        flip: whether the image is mirrored left to right (N,).
        jitter: whether its colours are jittered (N,).
        factors: factors of brightness, contrast and saturation, and the shift of the hue in turns (N, 4).
        order: the order in which these four are applied, by number (N, 4).
        gray: whether the image is made gray (N,).
        sigma: sigma of the blur in pixels, 0 for no blur (N,).
        solarize: whether bright pixels are inverted (N,).
    """

    boxes: np.ndarray | None
    flip: np.ndarray
    jitter: np.ndarray
    factors: np.ndarray
    order: np.ndarray
    gray: np.ndarray
    sigma: np.ndarray
    solarize: np.ndarray


TRIES = 10
"""The number of boxes that are tried for a crop."""

CROP_NUMBERS = 2 * TRIES + 2
"""The number of random numbers for a crop."""

NUMBERS = CROP_NUMBERS + 11
"""The number of random numbers for a view."""

RATIO = (3 / 4, 4 / 3)
ORDERS = np.array(list(permutations(range(4))))


def draw_views(augmentation: Augmentation, numbers: np.ndarray, boxes: np.ndarray | None) -> Draws:
    """Returns the views that random numbers determine.

    Args:
        augmentation: the settings.
        numbers: random numbers in [0, 1), (N, NUMBERS).
        boxes: the crops of `crop_boxes`, or None if the images are cropped already.
    """
    jitter, order, *shifts, gray, blur, sigma, flip, solarize = numbers[:, CROP_NUMBERS:].T
    strengths = np.array(augmentation.jitter)
    # A factor is never negative. The shift of the hue has 0 as its neutral value.
    least = np.array([*np.maximum(0, 1 - strengths[:3]), -strengths[3]])
    largest = np.array([*(1 + strengths[:3]), strengths[3]])
    blurred = blur < augmentation.blur_probability
    return Draws(
        boxes=boxes,
        flip=flip < augmentation.flip_probability,
        jitter=jitter < augmentation.jitter_probability,
        factors=(least + (largest - least) * np.stack(shifts, axis=1)).astype(np.float32),
        order=ORDERS[(order * len(ORDERS)).astype(int)],
        gray=gray < augmentation.gray_probability,
        sigma=np.where(blurred, _between(augmentation.blur, sigma), 0).astype(np.float32),
        solarize=solarize < augmentation.solarize_probability,
    )


def crop_boxes(
    numbers: np.ndarray, heights: np.ndarray | int, widths: np.ndarray | int, area: tuple[float, float]
) -> np.ndarray:
    """Returns random boxes (N, 4): top, left, height, width. Their distribution is that of `RandomResizedCrop`.

    (That is `torchvision.transforms.RandomResizedCrop`.) The area of a box is a uniform share of the image, and the
    ratio of width to height is log-uniform from 3/4 to 4/3. The first of ten tries that fits is used. If none fits, it
    is the largest centred box with such a ratio.

    Args:
        numbers: random numbers in [0, 1), (N, CROP_NUMBERS) or more columns.
        heights, widths: sizes of the images: (N,), or one number for all.
        area: smallest and largest share of the image's area.
    """
    heights, widths = (np.broadcast_to(sides, len(numbers)) for sides in (heights, widths))
    areas = _between(area, numbers[:, :TRIES]) * (heights * widths)[:, None]
    ratios = np.exp(_between((np.log(RATIO[0]), np.log(RATIO[1])), numbers[:, TRIES : 2 * TRIES]))
    tried_widths, tried_heights = np.rint(np.sqrt(areas * ratios)), np.rint(np.sqrt(areas / ratios))
    fits = (tried_widths > 0) & (tried_widths <= widths[:, None])
    fits &= (tried_heights > 0) & (tried_heights <= heights[:, None])
    first = fits.argmax(axis=1)[:, None]
    width, height = (np.take_along_axis(tried, first, 1)[:, 0] for tried in (tried_widths, tried_heights))
    across, down = numbers[:, 2 * TRIES], numbers[:, 2 * TRIES + 1]
    left, top = np.floor(across * (widths - width + 1)), np.floor(down * (heights - height + 1))
    drawn = np.stack([top, left, height, width], axis=1)
    return np.where(fits.any(axis=1)[:, None], drawn, _centred(heights, widths)).astype(np.int64)


def _centred(heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Returns the largest centred boxes with a ratio within RATIO."""
    width = np.minimum(widths, np.rint(heights * RATIO[1]))
    height = np.minimum(heights, np.rint(widths / RATIO[0]))
    return np.stack([(heights - height) // 2, (widths - width) // 2, height, width], axis=1)


def _between(limits: tuple[float, float], numbers: np.ndarray) -> np.ndarray:
    return limits[0] + (limits[1] - limits[0]) * numbers


def blur_kernel(resolution: int) -> int:
    """Returns the kernel size of the blur: a tenth of the side, as in SimCLR, and odd."""
    return max(3, resolution // 20 * 2 + 1)


def fixed_view(resolution: int, mean: Sequence[float], std: Sequence[float], *, resize: bool = True) -> v2.Transform:
    """Returns the transform of evaluations: resize, centre crop, normalise.

    Its result is (..., 3, resolution, resolution), float32.

    Args:
        resolution: side of the result in pixels.
        mean, std: the normalisation.
        resize: whether to resize and crop. Otherwise the image must have the resolution already.
    """
    steps: list[v2.Transform] = [v2.ToImage()]
    if resize:
        steps += [v2.Resize(resize_side(resolution), antialias=True), v2.CenterCrop(resolution)]
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std)), v2.ToPureTensor()]
    return v2.Compose(steps)
