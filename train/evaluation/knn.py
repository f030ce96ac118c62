"""Weighted k nearest neighbours on frozen features (Wu et al., CVPR 2018, section 3.4)."""

import torch
from lightly.utils.benchmarking import knn_predict
from torch import Tensor

from edgebnn.errors import UserError
from edgebnn.hints import Hints
from edgebnn.records import Record

from ..data.module import Images
from ..engine.optim import OptimizerConfig
from ..methods.measured import accuracies, count_correct
from ..methods.student import Student
from .features import FeatureEvaluation, Features

FLOATS = 1 << 27
"""Floats that a chunk of queries may use beside the bank: half a gigabyte."""


class KNN(FeatureEvaluation):
    """Classifies a held-out image by the votes of its k nearest training images.

    Nearness is the cosine similarity s of the pooled features. A neighbour's vote is exp(s / T). Nothing is trained, so
    k and T are the only settings.

    Args:
        checkpoint: the network to evaluate, binary or real-valued. None for the untrained baseline.
        student: shape of the untrained network, in place of a checkpoint.
        k: number of neighbours. Wu et al. use 200 on ImageNet. A small data set needs fewer.
        temperature: T of the votes.
        method: how the network was trained, for the record.
        checkpoint_hints: what a published checkpoint does not say (docs/reference/checkpoints.md).
    """

    def __init__(
        self,
        checkpoint: str | None = None,
        student: Student | None = None,
        k: int = 200,
        temperature: float = 0.07,
        method: str = "unknown",
        checkpoint_hints: Hints | None = None,
    ) -> None:
        super().__init__(checkpoint, student, OptimizerConfig(), method, checkpoint_hints)
        self.k = k
        self.temperature = temperature

    def prepare(self, data: Images) -> None:
        check_neighbours(self.k, self.temperature, data)
        super().prepare(data)

    def measure(self, train: Features, val: Features) -> None:
        data: Images = self.trainer.datamodule  # type: ignore[attr-defined]
        self.values = knn_accuracies(train, val, len(data.labels), self.k, self.temperature)
        self.counts = {"bank": len(train[1]), "images": len(val[1])}

    def records(self, name: str, epochs: int) -> list[Record]:
        more = {**self.counts, "temperature": self.temperature}
        return [self.record(name, f"kNN, k = {self.k}", self.values, 0, **more)]


def knn_accuracies(train: Features, val: Features, classes: int, k: int, temperature: float) -> dict[str, float]:
    """Returns the accuracies in percent: `top1`, and `top5` if there are more than 5 classes.

    Args:
        train: features of the bank.
        val: features of the queries.
        classes: number of classes.
        k: number of neighbours.
        temperature: T of the votes.
    """
    ranked = rank_classes(val[0], *train, classes, k, temperature)
    return accuracies(count_correct(ranked, val[1]), classes)


def rank_classes(queries: Tensor, bank: Tensor, labels: Tensor, classes: int, k: int, temperature: float) -> Tensor:
    """Returns the five classes with the most votes, by descending votes (N, 5). With fewer classes, it returns all.

    Classes without a vote come last, in any order.

    Args:
        queries: features (N, D) of length 1.
        bank: features (M, D) of length 1. M is at least k.
        labels: class numbers (M,) of the bank.
        classes: number of classes.
        k: number of neighbours.
        temperature: T of the votes.
    """
    chunk = max(1, FLOATS // (len(bank) + k * classes))
    parts = [knn_predict(part, bank.T, labels, classes, k, temperature)[:, :5] for part in queries.split(chunk)]
    return torch.cat(parts)


def check_neighbours(k: int, temperature: float, data: Images) -> None:
    """Raises `UserError` if the data have fewer than k training images, or T is too small."""
    bank = data.count("train")
    if not 1 <= k <= bank:
        raise UserError(f"k {k} for a bank of {bank} training images; use 1 to {bank}, on small data about 20")
    if not temperature > 1 / 80:
        # exp(1 / T) must fit into a float32.
        raise UserError(f"a temperature of {temperature} is not above 0.0125; Wu et al. have 0.07")
