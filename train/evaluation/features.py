"""The base class of evaluations that train no network: they use the frozen, pooled features of both parts."""

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from edgebnn.nn import Network
from edgebnn.progress import progress_bar

from ..data.datasets import Batch
from ..data.loader import BatchLoader
from ..data.sources import Images
from ..parallel.distributed import gather, rank, world_size
from .base import Evaluation

Features = tuple[Tensor, Tensor]
"""Pooled features (N, num_features), float32 and of length 1, and class numbers (N,)."""


class FeatureEvaluation(Evaluation):
    """Computes the features of the training part and of the held-out part once, without augmentation.

    A subclass implements `measure`. Each of several processes computes the features of its part of the images. Then all
    processes get all features, in the order of the images.
    """

    trains: ClassVar[bool] = False

    def prepare(self, data: Images) -> None:
        self.network = self.backbone(data).requires_grad_(False)

    def measure(self, train: Features, val: Features) -> None:
        """Measures the results that `records` returns.

        Args:
            train: features of the training part.
            val: features of the held-out part.
        """
        raise NotImplementedError

    def on_validation_epoch_start(self) -> None:
        self.held_out: list[Features] = []

    def validation_step(self, batch: Batch) -> None:
        self.held_out.append(compute_features(self.network, batch))

    def on_validation_epoch_end(self) -> None:
        data: Images = self.trainer.datamodule  # type: ignore[attr-defined]
        to_device = self.trainer.strategy.batch_to_device
        with self.trainer.precision_plugin.val_step_context():
            # No variable holds the batches' features, so they are freed. ImageNet's take gigabytes.
            train = merge_features(
                [compute_features(self.network, to_device(batch)) for batch in _shown(data.fixed_train_dataloader())],
                data.count("train"),
            )
        self.measure(train, merge_features(self.held_out, data.count("val")))


def _shown(batches: BatchLoader) -> Iterator[Batch]:
    """Yields the batches. The first process shows how far they have come."""
    if rank() > 0:
        yield from batches
        return
    with progress_bar(len(batches), "features of the training images", "batch") as bar:
        for batch in batches:
            yield batch
            bar.update()


@torch.no_grad()
def compute_features(network: Network, batch: Batch) -> Features:
    """Returns the features of one batch."""
    (images,), labels = batch
    return F.normalize(network.features(images).float()), labels


def merge_features(parts: list[Features], count: int) -> Features:
    """Returns the features of all processes in the order of the images.

    Process r of w has the images r, r + w, r + 2 w ... (`train.data.order.evaluation_batches`).

    Args:
        parts: the batches' features of this process.
        count: number of all images. Fewer features are returned if images could not be read.
    """
    rows, labels = (torch.cat(tensors) for tensors in zip(*parts))
    if world_size() == 1:
        return rows, labels
    most = -(-count // world_size())
    rows, labels = _interleaved(rows, most), _interleaved(labels, most)
    return rows[labels >= 0], labels[labels >= 0]


def _interleaved(mine: Tensor, most: int) -> Tensor:
    """Returns row 0 of every process in the order of the ranks, then row 1, up to row `most` - 1.

    Missing rows of a process are filled with -1.
    """
    padded = torch.cat([mine, mine.new_full((most - len(mine), *mine.shape[1:]), -1)])
    return gather(padded).unflatten(0, (world_size(), most)).transpose(0, 1).flatten(0, 1)
