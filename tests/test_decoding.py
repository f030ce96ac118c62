"""Unusual image files: deep pixels and turned photographs become what a viewer shows."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgebnn import decoding
from edgebnn.errors import UserError
from edgebnn.graph import ModelInfo
from edgebnn.runtime import preprocess
from edgebnn.ssl.views import NUMBERS, Augmentation
from edgebnn.train.data.datasets import UnreadableError, ViewSpec, random_crops, read_rgb

GREY = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)


def decoded(path: Path, image: Image.Image, **options: Any) -> np.ndarray:
    image.save(path, **options)
    with Image.open(path) as file:
        return np.asarray(decoding.upright_rgb(file))


@pytest.mark.parametrize("name", ["g.png", "g.tif", "g.pgm"])
def test_16_bits_are_scaled_by_their_range(tmp_path: Path, name: str) -> None:
    found = decoded(tmp_path / name, Image.fromarray(GREY.astype(np.uint16) * 257))
    np.testing.assert_array_equal(found, GREY[..., None].repeat(3, axis=2))
    deep = np.random.default_rng(1).integers(0, 65536, (20, 30), np.uint16)
    found = decoded(tmp_path / name, Image.fromarray(deep))
    np.testing.assert_array_equal(found[..., 0], np.floor(deep / 65535 * 255 + 0.5))


@pytest.mark.parametrize(("bits", "signed"), [(32, True), (32, False), (16, True)])
def test_tiff_says_the_range_of_its_numbers(tmp_path: Path, bits: int, signed: bool) -> None:
    path, most = tmp_path / "g.tif", 2 ** (bits - signed) - 1
    deep = np.random.default_rng(1).integers(0, most, (20, 30), np.int64, endpoint=True)
    kind, tags = (np.uint16, {339: 2}) if bits == 16 else (np.uint32, {})
    Image.fromarray(deep.astype(kind).view(np.uint16 if bits == 16 else np.int32)).save(path, tiffinfo=tags)
    if not signed:
        # Pillow writes 32 bits as signed numbers. Tag 339 is a list of one short: 2 is signed, 1 is not.
        whole, tag = path.read_bytes(), struct.pack("<HHI", 339, 3, 1)
        assert whole.count(tag + b"\2\0") == 1
        path.write_bytes(whole.replace(tag + b"\2", tag + b"\1"))
    with Image.open(path) as file:
        assert file.mode == "I"
        found = np.asarray(decoding.upright_rgb(file))[..., 0]
    np.testing.assert_array_equal(found, np.floor(deep / most * 255 + 0.5))


def test_8_bits_in_a_wider_type_stay_as_they_are(tmp_path: Path) -> None:
    for kind in (np.uint16, np.int32):
        found = decoded(tmp_path / "g.tif", Image.fromarray(GREY.astype(kind)))
        np.testing.assert_array_equal(found[..., 0], GREY)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (GREY.astype(np.float32) / 255, "floats, whose range is not known; save it with 8 or 16 bits"),
        (GREY.astype(np.int32) - 10, "negative pixels; save it"),
        (GREY.astype(np.int32) * 257, "reach 65535 of 2147483647, and would all become one colour; save it"),
    ],
)
def test_pixels_without_a_range_are_refused(tmp_path: Path, pixels: np.ndarray, words: str) -> None:
    path = tmp_path / "g.tif"
    with pytest.raises(UserError, match=words):
        decoded(path, Image.fromarray(pixels))
    with pytest.raises(UserError, match=rf"g\.tif cannot be used: .*{words}"):
        preprocess.load_image(path, ModelInfo(resolution=16))
    view = ViewSpec(Augmentation(), (0.2, 1.0), 16)
    for read in (lambda: read_rgb(str(path)), lambda: random_crops(str(path), [view], np.zeros((1, NUMBERS)))):
        with pytest.raises(UnreadableError, match=words) as caught:
            read()
        assert caught.value.advice


TURNS = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.swapaxes(0, 1)}
TURNS |= {6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: np.rot90, 9: lambda a: a}


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_turns_the_picture(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"p.{suffix}"
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (3, 4, 3), np.uint8)).resize((64, 48), Image.Resampling.BICUBIC)
    options = {"lossless": True} if suffix == "webp" else {"quality": 95} if suffix == "jpg" else {}
    tag = Image.Exif()
    tag[0x0112] = orientation
    found = decoded(path, picture, exif=tag, **options)
    plain = decoded(tmp_path / f"plain.{suffix}", picture, **options)
    np.testing.assert_array_equal(found, TURNS[orientation](plain))
    # Training crops the upright picture. A crop of the whole is the picture.
    view = ViewSpec(Augmentation(), (1.0, 1.0), 12)
    upright = Image.fromarray(found)
    upright.save(tmp_path / "upright.png")
    numbers = np.full((1, NUMBERS), 0.5)
    crop, expected = (random_crops(str(file), [view], numbers)[0] for file in (path, tmp_path / "upright.png"))
    # A JPEG is decoded at a fraction of its size, so two levels of 255 on average.
    assert np.abs(crop.astype(int) - expected).mean() < (4 if suffix == "jpg" else 1e-9)
    np.testing.assert_array_equal(np.asarray(read_rgb(str(path))), found)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_turn_nothing(tmp_path: Path) -> None:
    picture = Image.fromarray(GREY).convert("RGB")
    for exif in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0", b"nonsense"):
        np.testing.assert_array_equal(decoded(tmp_path / "p.png", picture, exif=exif), np.asarray(picture))
