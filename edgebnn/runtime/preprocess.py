"""Image files to what a model takes, as in evaluation: resize, centre crop, normalise."""

from pathlib import Path

import numpy as np

from edgebnn.errors import UserError, check
from edgebnn.files import existing_file
from edgebnn.graph.info import ModelInfo, resize_side

MAX_ASPECT = 50
"""An image one pixel high and 60,000 wide would grow to gigabytes."""


def image(path: str | Path, info: ModelInfo) -> np.ndarray:
    """Reads an image file: float32 (1, 3, resolution, resolution), normalised.

    The short side is resized to 256/224 of the resolution (from 64 pixels up; the resolution itself
    below), bilinear with antialiasing, and the centre is cut out, as torchvision's `Resize` and
    `CenterCrop` do it.

    Raises:
        UserError: Pillow is not installed, or the file is missing or no image.
    """
    try:
        from PIL import Image
    except ImportError:
        raise UserError("reading image files needs Pillow; pip install pillow") from None
    path = existing_file(path, "image")
    try:
        with Image.open(path) as file:
            picture = file.convert("RGB")
    except (OSError, ValueError, SyntaxError, RuntimeError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is no image Pillow can read ({error}); give a PNG or JPEG file") from None

    resolution = info.resolution
    short = resize_side(resolution)
    least = min(picture.size)
    check(max(picture.size) <= MAX_ASPECT * least, f"{path} is {picture.width}x{picture.height} pixels; crop it first")
    width, height = (side * short // least for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - resolution) / 2), round((height - resolution) / 2)
    picture = picture.crop((left, top, left + resolution, top + resolution))

    pixels = np.asarray(picture, np.float32) / np.float32(255)
    normalised = (pixels - np.array(info.mean, np.float32)) / np.array(info.std, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1))[None]
