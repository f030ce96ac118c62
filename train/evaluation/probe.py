"""Measures during a pretraining how well the network's features separate the classes, on a sample of the images."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from edgebnn.nn import Network

from ..data.module import Images, Part
from ..parallel.distributed import as_single_process
from .features import Features, compute_features
from .knn import knn_accuracies

BANK, QUERIES = 2000, 500
"""Training images and held-out images of a probe."""

LEAST = 200
"""Fewest images of the bank that say anything."""

SHARE = 0.05
"""Largest cost of the probes by default: images that they see, as a share of the images of the training."""

NEIGHBOURS, TEMPERATURE = 20, 0.07


def probe_interval(images: int, seen: int) -> int:
    """Returns the epochs from one probe to the next, so that probes see at most `SHARE` of the images.

    Args:
        images: training images of an epoch.
        seen: images of a probe.
    """
    return max(1, -(-seen // max(1, int(SHARE * images))))


class NeighbourProbe(Callback):
    """Logs `val/knn_top1`: the accuracy in percent of k nearest neighbours on the pooled features.

    The bank is a sample of the training images, the queries are a sample of the held-out images. Both samples are the
    same in every epoch. A probe uses no random number of the training and changes nothing of it, so a run with probes
    ends with the same bits as a run without them. The first process measures.

    Nothing is logged if the images have no labels, or if there are fewer than `LEAST` training images.

    Args:
        epochs: epochs from one probe to the next. 0 turns probes off. None for `probe_interval`.
    """

    def __init__(self, epochs: int | None) -> None:
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        data: Images = trainer.datamodule  # type: ignore[attr-defined]
        if not (getattr(pl_module, "may_collapse", False) and self._can_measure(data)):
            return
        every = self.epochs
        if every is None:
            images = int(trainer.num_training_batches) * data.batch_size // trainer.accumulate_grad_batches
            every = probe_interval(images, min(BANK, data.count("train")) + min(QUERIES, data.count("val")))
        if every == 0 or (trainer.current_epoch + 1) % every or not trainer.is_global_zero:
            return
        with as_single_process():
            value = self.measure(trainer, pl_module, data)
        pl_module.log("val/knn_top1", value, prog_bar=True, rank_zero_only=True)

    def measure(self, trainer: Trainer, pl_module: LightningModule, data: Images) -> float:
        """Returns the accuracy in percent.

        Args:
            trainer: the trainer, for its device and precision.
            pl_module: the method. Its network is measured in eval mode.
            data: the images.
        """
        network: Any = pl_module.network
        trained = [module for module in network.modules() if module.training]
        network.eval()
        # torch's loader draws a seed from the global generator.
        with torch.random.fork_rng(devices=[]), trainer.precision_plugin.val_step_context():
            bank = _features(network, trainer, data, "train", BANK)
            queries = _features(network, trainer, data, "val", QUERIES)
        for module in trained:
            module.training = True
        k = min(NEIGHBOURS, len(bank[1]))
        return knn_accuracies(bank, queries, len(data.labels), k, TEMPERATURE)["top1"]

    def _can_measure(self, data: Images) -> bool:
        labelled = len(data.labels) > 1 and not data.multi_label
        return labelled and data.count("train") >= LEAST and data.count("val") > 0


def _features(network: Network, trainer: Trainer, data: Images, part: Part, most: int) -> Features:
    """Returns the features of a sample of a part."""
    parts = []
    for batch in data.sample_dataloader(part, most):
        parts.append(compute_features(network, trainer.strategy.batch_to_device(batch)))
    rows, labels = (torch.cat(tensors) for tensors in zip(*parts))
    return rows, labels
