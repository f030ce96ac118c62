"""Evaluations that train no network: frozen pooled features of both parts, and what is made of them."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from edgebnn.nn import Network

from ..data.datasets import Batch
from ..data.sources import Images
from ..parallel.distributed import gather, world_size
from .base import Evaluation

Features = tuple[Tensor, Tensor]
"""Pooled features (N, num_features), float32, each of length 1, and class numbers (N,)."""


class FeatureEvaluation(Evaluation):
    """Computes the features of the training part and of the held-out part once, without augmentation.

    A subclass writes `measure`. With several processes each computes its share of the images, and all of
    them then have all features, in the images' order.
    """

    trains: ClassVar[bool] = False

    def prepare(self, data: Images) -> None:
        self.network = self.backbone(data).requires_grad_(False)

    def measure(self, train: Features, val: Features) -> None:
        """Works out what `records` gives."""
        raise NotImplementedError

    def on_validation_epoch_start(self) -> None:
        self.held_out: list[Features] = []

    def validation_step(self, batch: Batch) -> None:
        self.held_out.append(features(self.network, batch))

    def on_validation_epoch_end(self) -> None:
        data: Images = self.trainer.datamodule  # type: ignore[attr-defined]
        to_device = self.trainer.strategy.batch_to_device
        with self.trainer.precision_plugin.val_step_context():
            # No name holds the batches' features: of ImageNet they are gigabytes, and are here twice already.
            train = together(
                [features(self.network, to_device(batch)) for batch in data.fixed_train_dataloader()],
                data.count("train"),
            )
        self.measure(train, together(self.held_out, data.count("val")))


@torch.no_grad()
def features(network: Network, batch: Batch) -> Features:
    """Features of one batch."""
    (images,), labels = batch
    return F.normalize(network.features(images).float()), labels


def together(parts: list[Features], count: int) -> Features:
    """The features from the batches of every process, in the images' order.

    Process r of w has the images r, r + w, r + 2 w ... (`train.data.order.evaluation_batches`).

    Args:
        parts: of this process.
        count: number of images there are; fewer features come back if broken ones were left out.
    """
    rows, labels = (torch.cat(tensors) for tensors in zip(*parts))
    if world_size() == 1:
        return rows, labels
    most = -(-count // world_size())
    rows, labels = _interleaved(rows, most), _interleaved(labels, most)
    return rows[labels >= 0], labels[labels >= 0]


def _interleaved(mine: Tensor, most: int) -> Tensor:
    """Row i of every process in the order of the ranks, then row i + 1, up to `most`; short ones end with -1."""
    padded = torch.cat([mine, mine.new_full((most - len(mine), *mine.shape[1:]), -1)])
    return gather(padded).unflatten(0, (world_size(), most)).transpose(0, 1).flatten(0, 1)
