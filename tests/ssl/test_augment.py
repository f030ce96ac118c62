"""Batched views: every image of a batch becomes what torchvision makes of it alone."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from edgebnn.ssl.augment import augment, gaussian_blur, hue, jitter, resized_crop
from edgebnn.ssl.philox import uniforms
from edgebnn.ssl.views import NUMBERS, Augmentation, Draws, blur_kernel, crop_boxes, draw_views

COUNT = 48
EVERYTHING = Augmentation(solarize_probability=0.3)
MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)


def pictures(height: int = 40, width: int = 33) -> Tensor:
    """Random pixels, uint8, with gray, black and white images among them."""
    images = torch.randint(0, 256, (COUNT, 3, height, width), generator=torch.Generator().manual_seed(1))
    images[0], images[1] = 0, 255
    images[2] = images[2, :1]
    return images.byte()


def drawn(augmentation: Augmentation = EVERYTHING, height: int = 40, width: int = 33, epoch: int = 0) -> Draws:
    numbers = uniforms(0, epoch, np.arange(COUNT), 0, NUMBERS)
    return draw_views(augmentation, numbers, crop_boxes(numbers, height, width, augmentation.crop))


def torchvision_jitter(image: Tensor, draws: Draws, row: int) -> Tensor:
    steps = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue)
    for step in draws.order[row] if draws.jitter[row] else ():
        image = steps[step](image, float(draws.factors[row, step]))
    return image


def torchvision_view(image: Tensor, draws: Draws, row: int, side: int) -> Tensor:
    """What the draw says, written with torchvision, of one float image."""
    image = TF.resized_crop(image, *draws.boxes[row].tolist(), [side, side], antialias=True)  # type: ignore[index]
    image = TF.horizontal_flip(image) if draws.flip[row] else image
    image = torchvision_jitter(image, draws, row)
    image = TF.rgb_to_grayscale(image, 3) if draws.gray[row] else image
    if draws.sigma[row]:
        image = TF.gaussian_blur(image, [blur_kernel(side)] * 2, [float(draws.sigma[row])] * 2)
    image = TF.solarize(image, 0.5) if draws.solarize[row] else image
    return TF.normalize(image, list(MEAN), list(STD))


@pytest.mark.parametrize("side", [16, 32, 64])
def test_resized_crops_are_torchvisions_smaller_and_larger(side: int) -> None:
    images, draws = pictures().float() / 255, drawn(Augmentation(crop=(0.05, 1.0)))
    found = resized_crop(images, draws.boxes, draws.flip, side)  # type: ignore[arg-type]
    assert {True, False} == set(draws.flip.tolist())
    for row, image in enumerate(images):
        expected = TF.resized_crop(image, *draws.boxes[row].tolist(), [side, side], antialias=True)  # type: ignore[index]
        expected = expected.flip(2) if draws.flip[row] else expected
        torch.testing.assert_close(found[row], expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("box", [(0, 0, 40, 33), (0, 0, 32, 32), (39, 32, 1, 1), (3, 4, 32, 7)])
def test_crops_at_the_edges_and_of_one_pixel(box: tuple[int, ...]) -> None:
    images = pictures()[3:5].float() / 255
    found = resized_crop(images, np.array([box] * 2), np.zeros(2, bool), 32)
    torch.testing.assert_close(found, TF.resized_crop(images, *box, [32, 32], antialias=True), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    "strengths",
    [(0.8, 0, 0, 0), (0, 0.8, 0, 0), (0, 0, 0.8, 0), (0, 0, 0, 0.5), (0.4, 0.4, 0, 0), (0.4, 0.4, 0.2, 0.1)],
)
def test_jitter_is_torchvisions_in_each_images_own_order(strengths: tuple[float, float, float, float]) -> None:
    images, draws = pictures().float() / 255, drawn(Augmentation(jitter=strengths, jitter_probability=0.9))
    found = jitter(images.clone(), draws)
    assert len({tuple(order) for order in draws.order.tolist()}) > 15
    for row, image in enumerate(images):
        # Small chroma divides, so a hue's rounding shows.
        torch.testing.assert_close(found[row], torchvision_jitter(image, draws, row), rtol=0, atol=5e-6)


def test_hue_turned_by_a_third_swaps_the_colours() -> None:
    images = pictures().float() / 255
    turned = hue(images, torch.full((COUNT,), 1 / 3))
    torch.testing.assert_close(turned, images.roll(1, dims=1), rtol=0, atol=2e-6)


def test_blur_is_torchvisions_with_each_images_own_sigma() -> None:
    images = pictures(64, 64).float() / 255
    sigmas = torch.linspace(0.1, 9.0, COUNT)
    found = gaussian_blur(images, sigmas)
    for row, image in enumerate(images):
        expected = TF.gaussian_blur(image, [blur_kernel(64)] * 2, [float(sigmas[row])] * 2)
        torch.testing.assert_close(found[row], expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("side", [32, 96])
def test_whole_views_are_torchvisions(side: int) -> None:
    images, draws = pictures(), drawn()
    for share in (draws.flip, draws.jitter, draws.gray, draws.sigma > 0, draws.solarize):
        assert {True, False} == set(share.tolist())
    found = augment(images, draws, side, MEAN, STD)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    for row, image in enumerate(images):
        expected = torchvision_view(image.float() / 255, draws, row, side)
        # A pixel that is 1/2 but for rounding may be inverted in one and not in the other.
        differs = ((found[row] - expected).abs() > 2e-5).float().mean()
        assert differs <= (1e-3 if draws.solarize[row] else 0), row


def test_a_step_for_all_images_is_as_one_for_some() -> None:
    everything = Augmentation((0.2, 1.0), (0.4, 0.4, 0.4, 0.1), 1, 1, (0.1, 2.0), 1, 1, 1)
    images, draws = pictures(), drawn(everything)
    found = augment(images, draws, 32, MEAN, STD)
    for row, image in enumerate(images):
        expected = torchvision_view(image.float() / 255, draws, row, 32)
        assert ((found[row] - expected).abs() > 2e-5).float().mean() < 5e-3


def test_ready_crops_and_float_images_are_taken_too() -> None:
    images, draws = pictures(32, 32), drawn(height=32, width=32)
    whole = np.array([[0, 0, 32, 32]] * COUNT)
    expected = augment(images, draws._replace(boxes=whole, flip=np.zeros(COUNT, bool)), 32, MEAN, STD)
    floats = images.float() / 255
    for given in (images, images.contiguous(memory_format=torch.channels_last), floats):
        found = augment(given, draws._replace(boxes=None), 32, MEAN, STD)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(floats, images.float() / 255, rtol=0, atol=0)


def test_an_images_view_does_not_depend_on_the_batch_it_is_in() -> None:
    images, draws = pictures(), drawn()
    whole = augment(images, draws, 32, MEAN, STD)
    rows = np.array([5, 41, 17])
    few = augment(images[rows], Draws(*(field[rows] for field in draws)), 32, MEAN, STD)
    torch.testing.assert_close(few, whole[rows], rtol=0, atol=2e-6)
