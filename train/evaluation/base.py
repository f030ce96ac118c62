"""What every evaluation shares: the network it looks at, and what its record says."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from edgebnn import checkpoint as checkpoints
from edgebnn.errors import UserError
from edgebnn.files import sha256
from edgebnn.hints import Hints
from edgebnn.nn import Network

from ..data.datasets import Batch
from ..data.sources import Images
from ..engine.callbacks import CONFIG
from ..engine.optim import OptimizerConfig
from ..methods.base import match_normalisation
from ..methods.measured import Counted, Measured, check_single_label, described_data
from ..methods.published import load_network
from ..methods.student import Student

MEASURED = 10_000
"""Training images from which an untrained network's BatchNorm statistics are taken."""


class Evaluation(Measured):
    """Measures the accuracy that a network's features give.

    The baseline that shows what training gave is the same shape with random weights: `checkpoint: null`
    and a `student`. Random features are only comparable if normalised, so BatchNorm's statistics (and
    nothing else) are taken from the first `MEASURED` training images.

    Args:
        checkpoint: the network to evaluate, of any kind and precision; null for the untrained baseline.
        student: shape of the untrained network.
        optimizer: of what the evaluation trains.
        method: how the network was trained, for the record.
        checkpoint_hints: what the checkpoint, if it is a published file, does not say (docs/reference/checkpoints.md).

    Attributes:
        found: the checkpoint; None for the untrained baseline.
    """

    found: checkpoints.Checkpoint | None = None

    def __init__(
        self,
        checkpoint: str | None,
        student: Student | None,
        optimizer: OptimizerConfig,
        method: str,
        checkpoint_hints: Hints | None = None,
    ) -> None:
        super().__init__(optimizer)
        self.checkpoint = checkpoint
        self.checkpoint_hints = checkpoint_hints
        self.student = student
        self.method = method

    def backbone(self, data: Images) -> Network:
        """The network to evaluate, in eval.

        Raises:
            UserError: there is none or there are two, it cannot be read, or it does not fit the data.
        """
        if (self.checkpoint is None) == (self.student is None):
            raise UserError("an evaluation takes a checkpoint or an untrained student; give one of the two")
        self.check_classes(data)
        if self.student is not None:
            self.found = None
            network = self.student.with_head(())
            network.check_resolution(data.resolution)
            measure_norms(network, data.fixed_train_dataloader(shuffled=True))
            return network
        self.found = load_network(
            str(self.checkpoint), data, what="checkpoint", key="checkpoint", hints=self.checkpoint_hints
        )
        self.found.model.check_resolution(data.resolution)
        match_normalisation(self.found.info, data, f"checkpoint {self.checkpoint}")
        return self.found.model

    def check_classes(self, data: Images) -> None:
        """Raises `UserError` unless the data have classes that can be measured."""
        check_single_label(data)
        if len(data.labels) < 2:
            raise UserError(f"the data have {len(data.labels)} class; an accuracy needs two or more")
        counts = images_of_classes(data)
        if not counts.min():
            raise UserError(
                f"class {data.labels[counts.argmin()]} has no training image; mend data.subset or data.root"
            )

    def origin(self) -> dict[str, Any]:
        """What a record says of the network that was evaluated."""
        untrained = self.checkpoint is None
        facts: dict[str, Any] = {
            "method": "untrained" if untrained else self.method,
            "checkpoint": self.checkpoint,
            "sha256": None if self.checkpoint is None else sha256(self.checkpoint),
            "pretrained_on": None if self.checkpoint is None else pretraining_data(self.checkpoint),
        }
        if self.found is not None and self.found.assumed:
            facts["assumed"] = list(self.found.assumed)
        return facts


class Classification(Counted, Evaluation):
    """Trains a classifier on labels, and counts its right answers. A subclass builds `network` and names `protocol`."""

    takes_partial: ClassVar[bool] = True

    def training_step(self, batch: Batch) -> Tensor:
        (images,), labels = batch
        losses = F.cross_entropy(self.network(images), labels, reduction="none")
        data: Images = self.trainer.datamodule  # type: ignore[attr-defined]
        weights = data.weights()
        loss = losses.mean() if weights is None else (losses * weights.to(losses)).mean()
        self.log("train/loss", loss, prog_bar=True)
        return loss


def images_of_classes(data: Images) -> np.ndarray:
    """Training images of every class, (classes,), as whole numbers."""
    return np.bincount(data.images("train").class_numbers(), minlength=len(data.labels))


def pretraining_data(checkpoint: str) -> str | None:
    """The data a checkpoint of ours was trained on, from the configuration beside it; None if that does not tell."""
    try:
        chosen = yaml.safe_load((Path(checkpoint).parent / CONFIG).read_text(encoding="utf-8"))["data"]
        return described_data(chosen["class_path"].split(".")[-1], chosen["init_args"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return None


@torch.no_grad()
def measure_norms(network: Network, batches: Iterable[Batch]) -> None:
    """Sets BatchNorm's running statistics to their averages over the first batches; no weight moves.

    Args:
        network: left in eval.
        batches: training images seen as in evaluation; those beyond `MEASURED` are not looked at.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    network.train()
    for norm in norms:
        norm.reset_running_stats()
        # None is torch's word for a plain average over all batches.
        norm.momentum = None
    seen = 0
    for (images,), _ in batches:
        network.features(images)
        seen += len(images)
        if seen >= MEASURED:
            break
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    network.eval()
