"""What every evaluation shares: the network it looks at, and what its record says."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from edgebnn import checkpoint as checkpoints
from edgebnn.checkpoint.source import Hints
from edgebnn.errors import UserError
from edgebnn.files import sha256
from edgebnn.nn import Network
from edgebnn.records import Kind, Record

from ..data.datasets import Batch
from ..data.hugging_face import HuggingFace, source_name
from ..data.sources import ImageFolder, Images
from ..engine.callbacks import CONFIG
from ..engine.optim import OptimizerConfig
from ..methods.base import Method, match_normalisation
from ..methods.published import load_network
from ..methods.student import Student

MEASURED = 10_000
"""Training images from which an untrained network's BatchNorm statistics are taken."""


class Evaluation(Method):
    """Measures the accuracy that a network's features give.

    The baseline that shows what training gave is the same shape with random weights: `checkpoint: null`
    and a `student`. Random features are only comparable if normalised, so BatchNorm's statistics (and
    nothing else) are taken from the first `MEASURED` training images.

    Args:
        checkpoint: the network to evaluate, of any kind and precision; null for the untrained baseline.
        student: shape of the untrained network.
        optimizer: of what the evaluation trains.
        method: how the network was trained, for the record.
        checkpoint_hints: what the checkpoint, if it is a published file, does not say (docs/checkpoints.md).

    Attributes:
        kind: of its records.
        found: the checkpoint; None for the untrained baseline.
    """

    may_collapse: ClassVar[bool] = False
    kind: ClassVar[Kind] = "accuracy"
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

    def on_validation_end(self) -> None:
        data: Images = self.trainer.datamodule  # type: ignore[attr-defined]
        self.skipped = len(data.skipped())

    def record(self, name: str, protocol: str, values: dict[str, float], epochs: int, **more: Any) -> Record:
        """A record of the model `name`; `more` is added to its context."""
        data: Images = self.trainer.datamodule  # type: ignore[attr-defined]
        context = {
            "protocol": protocol + label_share(data),
            "data": data_name(data),
            "epochs": epochs,
            "seed": data.seed,
            "trained_on": data.count("train"),
            "skipped": self.skipped,
            "method": "untrained" if self.checkpoint is None else self.method,
            "checkpoint": self.checkpoint,
            "sha256": None if self.checkpoint is None else sha256(self.checkpoint),
            "pretrained_on": None if self.checkpoint is None else pretraining_data(self.checkpoint),
        }
        if self.found is not None and self.found.assumed:
            context["assumed"] = list(self.found.assumed)
        listed = getattr(data, "train_list", None)
        if listed is not None:
            context["train_list"] = Path(listed).name
        return Record(self.kind, name, {key: round(value, 4) for key, value in values.items()}, context | more)


class Classification(Evaluation):
    """Trains a classifier on labels, and counts its right answers. A subclass builds `network` and names `protocol`."""

    protocol: ClassVar[str]
    takes_partial: ClassVar[bool] = True

    def training_step(self, batch: Batch) -> Tensor:
        (images,), labels = batch
        losses = F.cross_entropy(self.network(images), labels, reduction="none")
        data: Images = self.trainer.datamodule  # type: ignore[attr-defined]
        weights = data.weights()
        loss = losses.mean() if weights is None else (losses * weights.to(losses)).mean()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        # Whole numbers, so that the sum over batches and processes is exact: right, right within five, all.
        self.counts = torch.zeros(3, dtype=torch.long, device=self.device)

    def validation_step(self, batch: Batch) -> None:
        (images,), labels = batch
        scores = self.network(images)
        self.counts += right_answers(scores.topk(min(5, scores.shape[1]), dim=1).indices, labels)

    def on_validation_epoch_end(self) -> None:
        self.counts = self.trainer.strategy.reduce(self.counts, reduce_op="sum")
        self.values = accuracies(self.counts, self.network.outputs)
        for name, value in self.values.items():
            self.log(f"val/{name}", value, prog_bar=name == "top1", sync_dist=True)

    def records(self, name: str, epochs: int) -> list[Record]:
        trained = sum(parameter.numel() for parameter in self.network.parameters() if parameter.requires_grad)
        more = {"images": int(self.counts[2]), "trained_parameters": trained}
        return [self.record(name, self.protocol, self.values, epochs, **more)]


def right_answers(ranked: Tensor, labels: Tensor) -> Tensor:
    """Counts (3,): images whose class is ranked first, images whose class is ranked at all, images.

    Args:
        ranked: class numbers (N, min(5, classes)), the best first.
        labels: the right ones, (N,).
    """
    hits = ranked == labels[:, None]
    return torch.stack([hits[:, 0].sum(), hits.any(dim=1).sum(), hits.new_tensor(len(hits), dtype=torch.long)])


def accuracies(counts: Tensor, classes: int) -> dict[str, float]:
    """`top1`, and of more than 5 classes `top5`, in percent, of the counts that `right_answers` gives."""
    right, within_five, images = counts.tolist()
    # Among five classes the right one is always within the first five.
    return {"top1": 100 * right / images} | ({"top5": 100 * within_five / images} if classes > 5 else {})


def check_single_label(data: Images) -> None:
    """Raises `UserError` if an image of the data may have several classes."""
    if data.multi_label:
        raise UserError(f"images of {type(data).__name__} may have several classes; use VocSVM, or other data")


def images_of_classes(data: Images) -> np.ndarray:
    """Training images of every class, (classes,), as whole numbers."""
    return np.bincount(data.images("train").class_numbers(), minlength=len(data.labels))


def label_share(data: Images) -> str:
    """What a protocol's name says of `data.subset`: ", 1% of labels"; nothing where all are used."""
    if data.subset is None:
        return ""
    if data.subset.files is not None:
        return f", labels of {Path(data.subset.files).name}"
    each = data.subset.per_class
    return f", {each} labels a class" if each else f", {100 * (data.subset.share or 0):g}% of labels"


def data_name(data: Images) -> str:
    """What a record calls the data: the kind, and where the data can be anything their name."""
    kind = ImageFolder if isinstance(data, ImageFolder) else type(data)
    return described_data(kind.__name__, {key: getattr(data, key, None) for key in ("root", "path")})


def described_data(kind: str, arguments: Mapping[str, Any]) -> str:
    """`data_name` of data of the class `kind` with those arguments."""
    if kind == ImageFolder.__name__ and arguments.get("root"):
        return f"{kind} {Path(arguments['root']).resolve().name}"
    if kind == HuggingFace.__name__ and arguments.get("path"):
        return f"{kind} {source_name(arguments['path'])}"
    return kind


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
