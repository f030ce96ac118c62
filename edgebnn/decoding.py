"""Turns an opened image file into an upright RGB image of 8 bits, equally in training, evaluation and `predict`.

Pillow's own conversion clips values above 255. So a 16-bit image would become white, and an image of floats in [0, 1]
black.
"""

import numpy as np
from PIL import Image

from edgebnn.errors import UserError, check

ORIENTATION = 0x0112
"""EXIF's tag of how a viewer turns the picture."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What each value of EXIF's orientation asks for. From 5 on, width and height change places."""

BITS_PER_SAMPLE, SAMPLE_FORMAT = 258, 339
"""TIFF's tags."""

REMEDY = "save it with 8 or 16 bits per channel"


def upright_rgb(file: Image.Image) -> Image.Image:
    """Returns the image of an opened file as a viewer shows it: turned as EXIF says, 8 bits, RGB.

    Values of more than 8 bits are scaled by the range of their type: 65535 becomes 255 in a 16-bit image. An image
    whose values all fit into 8 bits keeps them. Transparency is ignored. An animation's first image is taken.

    Args:
        file: an image that Pillow opened.

    Raises:
        UserError: the pixels have no known range (floats, negative values), or use too little of it.
    """
    file.load()
    image = _eight_bits(file).convert("RGB")
    turn = TURNS.get(_orientation(file))
    return image if turn is None else image.transpose(turn)


def upright_size(file: Image.Image) -> tuple[int, int]:
    """Returns width and height of an opened JPEG file as a viewer shows it, without decoding it."""
    return (file.height, file.width) if _orientation(file) >= 5 else file.size


def _orientation(file: Image.Image) -> int:
    try:
        found = file.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF data raise many kinds of errors, and the pixels may be sound
        return 1
    return found if found in TURNS else 1


def _eight_bits(file: Image.Image) -> Image.Image:
    if file.mode == "F":
        raise UserError(f"its pixels are floats, whose range is not known; {REMEDY}")
    if not file.mode.startswith("I"):
        return file
    values, most = _whole_numbers(file)
    check(values.min() >= 0, f"it has negative pixels; {REMEDY}")
    largest = int(values.max())
    if largest > 255:
        levels = ((values.astype(np.int64) * 255 + most // 2) // most).astype(np.uint8)
        check(
            levels.max() > levels.min() or values.max() == values.min(),
            f"its values reach {largest} of {most}, and would all become one colour; {REMEDY}",
        )
        return Image.fromarray(levels)
    return Image.fromarray(values.astype(np.uint8))


def _whole_numbers(file: Image.Image) -> tuple[np.ndarray, int]:
    """Returns the values of an image of more than 8 bits, and the largest value of their type."""
    tags = getattr(file, "tag_v2", {})
    values, signed = np.asarray(file), tags.get(SAMPLE_FORMAT, (1,))[0] == 2
    if file.mode == "I" and file.format in ("PNG", "PPM"):
        # Pillow reads their 16 bits into 32, or did so before version 11.
        return values, (1 << 16) - 1
    if file.mode == "I" and file.format == "TIFF":
        bits = tags.get(BITS_PER_SAMPLE, (32,))[0]
        return (values, (1 << bits - 1) - 1) if signed else (values.astype(np.int64) & 0xFFFFFFFF, (1 << bits) - 1)
    bits = tags.get(BITS_PER_SAMPLE, (16,))[0] if file.mode != "I" else 31
    return values, (1 << bits) - 1
