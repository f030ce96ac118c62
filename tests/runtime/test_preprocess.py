import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from edgebnn.errors import UserError
from edgebnn.graph import ModelInfo
from edgebnn.runtime import preprocess


def save_noise(path: Path, width: int, height: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    picture = Image.fromarray(pixels).convert(mode)
    picture.save(path)
    return picture


@pytest.mark.parametrize("resolution", [32, 64, 224])
@pytest.mark.parametrize("size", [(300, 201), (90, 151), (224, 224)])
def test_it_is_torchvisions_evaluation_transform(tmp_path: Path, resolution: int, size: tuple[int, int]) -> None:
    info = ModelInfo(resolution=resolution, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    picture = save_noise(tmp_path / "p.png", *size)
    side = {32: 32, 64: 73, 224: 256}[resolution]
    transform = v2.Compose(
        [
            v2.Resize(side),
            v2.CenterCrop(resolution),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(info.mean, info.std),
        ]
    )
    # The same bytes, so only float32's rounding is left.
    np.testing.assert_allclose(
        preprocess.load_image(tmp_path / "p.png", info), transform(picture)[None].numpy(), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("p.tif" if mode == "CMYK" else "p.png")
    picture = save_noise(path, 32, 32, mode)
    info = ModelInfo(resolution=32, mean=(0, 0, 0), std=(1, 1, 1))
    expected = np.asarray(picture.convert("RGB"), np.float32).transpose(2, 0, 1)[None] / 255
    np.testing.assert_allclose(preprocess.load_image(path, info), expected, rtol=1e-6, atol=0)


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    save_noise(path, 64, 64)
    whole = path.read_bytes()
    for data in (b"no image at all", whole[: len(whole) // 2], whole[:30], b"\0" * 50):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"p\.png is no image"):
            preprocess.load_image(path, ModelInfo(resolution=32))
    with pytest.raises(UserError, match=r"image .*absent\.png does not exist"):
        preprocess.load_image(tmp_path / "absent.png", ModelInfo())
    Image.new("RGB", (3000, 1)).save(path)
    with pytest.raises(UserError, match="3000x1 pixels; crop it"):
        preprocess.load_image(path, ModelInfo())


def test_without_pillow_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_noise(tmp_path / "p.png", 8, 8)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UserError, match="pip install pillow"):
        preprocess.load_image(tmp_path / "p.png", ModelInfo(resolution=8))


def test_pixels_of_the_right_size_need_no_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = ModelInfo(resolution=32, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    picture = save_noise(tmp_path / "p.png", 32, 32)
    expected = preprocess.load_image(tmp_path / "p.png", info)
    np.save(tmp_path / "p.npy", np.asarray(picture))
    monkeypatch.setitem(sys.modules, "PIL", None)
    np.testing.assert_array_equal(preprocess.load_image(tmp_path / "p.npy", info), expected)
    for wrong in (np.zeros((32, 32, 3), np.float32), np.zeros((3, 32, 32), np.uint8)):
        np.save(tmp_path / "p.npy", wrong)
        with pytest.raises(UserError, match=r"the model takes uint8 \(32, 32, 3\)"):
            preprocess.load_image(tmp_path / "p.npy", info)
    # A header cut short, one whose brackets do not close, an archive that is none.
    for damaged in (b"\x93NUMPY", b"\x93NUMPY\x01\x00\x02\x00((", b"PK\x03\x04"):
        (tmp_path / "p.npy").write_bytes(damaged)
        with pytest.raises(UserError, match="no array NumPy can read"):
            preprocess.load_image(tmp_path / "p.npy", info)
