"""Random views of a whole batch at once, each image by its own draw, on whatever device the batch is.

Every step does to each image what torchvision's v2 function of that name does to it alone, in float. What is drawn
lies in NumPy (`edgebnn.ssl.views.Draws`), so that which images take part in a step is known without asking the
device, and a step's cost is that of the images it changes.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgebnn.ssl.views import Draws, blur_kernel

LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green, blue in a gray value: ITU-R BT.601, as torchvision rounds them."""


def augment(images: Tensor, draws: Draws, resolution: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalised views (N, 3, resolution, resolution), float32, channels_last.

    Crop, flip, colour jitter, gray, blur, solarisation, in that order, as each image's draw says.

    Args:
        images: uint8, or float in [0, 1]; (N, 3, H, W), or, where `draws.boxes` is None, crops (N, 3, resolution,
            resolution) that are flipped already.
    """
    views = images / 255 if images.dtype == torch.uint8 else images.to(torch.float32, copy=True)
    if draws.boxes is not None:
        views = resized_crop(views, draws.boxes, draws.flip, resolution)
    views = jitter(views, draws)
    views = on_rows(views, np.flatnonzero(draws.gray), lambda rows, _: gray(rows).repeat(1, 3, 1, 1))
    views = on_rows(views, np.flatnonzero(draws.sigma), gaussian_blur, draws.sigma)
    views = on_rows(views, np.flatnonzero(draws.solarize), lambda rows, _: torch.where(rows >= 0.5, 1 - rows, rows))
    shift, scale = (views.new_tensor(values)[:, None, None] for values in (mean, std))
    return views.sub_(shift).div_(scale).contiguous(memory_format=torch.channels_last)


def on_rows(
    images: Tensor, rows: np.ndarray, change: Callable[[Tensor, Tensor], Tensor], values: np.ndarray | None = None
) -> Tensor:
    """`images` with `rows` of them replaced by `change(those, their values)`; may write into `images`."""
    if not len(rows):
        return images
    theirs = images.new_tensor((np.zeros(len(images)) if values is None else values)[rows])
    if len(rows) == len(images):
        return change(images, theirs)
    where = torch.from_numpy(rows).to(images.device)
    return images.index_copy_(0, where, change(images.index_select(0, where), theirs))


def resized_crop(images: Tensor, boxes: np.ndarray, flip: np.ndarray, side: int) -> Tensor:
    """Crops (N, 3, side, side), bilinear with antialiasing, mirrored where `flip` says.

    A resize is linear in rows and in columns: two matrix products, whose matrices hold the box and the mirroring too.
    """
    height, width = images.shape[2:]
    top, left, tall, wide = images.new_tensor(boxes).T
    down = resize_matrix(top, tall, height, side)
    across = resize_matrix(left, wide, width, side)
    if flip.any():
        mirrored = torch.from_numpy(flip).to(images.device)[:, None, None]
        across = torch.where(mirrored, across.flip(1), across)
    return _both_ways(down, images, across)


def _both_ways(down: Tensor, images: Tensor, across: Tensor) -> Tensor:
    """down image across^T, of every channel: (N, R, H), (N, C, H, W), (N, S, W) give (N, C, R, S)."""
    count, channels, height, width = images.shape
    narrow = images.reshape(count, channels * height, width) @ across.mT
    return down[:, None] @ narrow.view(count, channels, height, -1)


def resize_matrix(start: Tensor, size: Tensor, source: int, side: int) -> Tensor:
    """The matrices (N, side, source) that resize pixels start .. start + size - 1 of `source` to `side`.

    Output i lies at `centre` = start + (i + 1/2) size / side; its weights are a triangle around it, as wide as an
    output's pixel or, when enlarging, an input's, cut at the crop's edges and summing to 1.
    """
    scale = (size / side)[:, None, None]
    outputs = torch.arange(side, device=start.device)[None, :, None] + 0.5
    inputs = torch.arange(source, device=start.device)[None, None, :] + 0.5
    start, end = start[:, None, None], (start + size)[:, None, None]
    weights = (1 - (inputs - start - scale * outputs).abs() / scale.clamp(min=1)).clamp(min=0)
    weights = weights * ((inputs > start) & (inputs < end))
    return weights / weights.sum(dim=2, keepdim=True)


def jitter(images: Tensor, draws: Draws) -> Tensor:
    """Brightness, contrast, saturation and hue by `draws.factors`, each image in its own order."""
    # What changes nothing, as a strength of 0 does for all images, is left out.
    used = [step for step in range(4) if (draws.factors[draws.jitter, step] != (step < 3)).any()]
    place = np.argsort(draws.order, axis=1)[:, used]
    turn = np.argsort(place, axis=1)
    for time in range(len(used)):
        for number, step in enumerate(used):
            rows = np.flatnonzero(draws.jitter & (turn[:, time] == number))
            images = on_rows(images, rows, JITTER[step], draws.factors[:, step])
    return images


def gray(images: Tensor) -> Tensor:
    """Gray values (N, 1, H, W)."""
    red, green, blue = images.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[:, None]


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    return (images * factors[:, None, None, None]).clamp_(0, 1)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    return _blend(images, gray(images).mean(dim=(1, 2, 3), keepdim=True), factors)


def saturation(images: Tensor, factors: Tensor) -> Tensor:
    return _blend(images, gray(images), factors)


def _blend(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    factors = factors[:, None, None, None]
    return (others * (1 - factors)).add(images * factors).clamp_(0, 1)


def hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turns the hue, value and saturation kept.

    With value V, chroma C and hue H in sixths of a turn, red, green and blue are V - C max(0, min(k, 4 - k, 1)) at
    k = (n + H) mod 6, n = 5, 3, 1.
    """
    red, green, blue = images.unbind(1)
    value, least = images.amax(1), images.amin(1)
    chroma = value - least
    safe = torch.where(chroma == 0, 1, chroma)
    is_red, is_green = value == red, value == green
    ahead = torch.where(is_red, green - blue, torch.where(is_green, blue - red, red - green))
    sixths = ahead / safe + torch.where(is_red, 0.0, torch.where(is_green, 2.0, 4.0)) + 6 * turns[:, None, None]
    colours = []
    for number in (5, 3, 1):
        k = (sixths + number).remainder(6)
        colours.append(value - chroma * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(colours, dim=1)


JITTER = (brightness, contrast, saturation, hue)


def gaussian_blur(images: Tensor, sigmas: Tensor) -> Tensor:
    """Blurs square images (N, 3, S, S) over `blur_kernel(S)` pixels, edges reflected: again two matrix products."""
    side = images.shape[3]
    taps = _taps(side, blur_kernel(side), images.device)
    offsets = torch.arange(len(taps), device=images.device) - len(taps) // 2
    kernels = F.softmax(-0.5 * (offsets / sigmas[:, None]) ** 2, dim=1)
    matrices = (kernels @ taps.flatten(1)).view(-1, side, side)
    return _both_ways(matrices, images, matrices)


@lru_cache(maxsize=4)
def _taps(side: int, kernel: int, device: torch.device) -> Tensor:
    """For each tap of the kernel the matrix (side, side) that shifts by it, reflecting at the edges."""
    reach = kernel // 2
    line = torch.arange(side, dtype=torch.float32)[None, None]
    places = F.pad(line, (reach, reach), mode="reflect")[0, 0].long()
    return torch.stack([F.one_hot(places[tap : tap + side], side).float() for tap in range(kernel)]).to(device)
