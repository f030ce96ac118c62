"""Methods that measure held-out images, and the records of their results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from edgebnn.errors import UserError
from edgebnn.records import Kind, Record

from ..data.datasets import Batch
from ..data.hugging_face import HuggingFace
from ..data.module import Images
from ..data.sources import ImageFolder
from ..data.tables import source_name
from .base import Method


class MeasuringMethod(Method):
    """A method that measures the held-out images and writes records of the results.

    Attributes:
        kind: kind of its records.
    """

    may_collapse: ClassVar[bool] = False
    kind: ClassVar[Kind] = "accuracy"

    def origin(self) -> dict[str, Any]:
        """Returns the part of a record's context that says where the measured network comes from."""
        raise NotImplementedError

    def on_validation_end(self) -> None:
        data: Images = self.trainer.datamodule  # type: ignore[attr-defined]
        self.skipped = len(data.skipped())

    def record(self, name: str, protocol: str, values: dict[str, float], epochs: int, **more: Any) -> Record:
        """Returns a record of a result.

        Args:
            name: the model's name.
            protocol: how it was measured.
            values: the results by name.
            epochs: epochs of training.
            more: further entries of the context.
        """
        data: Images = self.trainer.datamodule  # type: ignore[attr-defined]
        context = {
            "protocol": protocol + label_share(data),
            "data": data_name(data),
            "epochs": epochs,
            "seed": data.seed,
            "trained_on": data.count("train"),
            "skipped": self.skipped,
            **self.origin(),
        }
        listed = getattr(data, "train_list", None)
        if listed is not None:
            context["train_list"] = Path(listed).name
        return Record(self.kind, name, {key: round(value, 4) for key, value in values.items()}, context | more)


class ClassifyingMethod(MeasuringMethod):
    """Counts the correct answers of a classifier on the held-out images.

    A subclass builds `network` and sets `protocol`.
    """

    classifies: ClassVar[bool] = True
    protocol: ClassVar[str]

    def on_validation_epoch_start(self) -> None:
        # Integers, so that the sum over batches and processes is exact: top-1 correct, top-5 correct, images.
        self.counts = torch.zeros(3, dtype=torch.long, device=self.device)

    def validation_step(self, batch: Batch) -> None:
        (images,), labels = batch
        scores = self.network(images)
        self.counts += count_correct(scores.topk(min(5, scores.shape[1]), dim=1).indices, labels)

    def on_validation_epoch_end(self) -> None:
        self.counts = self.trainer.strategy.reduce(self.counts, reduce_op="sum")
        self.values = accuracies(self.counts, self.network.outputs)
        for name, value in self.values.items():
            self.log(f"val/{name}", value, prog_bar=name == "top1", sync_dist=True)

    def records(self, name: str, epochs: int) -> list[Record]:
        trained = sum(parameter.numel() for parameter in self.network.parameters() if parameter.requires_grad)
        more = {"images": int(self.counts[2]), "trained_parameters": trained}
        return [self.record(name, self.protocol, self.values, epochs, **more)]


def count_correct(ranked: Tensor, labels: Tensor) -> Tensor:
    """Returns three counts (3,): top-1 correct, top-5 correct, and all images.

    Args:
        ranked: class numbers (N, min(5, classes)) by descending score.
        labels: the correct class numbers (N,).
    """
    hits = ranked == labels[:, None]
    return torch.stack([hits[:, 0].sum(), hits.any(dim=1).sum(), hits.new_tensor(len(hits), dtype=torch.long)])


def accuracies(counts: Tensor, classes: int) -> dict[str, float]:
    """Returns the accuracies in percent: `top1`, and `top5` if there are more than 5 classes.

    Args:
        counts: what `count_correct` returns (3,).
        classes: number of classes.
    """
    right, within_five, images = counts.tolist()
    # With five classes or fewer, top-5 is always 100%.
    return {"top1": 100 * right / images} | ({"top5": 100 * within_five / images} if classes > 5 else {})


def check_single_label(data: Images) -> None:
    """Raises `UserError` if an image of the data may have several classes."""
    if data.multi_label:
        raise UserError(f"images of {type(data).__name__} may have several classes; use VocSVM, or other data")


def label_share(data: Images) -> str:
    """Returns the end of a protocol's name for `data.subset`, such as ", 1% of labels". Empty without a subset."""
    if data.subset is None:
        return ""
    if data.subset.file_list is not None:
        return f", labels of {Path(data.subset.file_list).name}"
    each = data.subset.per_class
    return f", {each} labels a class" if each else f", {100 * (data.subset.share or 0):g}% of labels"


def data_name(data: Images) -> str:
    """Returns the name of the data in records: the class, and for folders and hub data sets also their own name."""
    kind = ImageFolder if isinstance(data, ImageFolder) else type(data)
    return describe_data(kind.__name__, {key: getattr(data, key, None) for key in ("root", "path")})


def describe_data(kind: str, arguments: Mapping[str, Any]) -> str:
    """Returns the `data_name` of data that a configuration describes.

    Args:
        kind: name of the data's class.
        arguments: its arguments in the configuration.
    """
    if kind == ImageFolder.__name__ and arguments.get("root"):
        return f"{kind} {Path(arguments['root']).resolve().name}"
    if kind == HuggingFace.__name__ and arguments.get("path"):
        return f"{kind} {source_name(arguments['path'])}"
    return kind
