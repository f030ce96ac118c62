"""Loads the images that an exported file is verified with."""

from pathlib import Path
from typing import get_args

import numpy as np

from edgebnn.bundled import BundledName
from edgebnn.errors import UserError, check
from edgebnn.graph import ModelInfo
from edgebnn.runtime import preprocess

from .limits import NOISE

BUNDLED: tuple[BundledName, ...] = get_args(BundledName)
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tif", ".tiff"}


def load_images(source: str, info: ModelInfo, count: int) -> np.ndarray:
    """Returns up to `count` normalised images (N, 3, H, W), float32.

    Args:
        source: "noise" for standard normal noise with a fixed seed, "mnist5k" or "digits" for the held-out images of
            that bundled set, or a folder that is searched for image files at any depth.
        info: the model's resolution and normalisation.
        count: the largest number of images.

    Raises:
        UserError: the folder is missing, it holds no image, or an image file cannot be read.
    """
    check(count > 0, f"{count} images asked for; ask for 1 or more")
    if source == NOISE:
        shape = (count, 3, info.resolution, info.resolution)
        return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    for name in BUNDLED:
        if source == name:
            return _bundled(name, count, info)
    folder = Path(source)
    check(folder.is_dir(), f"data folder {folder} does not exist; give a folder of images, {NOISE}, or a bundled set")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not _hidden(path, folder))
    if not paths:
        raise UserError(f"data folder {folder} holds no image ({', '.join(sorted(SUFFIXES))}); give another folder")
    # Paths are sorted by class folder. Spread the choice over all of them, so that it covers many classes.
    chosen = [paths[index] for index in np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)]
    return np.concatenate([preprocess.load_image(path, info) for path in chosen])


def _hidden(path: Path, folder: Path) -> bool:
    """Returns whether the name of a file, or of a folder that holds it, begins with a dot: macOS's `._x.jpg`."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _bundled(source: BundledName, count: int, info: ModelInfo) -> np.ndarray:
    """Returns the first held-out images of a bundled set, prepared as the evaluations of training prepare them."""
    # Imported here because importing torchvision takes seconds.
    from torchvision.transforms.v2 import functional as TF

    from edgebnn.bundled import read_bundled
    from edgebnn.ssl.views import fixed_view

    images, _ = read_bundled(source).val
    resized = TF.resize(images[:count], [info.resolution] * 2, antialias=True)
    return fixed_view(info.resolution, info.mean, info.std, resize=False)(resized).numpy()
