"""The base class of data sets: the order of batches, normalisation, and views."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torchvision.transforms import v2

from edgebnn.errors import UserError
from edgebnn.graph import ModelInfo
from edgebnn.graph.info import IMAGENET_MEAN, IMAGENET_STD
from edgebnn.ssl.augment import augment
from edgebnn.ssl.views import Augmentation, fixed_view

from ..parallel.distributed import rank, union_of_names, world_size
from ..parallel.launch import usable_cores
from .datasets import Batch, DrawnBatch, EncodedImages, MemoryImages, ViewSpec
from .loader import BatchLoader, LoadingPlan
from .order import epoch_order, evaluation_batches, last_weights, part_size, training_batches
from .subset import Subset

Part = Literal["train", "val"]

MOCO_V2 = Augmentation()


class Images(LightningDataModule):
    """Labelled images in two parts: `train`, and `val`, which is held out.

    A batch is (views, labels). Views are a list of normalised float32 tensors (N, 3, resolution, resolution): as many
    as the method asks for in training, and one in an evaluation. Labels are class numbers (N,).

    Every random number depends only on the seed, the epoch, the image and the view. The number of processes, workers
    and accumulated batches changes no view. Stopping and resuming changes none either.

    Args:
        resolution: side of the views in pixels.
        mean: normalisation per channel of images scaled to [0, 1]. None for the pretrained network's, or else the data
            set's own.
        std: as `mean`.
        batch_size: images per optimizer step, over all processes and accumulated batches.
        workers: number of loading processes per training process. It is never more than the cores that the training
            process may use. 0 loads in the training process itself.
        augmentation: random views for training.
        second_augmentation: for the second view, if a method's two views differ (BYOL). None for the same.
        small_resolution: side of the small views in pixels, for methods that use them (SwAV).
        subset: which training images are used. None for all.
        drop_last: whether to drop the images left over after an epoch's last whole batch, as in pretraining. False
            makes a smaller last step of them, as in linear evaluation.
        seed: seed of the order and the views.

    Attributes:
        labels: class names in the order of their numbers, known after `setup`.
        multi_label: whether an image may have several classes. Its class number then has no meaning.
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
        # `use_normalisation` may replace a normalisation that no configuration and no network has asked for.
        self._normalisation_is_fixed = mean is not None or std is not None
        self.mean: tuple[float, ...] = tuple(mean or self.MEAN)
        self.std: tuple[float, ...] = tuple(std or self.STD)
        self.batch_size = batch_size
        self.workers = min(workers, usable_cores())
        self.augmentation = augmentation
        self.second_augmentation = second_augmentation
        self.small_resolution = small_resolution
        self.subset = subset
        self.drop_last = drop_last
        self.seed = seed
        self.broken: set[str] = set()

    def check(self, world: int = 1, accumulate: int = 1, small_views: int = 0, partial: bool = True) -> None:
        """Raises `UserError` if an argument is wrong.

        The constructor does not check, because jsonargparse would hide its errors in a long message.

        Args:
            world: number of training processes.
            accumulate: accumulated batches per optimizer step.
            small_views: number of small views that the method asks for.
            partial: whether the method takes a last step with fewer images.
        """
        sides = min(self.resolution, self.resolution if self.small_resolution is None else self.small_resolution)
        if sides < 1 or self.batch_size < 1 or self.workers < 0 or min(self.std) <= 0:
            raise UserError(
                f"resolution {sides}, batch_size {self.batch_size}, workers {self.workers}, std {self.std} "
                "are out of range; give 1 or more of the first two, 0 or more workers, and a positive std"
            )
        for chosen in (self.augmentation, self.second_augmentation, self.subset):
            if chosen is not None:
                chosen.check()
        part_size(self.batch_size, world, accumulate)
        if small_views and self.small_resolution is None:
            raise UserError(f"the method asks for {small_views} small views; give data.small_resolution")
        if not (self.drop_last or partial):
            raise UserError(
                "data.drop_last false makes a smaller last step, which this method does not take; leave it out"
            )

    def use_normalisation(self, network: ModelInfo, *, needed_by: str) -> None:
        """Normalises the images as a trained network needs them.

        A method calls it in `prepare` for every trained network that it loads: a teacher, an initial checkpoint, or the
        network that an evaluation measures. If the configuration has no `mean` and `std`, the data take those of the
        first network. A pretrained network so keeps its normalisation on other data.

        Args:
            network: the description of the network.
            needed_by: the network, for the message.

        Raises:
            UserError: the configuration, or an earlier network, fixed another normalisation.
        """
        if not self._normalisation_is_fixed:
            self.mean, self.std = tuple(network.mean), tuple(network.std)
            self._normalisation_is_fixed = True
        if not self.has_normalisation(network):
            raise UserError(
                f"{needed_by} expects images normalised by mean {list(network.mean)}, std {list(network.std)}, the "
                f"data have mean {list(self.mean)}, std {list(self.std)}; set data.mean and data.std to the former, or "
                "leave them out"
            )

    def has_normalisation(self, network: ModelInfo) -> bool:
        """Returns whether the configuration or a network fixed exactly this network's normalisation."""
        same = (tuple(network.mean), tuple(network.std)) == (self.mean, self.std)
        return self._normalisation_is_fixed and same

    def images(self, part: Part) -> MemoryImages | EncodedImages:
        """Returns the images of a part. For `train`, these are the images of the subset."""
        raise NotImplementedError

    def count(self, part: Part) -> int:
        """Returns the number of images of a part."""
        return len(self.images(part))

    def check_held_out(self) -> None:
        """Raises `UserError` if there are no held-out images, which an evaluation needs."""
        if not self.count("val"):
            raise UserError(f"{type(self).__name__} has no held-out images; give some, to measure an accuracy")

    def fixed(self) -> v2.Transform:
        """Returns the transform of an evaluation: one view per image, without random changes."""
        return fixed_view(self.resolution, self.mean, self.std)

    def skipped(self) -> list[str]:
        """Returns the files that no process could read so far. All processes must call it together."""
        return sorted(union_of_names(self.broken))

    def epoch(self) -> int:
        """Returns the epoch of the training, from 0."""
        return self.trainer.current_epoch if self.trainer else 0

    def start_batch(self) -> int:
        """Returns the number of finished batches of this epoch. A run resumed within an epoch has more than 0.

        The trainer counts the batches of one process, each accumulated batch by itself. The count is correct from the
        moment when the trainer asks for the epoch's first batch, because it has then restored the checkpoint.
        """
        training = self.trainer is not None and self.trainer.training
        return self.trainer.fit_loop.epoch_loop.batch_progress.current.ready if training else 0  # type: ignore[union-attr]

    def weights(self) -> Tensor | None:
        """Returns the loss weights (N,) of the images of the current batch. None if all images count equally.

        Only a last step with fewer images has weights (`train.data.order.last_weights`).
        """
        assert self.trainer is not None
        accumulate = self.accumulate()
        step, number = divmod(self.trainer.fit_loop.batch_idx, accumulate)
        whole, left = divmod(self.count("train"), self.batch_size)
        if step < whole:
            return None
        return torch.from_numpy(last_weights(left, self.batch_size, world_size(), rank(), accumulate, number))

    def accumulate(self) -> int:
        """Returns the number of accumulated batches per optimizer step."""
        return self.trainer.accumulate_grad_batches if self.trainer else 1

    def views(self) -> list[ViewSpec]:
        """Returns the views that the method asks for. Without a method it is one view."""
        method: Any = self.trainer and self.trainer.lightning_module
        large, small = (getattr(method, name, number) for name, number in (("views", 1), ("small_views", 0)))
        kinds = [self.augmentation] * large
        if large > 1 and self.second_augmentation is not None:
            kinds[1] = self.second_augmentation
        views = [ViewSpec(kind, kind.crop, self.resolution) for kind in kinds]
        if small:
            assert self.small_resolution is not None  # `check` has tested it
            views += [ViewSpec(self.augmentation, self.augmentation.small_crop, self.small_resolution)] * small
        return views

    def train_dataloader(self) -> BatchLoader:
        """Returns the loader of this process's part of an epoch.

        It finds out the epoch and the position in it when its first batch is asked for.
        """
        images = self.images("train")
        count = self._checked_count(images) if self.drop_last else len(images)

        def plan() -> LoadingPlan:
            epoch = self.epoch()
            order = epoch_order(count, self.seed, epoch)
            shared = self.batch_size, world_size(), rank(), self.accumulate()
            batches = training_batches(order, *shared, drop_last=self.drop_last)
            read = partial(images.drawn, views=self.views(), seed=self.seed, epoch=epoch)
            return read, batches[self.start_batch() :]

        steps = count // self.batch_size if self.drop_last else -(-count // self.batch_size)
        return BatchLoader(plan, steps * self.accumulate(), self.workers, self.broken)

    def fixed_train_dataloader(self, *, shuffled: bool = False) -> BatchLoader:
        """Returns a loader of the training images as an evaluation sees them.

        Args:
            shuffled: if True, every process gets all images, in whole batches in random order. BatchNorm's statistics
                need that. If False, the images are in order and divided among the processes.
        """
        if not shuffled:
            return self._evaluation("train")
        images = self.images("train")
        order = epoch_order(self._checked_count(images), self.seed, 0)
        return self._fixed(images, training_batches(order, self.batch_size))

    def val_dataloader(self) -> BatchLoader:
        """Returns a loader of the held-out images, in order and divided among the processes."""
        return self._evaluation("val")

    def sample_dataloader(self, part: Part, most: int) -> BatchLoader:
        """Returns a loader of a random sample of a part, as an evaluation sees it. Every process gets all of it.

        Images that cannot be read are left out and not counted.

        Args:
            part: the part.
            most: number of images of the sample, or of all images if there are fewer.
        """
        images = self.images(part)
        chosen = epoch_order(len(images), self.seed, 0)[:most]
        size = max(1, self.batch_size // (world_size() * self.accumulate()))
        batches = [chosen[start : start + size] for start in range(0, len(chosen), size)]
        return self._fixed(images, batches, set())

    def on_after_batch_transfer(self, batch: DrawnBatch | Batch, dataloader_idx: int) -> Batch:
        # Images and networks are in channels_last (`fit` converts the networks). Convolutions then take about half
        # the time, on CPUs and on GPUs.
        if not isinstance(batch, DrawnBatch):
            views, labels = batch
            return [view.contiguous(memory_format=torch.channels_last) for view in views], labels
        sources = batch.images * (len(batch.draws) // len(batch.images))
        views = [
            augment(images, draws, view.resolution, self.mean, self.std)
            for images, draws, view in zip(sources, batch.draws, self.views())
        ]
        if self.trainer is not None:
            # Lightning converts a batch before this hook. These views are new, so they are converted here.
            views = self.trainer.precision_plugin.convert_input(views)
        return views, batch.labels

    def _evaluation(self, part: Part) -> BatchLoader:
        size = -(-self.batch_size // (world_size() * self.accumulate()))
        images = self.images(part)
        return self._fixed(images, evaluation_batches(len(images), size, world_size(), rank()))

    def _fixed(
        self,
        images: MemoryImages | EncodedImages,
        batches: Sequence[np.ndarray] | np.ndarray,
        broken: set[str] | None = None,
    ) -> BatchLoader:
        def plan() -> LoadingPlan:
            # `use_normalisation` may still change the normalisation until the first batch is asked for.
            return partial(images.fixed, transform=self.fixed()), batches

        return BatchLoader(plan, len(batches), self.workers, self.broken if broken is None else broken)

    def _checked_count(self, images: MemoryImages | EncodedImages) -> int:
        if len(images) < self.batch_size:
            raise UserError(
                f"a batch of {self.batch_size} is more than all {len(images)} training images; lower data.batch_size"
            )
        return len(images)
