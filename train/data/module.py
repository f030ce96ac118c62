"""What every data set shares: which batches come when, and how views are made of them."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torchvision.transforms import v2

from edgebnn.errors import UserError
from edgebnn.graph.info import IMAGENET_MEAN, IMAGENET_STD
from edgebnn.ssl.augment import augment
from edgebnn.ssl.views import Augmentation, fixed_view

from ..parallel.distributed import rank, union, world_size
from ..parallel.launch import cores
from .datasets import Batch, DrawnBatch, EncodedImages, MemoryImages, View
from .loader import Loader, Plan
from .order import epoch_order, evaluation_batches, last_weights, part_size, training_batches
from .subset import Subset

Part = Literal["train", "val"]

MOCO_V2 = Augmentation()


class Images(LightningDataModule):
    """Labelled images in two parts, train and val.

    A method gets batches (views, labels): a list of views (N, 3, resolution, resolution), normalised float32, as
    many as it asks for, one in evaluation; class numbers (N,). Everything drawn is a function of the seed, the epoch,
    the image and the view; so the number of processes, workers and accumulated batches changes no view, nor does
    stopping and resuming.

    Args:
        resolution: side of the views.
        mean, std: normalisation; None takes a pretrained network's, or else the data set's own.
        batch_size: images of an optimiser's step, over all processes and accumulated batches.
        workers: processes that load, for each training process, no more than it may use cores; 0 loads in that
            itself.
        augmentation: random views of training.
        second_augmentation: of the second view, where a method's two differ (BYOL); None for as the others.
        small_resolution: side of the small views, for methods that ask for some (SwAV).
        subset: which training images are used; None for all.
        drop_last: whether the images left over after an epoch's last whole batch are dropped, as pretraining has it.
            False makes a smaller step of them, as linear evaluations have it.
        seed: what the order and the views of every epoch are drawn from.

    Attributes:
        labels: names of the classes in the order of their numbers; known after `setup`.
        multi_label: whether an image may have several classes; its class number then says nothing.
    """

    labels: tuple[str, ...] = ()
    multi_label: ClassVar[bool] = False
    MEAN: tuple[float, ...] = IMAGENET_MEAN
    STD: tuple[float, ...] = IMAGENET_STD

    def __init__(
        self,
        *,
        resolution: int = 224,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        batch_size: int = 256,
        workers: int = 8,
        augmentation: Augmentation = MOCO_V2,
        second_augmentation: Augmentation | None = None,
        small_resolution: int | None = None,
        subset: Subset | None = None,
        drop_last: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.resolution = resolution
        # A pretrained network brings its own normalisation where the configuration gives none (train/methods/base.py).
        self.normalisation_given = mean is not None or std is not None
        self.mean: tuple[float, ...] = tuple(mean or self.MEAN)
        self.std: tuple[float, ...] = tuple(std or self.STD)
        self.batch_size = batch_size
        self.workers = min(workers, cores())
        self.augmentation = augmentation
        self.second_augmentation = second_augmentation
        self.small_resolution = small_resolution
        self.subset = subset
        self.drop_last = drop_last
        self.seed = seed
        self.broken: set[str] = set()

    def check(self, world: int = 1, accumulate: int = 1, small_views: int = 0, partial: bool = True) -> None:
        """Raises `UserError` for values that make no data; not in the constructor, as `OptimizerConfig.check`.

        Args:
            world: processes that will train together.
            accumulate: batches that make one step.
            small_views: how many of them the method asks for.
            partial: whether the method takes a last step of fewer images.
        """
        sides = min(self.resolution, self.resolution if self.small_resolution is None else self.small_resolution)
        if sides < 1 or self.batch_size < 1 or self.workers < 0 or min(self.std) <= 0:
            raise UserError(
                f"resolution {sides}, batch_size {self.batch_size}, workers {self.workers}, std {self.std} "
                "make no data; give 1 or more of the first two, 0 or more workers, and a positive std"
            )
        for chosen in (self.augmentation, self.second_augmentation, self.subset):
            if chosen is not None:
                chosen.check()
        part_size(self.batch_size, world, accumulate)
        if small_views and self.small_resolution is None:
            raise UserError(f"the method asks for {small_views} small views; give data.small_resolution")
        if not (self.drop_last or partial):
            raise UserError(
                "data.drop_last false makes a last step of fewer images, which this method does not take; leave it out"
            )

    def images(self, part: Part) -> MemoryImages | EncodedImages:
        """One part's images; of train, the subset in use."""
        raise NotImplementedError

    def count(self, part: Part) -> int:
        """Number of a part's images."""
        return len(self.images(part))

    def fixed(self) -> v2.Transform:
        """What evaluation sees of an image."""
        return fixed_view(self.resolution, self.mean, self.std)

    def skipped(self) -> list[str]:
        """The files that could not be read so far, in any process. All processes have to ask."""
        return sorted(union(self.broken))

    def epoch(self) -> int:
        """The epoch in training, from 0."""
        return self.trainer.current_epoch if self.trainer else 0

    def start_batch(self) -> int:
        """How many batches of this epoch are done: more than 0 in a run that goes on in the middle of one.

        It is the trainer's count of a process' batches, accumulated ones each by itself, and right from the moment
        that the trainer asks for the epoch's first batch, when it has settled what a checkpoint brought.
        """
        training = self.trainer is not None and self.trainer.training
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready if training else 0  # type: ignore[union-attr]

    def weights(self) -> Tensor | None:
        """Returns the weights (N,) of the images of the batch in training; None where all weigh the same.

        Only a last step of fewer images has any (`train.data.order.last_weights`).
        """
        assert self.trainer is not None
        accumulate = self.accumulate()
        step, number = divmod(self.trainer.fit_loop.batch_idx, accumulate)
        whole, left = divmod(self.count("train"), self.batch_size)
        if step < whole:
            return None
        return torch.from_numpy(last_weights(left, self.batch_size, world_size(), rank(), accumulate, number))

    def accumulate(self) -> int:
        """Number of batches that make one step."""
        return self.trainer.accumulate_grad_batches if self.trainer else 1

    def views(self) -> list[View]:
        """What the method in training asks for; one view where there is none."""
        method: Any = self.trainer and self.trainer.lightning_module
        large, small = (getattr(method, name, number) for name, number in (("views", 1), ("small_views", 0)))
        kinds = [self.augmentation] * large
        if large > 1 and self.second_augmentation is not None:
            kinds[1] = self.second_augmentation
        views = [View(kind, kind.crop, self.resolution) for kind in kinds]
        if small:
            assert self.small_resolution is not None  # `check` sees to that
            views += [View(self.augmentation, self.augmentation.small_crop, self.small_resolution)] * small
        return views

    def train_dataloader(self) -> Loader:
        """This process' share of an epoch; which epoch, and from where in it, is settled at its first batch."""
        images = self.images("train")
        count = self._checked_count(images) if self.drop_last else len(images)

        def plan() -> Plan:
            epoch = self.epoch()
            order = epoch_order(count, self.seed, epoch)
            shared = self.batch_size, world_size(), rank(), self.accumulate()
            batches = training_batches(order, *shared, drop_last=self.drop_last)
            read = partial(images.drawn, views=self.views(), seed=self.seed, epoch=epoch)
            return read, batches[self.start_batch() :]

        steps = count // self.batch_size if self.drop_last else -(-count // self.batch_size)
        return Loader(plan, steps * self.accumulate(), self.workers, self.broken)

    def fixed_train_dataloader(self, *, shuffled: bool = False) -> Loader:
        """The training images as evaluation sees them, in order, shared among the processes.

        Args:
            shuffled: whole batches in random order, every process all of them, as BatchNorm's statistics need.
        """
        if not shuffled:
            return self._evaluation("train")
        images = self.images("train")
        order = epoch_order(self._checked_count(images), self.seed, 0)
        return self._fixed(images, training_batches(order, self.batch_size))

    def val_dataloader(self) -> Loader:
        """The held-out images in order, shared among the processes."""
        return self._evaluation("val")

    def on_after_batch_transfer(self, batch: DrawnBatch | Batch, dataloader_idx: int) -> Batch:
        # Images and networks (`fit` sees to those) keep a pixel's channels together: on CPUs and GPUs alike
        # convolutions then take about half the time.
        if not isinstance(batch, DrawnBatch):
            views, labels = batch
            return [view.contiguous(memory_format=torch.channels_last) for view in views], labels
        sources = batch.images * (len(batch.draws) // len(batch.images))
        views = [
            augment(images, draws, view.resolution, self.mean, self.std)
            for images, draws, view in zip(sources, batch.draws, self.views())
        ]
        if self.trainer is not None:
            # Lightning converted what came before the views were made: float64 where it computes in that.
            views = self.trainer.precision_plugin.convert_input(views)
        return views, batch.labels

    def _evaluation(self, part: Part) -> Loader:
        size = -(-self.batch_size // (world_size() * self.accumulate()))
        images = self.images(part)
        return self._fixed(images, evaluation_batches(len(images), size, world_size(), rank()))

    def _fixed(self, images: MemoryImages | EncodedImages, batches: Sequence[np.ndarray] | np.ndarray) -> Loader:
        def plan() -> Plan:
            # Not before the first batch, when the normalisation is settled.
            return partial(images.fixed, transform=self.fixed()), batches

        return Loader(plan, len(batches), self.workers, self.broken)

    def _checked_count(self, images: MemoryImages | EncodedImages) -> int:
        if len(images) < self.batch_size:
            raise UserError(
                f"a batch of {self.batch_size} is more than all {len(images)} training images; lower data.batch_size"
            )
        return len(images)
