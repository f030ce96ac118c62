"""Evaluations that train no network: frozen pooled features of both parts, and what is made of them."""

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor

from edgebnn.nn import Network
from train.data import Images
from train.datasets import Batch
from train.distributed import gather
from train.evaluation import Evaluation

Features = tuple[Tensor, Tensor]
"""Pooled features (N, num_features), float32, each of length 1, and class numbers (N,)."""


class FeatureEvaluation(Evaluation):
    """Computes the features of the training part and of the held-out part once, without augmentation.

    A subclass writes `measure`. With several processes each computes its part of every batch, and all
    of them then have all features.
    """

    trains: ClassVar[bool] = False

    def prepare(self, data: Images) -> None:
        self.network = self.backbone(data).requires_grad_(False)

    def measure(self, train: Features, val: Features) -> None:
        """Works out what `records` gives."""
        raise NotImplementedError

    def validation_step(self, batch: Batch) -> None:
        self.held_out.append(features(self.network, batch))

    def on_validation_epoch_start(self) -> None:
        self.held_out: list[Features] = []

    def on_validation_epoch_end(self) -> None:
        data: Images = self.trainer.datamodule  # type: ignore[attr-defined]
        with self.trainer.precision_plugin.val_step_context():
            bank = extract(self.network, map(self.trainer.strategy.batch_to_device, data.fixed_train_dataloader()))
        self.measure(bank, joined(self.held_out))


@torch.no_grad()
def extract(network: Network, batches: Iterable[Batch]) -> Features:
    """Features of all batches, from all processes, in the batches' order."""
    return joined([features(network, batch) for batch in batches])


@torch.no_grad()
def features(network: Network, batch: Batch) -> Features:
    """Features of one batch of this and all sister processes."""
    (images,), labels = batch
    return gather(torch.nn.functional.normalize(network.features(images).float())), gather(labels)


def joined(parts: list[Features]) -> Features:
    """The features of several batches as one."""
    rows, labels = zip(*parts)
    return torch.cat(rows), torch.cat(labels)
