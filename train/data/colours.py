"""Warns of images that are nearly one colour, as when their pixels are stored in a way that nobody expected."""

import numpy as np

from .datasets import EncodedImages, MemoryImages, UnreadableError, read_rgb

SAMPLE = 32
"""Number of images that are looked at."""

NEARLY_ONE = 16
"""An image is nearly one colour if no channel spans more levels of 255 than this: 12 bits in a file of 16 bits do."""

MANY = 0.5
"""The warning comes if more than this share of the images that were looked at is nearly one colour."""


def one_colour_warning(images: MemoryImages | EncodedImages, name: str) -> str | None:
    """Returns a warning if many images are nearly one colour, and else None.

    Args:
        images: the images, of which `SAMPLE` are looked at, spread evenly.
        name: the data's name for the message.
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, SAMPLE).astype(int)).tolist() if len(images) else []
    found = [plain for index in chosen if (plain := _is_plain(images, index)) is not None]
    if not found or sum(found) <= MANY * len(found):
        return None
    return (
        f"{sum(found)} of {len(found)} images of {name} that were looked at are nearly one colour; "
        "check the files (an image of 16 bits must use the whole range from 0 to 65535)"
    )


def _is_plain(images: MemoryImages | EncodedImages, index: int) -> bool | None:
    """Returns whether an image is nearly one colour, or None if it cannot be read."""
    if isinstance(images, MemoryImages):
        pixels = images.images[index].permute(1, 2, 0).numpy()
    else:
        try:
            pixels = np.asarray(read_rgb(images.encoded(index)[0]))
        except UnreadableError:
            return None
    channels = pixels.reshape(-1, 3).astype(int)
    return bool((channels.max(axis=0) - channels.min(axis=0)).max() <= NEARLY_ONE)
