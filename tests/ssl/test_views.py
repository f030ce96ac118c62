"""Views: draws follow the recipe, crops are torchvision's, and evaluation sees the plain centre."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms import v2

from edgebnn.errors import UserError
from edgebnn.ssl.philox import uniforms
from edgebnn.ssl.views import NUMBERS, Augmentation, Draws, crop_boxes, draw_views, fixed_view

MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)


def normalised(image: torch.Tensor) -> torch.Tensor:
    return (image / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def picture(side: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def draws(augmentation: Augmentation, count: int = 20_000) -> Draws:
    numbers = uniforms(1, 2, np.arange(count), 0, NUMBERS)
    return draw_views(augmentation, numbers, crop_boxes(numbers, 375, 500, augmentation.crop))


def assert_share(drawn: np.ndarray, share: float) -> None:
    """Within four and a half standard deviations."""
    assert abs(drawn.mean() - share) <= 4.5 * np.sqrt(share * (1 - share) / len(drawn))


def test_shares_and_ranges_are_the_recipes() -> None:
    recipe = Augmentation(jitter=(0.4, 0.3, 1.5, 0.1), jitter_probability=0.6, gray_probability=0.2, blur=(0.1, 2.0))
    recipe = replace(recipe, blur_probability=0.1, flip_probability=0.5, solarize_probability=0.3)
    found = draws(recipe)
    drawn = {"jitter": found.jitter, "gray": found.gray, "blur": found.sigma > 0, "flip": found.flip}
    drawn["solarize"] = found.solarize
    for name, shares in drawn.items():
        assert_share(shares, getattr(recipe, f"{name}_probability"))
    # One does not bring another with it.
    assert np.abs(np.corrcoef(list(drawn.values())) - np.eye(5)).max() < 4.5 / np.sqrt(20_000)
    ranges = ((0.6, 1.4), (0.7, 1.3), (0.0, 2.5), (-0.1, 0.1))
    for factors, (least, largest) in zip([*found.factors.T, found.sigma[found.sigma > 0]], [*ranges, (0.1, 2.0)]):
        width = largest - least
        assert least <= factors.min() < least + 0.01 * width
        assert largest - 0.01 * width < factors.max() <= largest + 1e-6
        assert abs(factors.mean() - (least + largest) / 2) < 4.5 * width / np.sqrt(12 * len(factors))
    orders, counts = np.unique(found.order, axis=0, return_counts=True)
    assert len(orders) == 24
    assert np.abs(counts / 20_000 - 1 / 24).max() < 4.5 * np.sqrt(1 / 24 / 20_000)


def test_no_share_draws_nothing_and_a_whole_share_everything() -> None:
    off = Augmentation(jitter_probability=0, gray_probability=0, blur_probability=0, flip_probability=0)
    found = draws(off, 1000)
    assert not (found.jitter | found.gray | (found.sigma > 0) | found.flip | found.solarize).any()
    on = Augmentation((1, 1), (0.4,) * 4, 1, 1, (2, 2), 1, 1, 1)  # type: ignore[arg-type]
    found = draws(on, 1000)
    assert (found.jitter & found.gray & (found.sigma == 2) & found.flip & found.solarize).all()


def slow_box(numbers: np.ndarray, height: int, width: int, area: tuple[float, float]) -> list[int]:
    """The box of one image, as torchvision's `RandomResizedCrop` goes about it."""
    least, largest = math.log(3 / 4), math.log(4 / 3)
    for share, ratio in zip(numbers[:10], numbers[10:20]):
        target = height * width * (area[0] + (area[1] - area[0]) * share)
        aspect = math.exp(least + (largest - least) * ratio)
        wide, tall = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < wide <= width and 0 < tall <= height:
            return [int(numbers[21] * (height - tall + 1)), int(numbers[20] * (width - wide + 1)), tall, wide]
    wide, tall = width, height
    if width / height < 3 / 4:
        tall = round(width / (3 / 4))
    elif width / height > 4 / 3:
        wide = round(height * (4 / 3))
    return [(height - tall) // 2, (width - wide) // 2, tall, wide]


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 333), (32, 32), (40, 400), (400, 41), (1, 1), (2, 3)])
@pytest.mark.parametrize("area", [(0.08, 1.0), (0.9, 1.0), (0.05, 0.14), (1.0, 1.0)])
def test_boxes_are_those_of_the_slow_way(height: int, width: int, area: tuple[float, float]) -> None:
    numbers = uniforms(4, 0, np.arange(300), 0, NUMBERS)
    found = crop_boxes(numbers, height, width, area)
    assert found.tolist() == [slow_box(row, height, width, area) for row in numbers]


@pytest.mark.parametrize(("height", "width"), [(375, 500), (60, 400), (32, 32)])
def test_boxes_are_distributed_as_torchvisions(height: int, width: int) -> None:
    count, area = 4000, (0.2, 1.0)
    torch.manual_seed(0)
    crop = v2.RandomResizedCrop(8, area)
    image = torch.zeros(3, height, width)
    theirs = [crop.make_params([image]) for _ in range(count)]
    expected = np.array([[box[side] for side in ("top", "left", "height", "width")] for box in theirs])
    found = crop_boxes(uniforms(9, 0, np.arange(count), 0, NUMBERS), height, width, area)
    for ours, others in zip((*found.T, found[:, 2] * found[:, 3]), (*expected.T, expected[:, 2] * expected[:, 3])):
        values = np.unique(np.concatenate([ours, others]))
        rise = [np.searchsorted(np.sort(sample), values, side="right") / count for sample in (ours, others)]
        # Kolmogorov and Smirnov's statistic of two samples, beyond this once in ten thousand.
        assert np.abs(rise[0] - rise[1]).max() < 2.23 * np.sqrt(2 / count)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"gray_probability": 1.2}, "gray_probability"),
        ({"crop": (0.0, 1.0)}, "augmentation.crop"),
        ({"small_crop": (0.2, 0.1)}, "augmentation.small_crop"),
        ({"blur": (0.0, 2.0)}, "augmentation.blur"),
        ({"jitter": (0.4, 0.4, 0.4, 0.6)}, "augmentation.jitter"),
    ],
)
def test_what_no_view_can_be_drawn_from_is_refused(wrong: dict[str, Any], named: str) -> None:
    Augmentation().check()
    with pytest.raises(UserError, match=named):
        Augmentation(**wrong).check()


def test_fixed_view_resizes_to_eight_sevenths_and_takes_the_centre() -> None:
    # A smooth picture, so that both resamplings agree.
    ramp = (np.add.outer(np.arange(160), np.arange(160)) // 2).astype(np.uint8)
    image = Image.fromarray(np.stack([ramp] * 3, axis=2))
    expected = F.interpolate(torch.tensor(ramp[None, None]).float(), (128, 128), mode="bilinear", antialias=True)
    view = fixed_view(112, MEAN, STD)(image)
    # Pillow works in whole levels, one off at most.
    limit = 1 / 255 / min(STD) + 1e-6
    assert view.dtype == torch.float32
    torch.testing.assert_close(view, normalised(expected[0, :, 8:120, 8:120].repeat(3, 1, 1)), rtol=0, atol=limit)


def test_small_fixed_views_see_the_whole_image() -> None:
    # As `edgebnn.runtime.preprocess` does for the exported network.
    image = picture(32)
    torch.testing.assert_close(fixed_view(32, MEAN, STD)(image), normalised(image), rtol=0, atol=1e-6)
