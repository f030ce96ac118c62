"""The base class of evaluations: loads the network to measure, and describes it in records."""

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
from ..methods.measured import ClassifyingMethod, MeasuringMethod, check_single_label, describe_data
from ..methods.published import load_network
from ..methods.student import Student

BATCHNORM_IMAGES = 10_000
"""Number of training images from which an untrained network's BatchNorm statistics are measured."""


class Evaluation(MeasuringMethod):
    """Measures the accuracy that is possible with a network's features.

    The untrained baseline shows what the pretraining gained. It has the same shape and random weights: `checkpoint:
    null` and a `student`. Random features are only comparable if they are normalised. So the BatchNorm statistics, and
    nothing else, are measured on the first `BATCHNORM_IMAGES` training images.

    Args:
        checkpoint: the network to evaluate, binary or real-valued. None for the untrained baseline.
        student: shape of the untrained network.
        optimizer: optimizer of what the evaluation trains.
        method: how the network was trained, for the record.
        checkpoint_hints: what a published checkpoint does not say (docs/reference/checkpoints.md).

    Attributes:
        found: the loaded checkpoint. None for the untrained baseline.
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
        """Returns the network to evaluate, in eval mode.

        It tells the data the normalisation that the network needs.

        Args:
            data: the images, after `setup`.

        Raises:
            UserError: there is no network or there are two, it cannot be read, or it does not fit the data.
        """
        if (self.checkpoint is None) == (self.student is None):
            raise UserError("an evaluation takes a checkpoint or an untrained student; give one of the two")
        self.check_classes(data)
        if self.student is not None:
            self.found = None
            network = self.student.with_head(())
            network.check_resolution(data.resolution)
            measure_batchnorms(network, data.fixed_train_dataloader(shuffled=True))
            return network
        self.found = load_network(
            str(self.checkpoint), data, what="checkpoint", key="checkpoint", hints=self.checkpoint_hints
        )
        self.found.model.check_resolution(data.resolution)
        data.use_normalisation(self.found.info, needed_by=f"checkpoint {self.checkpoint}")
        return self.found.model

    def check_classes(self, data: Images) -> None:
        """Raises `UserError` if an accuracy on the classes of the data cannot be measured."""
        check_single_label(data)
        if len(data.labels) < 2:
            raise UserError(f"the data have {len(data.labels)} class; an accuracy needs two or more")
        counts = images_of_classes(data)
        if not counts.min():
            raise UserError(
                f"class {data.labels[counts.argmin()]} has no training image; correct data.subset or data.root"
            )

    def origin(self) -> dict[str, Any]:
        """Returns the part of a record's context that describes the evaluated network."""
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


class Classification(ClassifyingMethod, Evaluation):
    """Trains a classifier on labels and counts its correct answers.

    A subclass builds `network` and sets `protocol`.
    """

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
    """Returns the number of training images of each class (classes,)."""
    return np.bincount(data.images("train").class_numbers(), minlength=len(data.labels))


def pretraining_data(checkpoint: str) -> str | None:
    """Returns the name of the data that one of our checkpoints was trained on.

    It is read from the configuration beside the checkpoint. Returns None if there is no such configuration.
    """
    try:
        chosen = yaml.safe_load((Path(checkpoint).parent / CONFIG).read_text(encoding="utf-8"))["data"]
        return describe_data(chosen["class_path"].split(".")[-1], chosen["init_args"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return None


@torch.no_grad()
def measure_batchnorms(network: Network, batches: Iterable[Batch]) -> None:
    """Sets BatchNorm's running statistics to their averages over the first batches. It changes no weight.

    Args:
        network: the network. It is in eval mode afterwards.
        batches: training images as an evaluation sees them. Only the first `BATCHNORM_IMAGES` images are used.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    network.train()
    for norm in norms:
        norm.reset_running_stats()
        # With None, torch computes a plain average over all batches.
        norm.momentum = None
    seen = 0
    for (images,), _ in batches:
        network.features(images)
        seen += len(images)
        if seen >= BATCHNORM_IMAGES:
            break
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    network.eval()
