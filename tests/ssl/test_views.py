"""Views: each random step does what its probability says, and evaluation sees the plain centre."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from edgebnn.ssl.views import Augmentation, fixed_view, random_view

MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
STILL = {"crop": (1.0, 1.0), "jitter_probability": 0, "gray_probability": 0, "blur_probability": 0}


def normalised(image: torch.Tensor) -> torch.Tensor:
    return (image / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def picture(side: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def seen(**changes: object) -> torch.Tensor:
    """A view of `picture(32)` at full size, with normalisation undone, in [0, 255]."""
    view = random_view(32, (0, 0, 0), (1, 1, 1), Augmentation(**{**STILL, "flip_probability": 0, **changes}))  # type: ignore[arg-type]
    return view(picture(32)) * 255


def test_all_probabilities_zero_leave_the_normalised_image() -> None:
    view = random_view(32, MEAN, STD, Augmentation(**STILL, flip_probability=0))  # type: ignore[arg-type]
    torch.testing.assert_close(view(picture(32)), normalised(picture(32)), rtol=0, atol=1e-6)


def test_each_probability_governs_its_own_step() -> None:
    plain = picture(32).float()
    torch.testing.assert_close(seen(flip_probability=1), plain.flip(2), rtol=0, atol=1e-4)
    gray = seen(gray_probability=1)
    torch.testing.assert_close(gray[0], gray[1], rtol=0, atol=0)
    # ITU-R 601-2 luma, truncated to whole levels.
    luma = 0.2989 * plain[0] + 0.587 * plain[1] + 0.114 * plain[2]
    torch.testing.assert_close(gray[2], luma, rtol=0, atol=1.01)
    jittered = seen(jitter_probability=1)
    assert (jittered - plain).abs().mean() > 1
    # Noise blurred by a kernel of 3 x 3, its sigma wide, keeps a ninth of its variance.
    assert seen(blur_probability=1, blur=(9.0, 9.0)).var().item() == pytest.approx(plain.var().item() / 9, rel=0.2)


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
