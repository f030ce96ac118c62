"""What a network sees of an image: random views in training, one fixed view in evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torchvision.transforms import v2

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
        blur_probability: share of the views blurred; MoCo v2 0.5, S2-BNN 0.2.
        flip_probability: share of the views mirrored left to right.
    """

    crop: tuple[float, float] = (0.2, 1.0)
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    jitter_probability: float = 0.8
    gray_probability: float = 0.2
    blur: tuple[float, float] = (0.1, 2.0)
    blur_probability: float = 0.5
    flip_probability: float = 0.5


def random_view(
    resolution: int, mean: Sequence[float], std: Sequence[float], augmentation: Augmentation
) -> v2.Transform:
    """Makes a random, normalised view (..., 3, resolution, resolution) of an image, PIL or uint8 tensor.

    Given a stack of images (N, 3, H, W), all of them share one draw.
    """
    # A tenth of the side, as SimCLR has it, and odd.
    kernel = max(3, resolution // 20 * 2 + 1)
    steps: list[v2.Transform] = [
        v2.ToImage(),
        v2.RandomResizedCrop(resolution, augmentation.crop, antialias=True),
        v2.RandomApply([v2.ColorJitter(*augmentation.jitter)], augmentation.jitter_probability),
        v2.RandomGrayscale(augmentation.gray_probability),
        v2.RandomApply([v2.GaussianBlur(kernel, augmentation.blur)], augmentation.blur_probability),
        v2.RandomHorizontalFlip(augmentation.flip_probability),
    ]
    return v2.Compose([*steps, *_normalised(mean, std)])


def fixed_view(resolution: int, mean: Sequence[float], std: Sequence[float], *, resize: bool = True) -> v2.Transform:
    """Makes the normalised view (..., 3, resolution, resolution) that evaluation sees: resized, centre crop.

    Without `resize` the image must have that resolution already.
    """
    steps: list[v2.Transform] = [v2.ToImage()]
    if resize:
        steps += [v2.Resize(resize_side(resolution), antialias=True), v2.CenterCrop(resolution)]
    return v2.Compose([*steps, *_normalised(mean, std)])


def _normalised(mean: Sequence[float], std: Sequence[float]) -> list[v2.Transform]:
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std)), v2.ToPureTensor()]
