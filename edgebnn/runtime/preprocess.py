"""Prepares image files for a model, as the evaluations do: resize, centre crop, normalise."""

from pathlib import Path

import numpy as np

from edgebnn.errors import UserError, check
from edgebnn.files import existing_file
from edgebnn.graph.info import ModelInfo, resize_side

MAX_ASPECT = 50
"""The largest ratio of the sides. Resizing an image one pixel high and 60,000 wide would take gigabytes."""


def load_image(path: str | Path, info: ModelInfo) -> np.ndarray:
    """Returns the normalised image of a file, float32 (1, 3, resolution, resolution).

    The short side is resized to 256/224 of the resolution, or to the resolution itself below 64 pixels. Resizing is
    bilinear with antialiasing. Then the centre is cut out. torchvision's `Resize` and `CenterCrop` do the same.

    EXIF's orientation is applied. Images of 16 and 32 bits are scaled by the range of their type. Images of floats are
    refused, because their range is not known.

    An `.npy` file must hold pixels of the final size, uint8 (resolution, resolution, 3), in the order red, green, blue.
    It is neither resized nor cut, and needs no Pillow.

    Args:
        path: an image file, or an `.npy` file.
        info: the model's resolution and normalisation.

    Raises:
        UserError: the file is missing, is no image, holds floats, or holds pixels of another size, or Pillow is not
            installed.
    """
    if Path(path).suffix == ".npy":
        return _normalised(_pixels(existing_file(path, "image"), info.resolution), info)
    try:
        from PIL import Image

        from edgebnn import decoding
    except ImportError:
        raise UserError("reading image files needs Pillow; pip install pillow, or give .npy files") from None
    path = existing_file(path, "image")
    try:
        with Image.open(path) as file:
            picture = decoding.upright_rgb(file)
    except UserError as error:
        raise UserError(f"{path} cannot be used: {error}") from None
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

    return _normalised(np.asarray(picture), info)


def normalise(pixels: np.ndarray, info: ModelInfo) -> np.ndarray:
    """Returns the normalised image of pixels in memory, such as a camera's: float32 (1, 3, resolution, resolution).

    Args:
        pixels: uint8 (resolution, resolution, 3), in the order red, green, blue.
        info: the model's resolution and normalisation.

    Raises:
        UserError: the pixels have another type or shape.
    """
    wanted, found = f"uint8 {(info.resolution, info.resolution, 3)}", f"{pixels.dtype} {pixels.shape}"
    check(found == wanted, f"the pixels are {found}, the model takes {wanted}; resize and crop them first")
    return _normalised(pixels, info)


def _pixels(path: Path, side: int) -> np.ndarray:
    try:
        pixels = np.load(path, allow_pickle=False)
    except Exception as error:  # damaged headers and archives raise many kinds of exception
        raise UserError(f"{path} is no array NumPy can read ({error}); save one with numpy.save") from None
    found = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else "several arrays"
    check(found == f"uint8 {(side, side, 3)}", f"{path} holds {found}; the model takes uint8 {(side, side, 3)}")
    return pixels


def _normalised(pixels: np.ndarray, info: ModelInfo) -> np.ndarray:
    """Returns pixels uint8 (H, W, 3) as normalised float32 (1, 3, H, W)."""
    scaled = pixels.astype(np.float32) / np.float32(255)
    normalised = (scaled - np.array(info.mean, np.float32)) / np.array(info.std, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1))[None]
