"""Makes random views of a whole batch at once, on the device of the batch. Each image has its own draw.

Every step changes an image like torchvision's v2 function of the same name, in floats. The draws are NumPy arrays
(`edgebnn.ssl.views.Draws`). So the images that take part in a step are known without asking the device, and a step
costs only the images that it changes.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgebnn.ssl.views import Draws, blur_kernel

LUMA = (0.2989, 0.587, 0.114)
"""The weights of red, green and blue in a gray value: ITU-R BT.601, rounded as in torchvision."""


def augment(images: Tensor, draws: Draws, resolution: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Returns normalised views (N, 3, resolution, resolution), float32, channels_last.

    The steps are crop, flip, colour jitter, gray, blur and solarisation, in this order.

    Args:
        images: uint8, or floats in [0, 1], (N, 3, H, W). If `draws.boxes` is None they are crops
            (N, 3, resolution, resolution) that are flipped already.
        draws: the draw of each image.
        resolution: side of the views in pixels.
        mean, std: the normalisation.
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
    """Returns the images with some of them changed. It may overwrite `images`.

    Args:
        images: (N, 3, H, W).
        rows: numbers of the images to change.
        change: a function (images, values) -> images.
        values: one value per image, of which `change` gets those of `rows`; None for zeros.
    """
    if not len(rows):
        return images
    selected = images.new_tensor((np.zeros(len(images)) if values is None else values)[rows])
    if len(rows) == len(images):
        return change(images, selected)
    where = torch.from_numpy(rows).to(images.device)
    return images.index_copy_(0, where, change(images.index_select(0, where), selected))


def resized_crop(images: Tensor, boxes: np.ndarray, flip: np.ndarray, side: int) -> Tensor:
    """Returns crops (N, 3, side, side), resized bilinearly with antialiasing, and mirrored where `flip` is true.

    A resize is linear in rows and in columns. So it is two matrix products. Their matrices contain the box and the
    mirroring too.
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
    """Returns down @ image @ across^T for every channel: (N, R, H), (N, C, H, W), (N, S, W) -> (N, C, R, S)."""
    count, channels, height, width = images.shape
    narrow = images.reshape(count, channels * height, width) @ across.mT
    return down[:, None] @ narrow.view(count, channels, height, -1)


def resize_matrix(start: Tensor, size: Tensor, source: int, side: int) -> Tensor:
    """Returns matrices (N, side, source) that resize the pixels start .. start + size - 1 of a line to `side` pixels.

    Output i is at start + (i + 1/2) size / side. Its weights are a triangle around this position, as wide as one output
    pixel, or as one input pixel when the image is enlarged. They are cut at the edges of the crop, and their sum is 1.
    """
    scale = (size / side)[:, None, None]
    outputs = torch.arange(side, device=start.device)[None, :, None] + 0.5
    inputs = torch.arange(source, device=start.device)[None, None, :] + 0.5
    start, end = start[:, None, None], (start + size)[:, None, None]
    weights = (1 - (inputs - start - scale * outputs).abs() / scale.clamp(min=1)).clamp(min=0)
    weights = weights * ((inputs > start) & (inputs < end))
    return weights / weights.sum(dim=2, keepdim=True)


def jitter(images: Tensor, draws: Draws) -> Tensor:
    """Changes brightness, contrast, saturation and hue by `draws.factors`, in each image's own order."""
    # A step that changes no image, because its strength is 0, is skipped.
    used = [step for step in range(4) if (draws.factors[draws.jitter, step] != (step < 3)).any()]
    place = np.argsort(draws.order, axis=1)[:, used]
    turn = np.argsort(place, axis=1)
    for time in range(len(used)):
        for number, step in enumerate(used):
            rows = np.flatnonzero(draws.jitter & (turn[:, time] == number))
            images = on_rows(images, rows, JITTER[step], draws.factors[:, step])
    return images


def gray(images: Tensor) -> Tensor:
    """Returns the gray values (N, 1, H, W) of images (N, 3, H, W)."""
    red, green, blue = images.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[:, None]


def brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Returns images (N, 3, H, W) with their brightness multiplied by factors (N,)."""
    return (images * factors[:, None, None, None]).clamp_(0, 1)


def contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Returns images (N, 3, H, W) with their contrast multiplied by factors (N,)."""
    return _blend(images, gray(images).mean(dim=(1, 2, 3), keepdim=True), factors)


def saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Returns images (N, 3, H, W) with their saturation multiplied by factors (N,)."""
    return _blend(images, gray(images), factors)


def _blend(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    factors = factors[:, None, None, None]
    return (others * (1 - factors)).add(images * factors).clamp_(0, 1)


def hue(images: Tensor, turns: Tensor) -> Tensor:
    """Returns images (N, 3, H, W) with their hue shifted by turns (N,). Value and saturation stay equal.

    With value V, chroma C and hue H in sixths of a turn, red, green and blue are V - C max(0, min(k, 4 - k, 1)) with
    k = (n + H) mod 6 and n = 5, 3, 1.
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
    """Returns square images (N, 3, S, S) blurred over `blur_kernel(S)` pixels, with reflected edges.

    The blur is two matrix products.
    """
    side = images.shape[3]
    taps = _taps(side, blur_kernel(side), images.device)
    offsets = torch.arange(len(taps), device=images.device) - len(taps) // 2
    kernels = F.softmax(-0.5 * (offsets / sigmas[:, None]) ** 2, dim=1)
    matrices = (kernels @ taps.flatten(1)).view(-1, side, side)
    return _both_ways(matrices, images, matrices)


@lru_cache(maxsize=4)
def _taps(side: int, kernel: int, device: torch.device) -> Tensor:
    """Returns, for each tap of the kernel, the matrix (side, side) that shifts by it and reflects at the edges."""
    reach = kernel // 2
    line = torch.arange(side, dtype=torch.float32)[None, None]
    places = F.pad(line, (reach, reach), mode="reflect")[0, 0].long()
    return torch.stack([F.one_hot(places[tap : tap + side], side).float() for tap in range(kernel)]).to(device)
