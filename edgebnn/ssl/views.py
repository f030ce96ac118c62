"""What a network sees of an image: random views in training, one fixed view in evaluation.

Drawing a view and making it are apart: `draw` says what is done to each image, `edgebnn.ssl.augment` does it to a
whole batch, wherever the batch is.
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
    """Random views; the defaults are MoCo v2's (Chen et al., 2020), S2-BNN's are lighter.

    Attributes:
        crop: least and largest area of the random crop, as a share of the image.
        jitter: strengths of brightness, contrast, saturation, hue.
        jitter_probability: share of the views whose colours are jittered; MoCo v2 0.8, S2-BNN 0.6.
        gray_probability: share of the views turned gray.
        blur: least and largest sigma of the Gaussian blur, in pixels.
        blur_probability: share of the views blurred; MoCo v2 0.5, S2-BNN 0.2, BYOL 1.0 and 0.1.
        flip_probability: share of the views mirrored left to right.
        solarize_probability: share of the views whose bright half is inverted; BYOL 0 and 0.2.
        small_crop: as `crop`, for the small views of multi-crop (SwAV: Caron et al., 2020).
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
        """Raises `UserError` for values that no view can be drawn from."""
        for name, share in vars(self).items():
            if name.endswith("_probability"):
                check(0 <= share <= 1, f"augmentation.{name} {share} is no share; use 0 to 1")
        for name in ("crop", "small_crop"):
            least, largest = getattr(self, name)
            check(0 < least <= largest <= 1, f"augmentation.{name} {least}, {largest}: use shares of the area, up to 1")
        check(0 < self.blur[0] <= self.blur[1], f"augmentation.blur {self.blur}: use two sigmas above 0, least first")
        sound = min(self.jitter) >= 0 and self.jitter[3] <= 0.5
        check(sound, f"augmentation.jitter {self.jitter}: use strengths of 0 or more, the hue's up to 0.5")


class Draws(NamedTuple):
    """What is done to each of N images to make a view. In NumPy: small, and it stays where it was drawn.

    Attributes:
        boxes: top, left, height, width of the crop in pixels (N, 4); None where crops are made already.
        flip: mirrored left to right (N,).
        jitter: colours jittered (N,).
        factors: of brightness, contrast, saturation, and the hue's shift in turns (N, 4).
        order: the four by number, in the order they are applied in (N, 4).
        gray: turned gray (N,).
        sigma: of the blur in pixels, 0 for none (N,).
        solarize: bright half inverted (N,).
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
CROP_NUMBERS = 2 * TRIES + 2
"""How many random numbers a crop takes, and, further on, a whole view."""
NUMBERS = CROP_NUMBERS + 11
RATIO = (3 / 4, 4 / 3)
ORDERS = np.array(list(permutations(range(4))))


def draw(augmentation: Augmentation, numbers: np.ndarray, boxes: np.ndarray | None) -> Draws:
    """The views that `numbers` (N, NUMBERS) in [0, 1) say, with crops `boxes` of `crop_boxes`."""
    jitter, order, *shifts, gray, blur, sigma, flip, solarize = numbers[:, CROP_NUMBERS:].T
    strengths = np.array(augmentation.jitter)
    # A factor is never negative; the hue's neutral shift is 0.
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
    """Random boxes (N, 4), top, left, height, width, distributed as `torchvision.transforms.RandomResizedCrop`'s.

    A box has a share in `area` of the image and a ratio of width to height from 3/4 to 4/3, log-uniform; the first of
    ten tries that fits is taken, else the largest centred box that has such a ratio.

    Args:
        numbers: (N, CROP_NUMBERS) or wider, in [0, 1).
        heights, widths: of the images (N,), or of all of them.
        area: least and largest share of the image's area.
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
    """The largest centred boxes whose ratio is within RATIO."""
    width = np.minimum(widths, np.rint(heights * RATIO[1]))
    height = np.minimum(heights, np.rint(widths / RATIO[0]))
    return np.stack([(heights - height) // 2, (widths - width) // 2, height, width], axis=1)


def _between(limits: tuple[float, float], numbers: np.ndarray) -> np.ndarray:
    return limits[0] + (limits[1] - limits[0]) * numbers


def blur_kernel(resolution: int) -> int:
    """Pixels that a blur reaches over: a tenth of the side, as SimCLR has it, and odd."""
    return max(3, resolution // 20 * 2 + 1)


def fixed_view(resolution: int, mean: Sequence[float], std: Sequence[float], *, resize: bool = True) -> v2.Transform:
    """Makes the normalised view (..., 3, resolution, resolution) that evaluation sees: resized, centre crop.

    Without `resize` the image must have that resolution already.
    """
    steps: list[v2.Transform] = [v2.ToImage()]
    if resize:
        steps += [v2.Resize(resize_side(resolution), antialias=True), v2.CenterCrop(resolution)]
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std)), v2.ToPureTensor()]
    return v2.Compose(steps)
