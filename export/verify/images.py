"""Images to verify an exported file with."""

from pathlib import Path
from typing import get_args

import numpy as np

from edgebnn.bundled import BundledName
from edgebnn.errors import UserError, check
from edgebnn.graph import ModelInfo
from edgebnn.runtime import preprocess

from .limits import NOISE

BUNDLED: tuple[BundledName, ...] = get_args(BundledName)
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".ppm"}


def load(source: str, info: ModelInfo, count: int) -> np.ndarray:
    """Up to `count` normalised images (N, 3, H, W), float32.

    Args:
        source: "noise" for standard normal noise with a fixed seed, the name of a bundled set
            ("mnist5k", "digits") for its test images, or a folder searched for image files.
        info: the model's resolution and normalisation.
        count: the most images to take.

    Raises:
        UserError: the folder is missing or holds no image, or a file in it is not one.
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
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise UserError(f"data folder {folder} holds no image ({', '.join(sorted(SUFFIXES))}); give another folder")
    # Folders are sorted by class, so take images from all over rather than the first ones.
    chosen = [paths[index] for index in np.linspace(0, len(paths) - 1, min(count, len(paths))).astype(int)]
    return np.concatenate([preprocess.image(path, info) for path in chosen])


def _bundled(source: BundledName, count: int, info: ModelInfo) -> np.ndarray:
    """The first held-out images of a bundled set, as training evaluates on them."""
    # Imported here, since torchvision takes seconds.
    from torchvision.transforms.v2 import functional as TF

    from edgebnn.bundled import read_bundled
    from edgebnn.ssl.views import fixed_view

    images, _ = read_bundled(source).val
    resized = TF.resize(images[:count], [info.resolution] * 2, antialias=True)
    return fixed_view(info.resolution, info.mean, info.std, resize=False)(resized).numpy()
