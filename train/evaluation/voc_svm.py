"""Mean average precision of linear SVMs on frozen features of VOC07 (Goyal et al., ICCV 2019; OpenSelfSup)."""

from collections import Counter
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from sklearn.metrics import average_precision_score, precision_recall_curve
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from edgebnn.errors import UserError
from edgebnn.records import Kind, Record

from ..data.module import Images
from ..data.voc import Voc2007
from ..engine.optim import OptimizerConfig
from ..methods.student import Student
from ..parallel.distributed import rank, world_size
from .features import FeatureEvaluation, Features
from .svm import FOLDS, fit_svm

COSTS = (1.0, 10.0, 100.0, *(0.5**power for power in range(4, 20)))
"""OpenSelfSup's values of C, in its order."""

MEASURES = ("map", "map_interpolated")


class LabelledFeatures(NamedTuple):
    """Features of images, with their targets.

    Attributes:
        rows: features (images, D).
        targets: 1, 0 or -1, as in `Voc2007`: (images, classes), or (images,) for one class.
    """

    rows: np.ndarray
    targets: np.ndarray

    def of(self, number: int) -> "LabelledFeatures":
        """Returns the images with the targets of one class."""
        return LabelledFeatures(self.rows, self.targets[:, number])

    def only(self, positions: np.ndarray) -> "LabelledFeatures":
        """Returns the images at these positions."""
        return LabelledFeatures(self.rows[positions], self.targets[positions])


class VocSVM(FeatureEvaluation):
    """Trains a linear SVM for every class of VOC07 and measures the mean of the classes' average precisions.

    The SVMs are those of `LowShotSVM`. On all training images, each class has its own cost: the one with the highest
    average precision in three-fold cross-validation. A low-shot draw takes k images with the class, and k images
    without it for each other class. It is made for every class by itself. One cost is chosen for all classes of a draw.

    `map` is scikit-learn's average precision. `map_interpolated` is the area under the interpolated curve of precision
    and recall, as OpenSelfSup computes it. VOC07's own measure, the mean at 11 recalls, differs from both.

    Several processes divide classes and draws. The results do not depend on the number of processes.

    Args:
        checkpoint: the network to evaluate, binary or real-valued. None for the untrained baseline.
        student: shape of the untrained network, in place of a checkpoint.
        shots: images per class of the low-shot draws. Each number makes one record. () trains the full SVMs alone.
        costs: values of the SVM's C. Of equally good values, the first is chosen.
        draws: how often the images of low-shot SVMs are drawn.
        difficult: how the full SVM of a class treats images that show only difficult objects of the class. ignored:
            they are left out. negative: they count as images without the class, as in OpenSelfSup's training. They are
            never scored.
        method: how the network was trained, for the record.
    """

    kind: ClassVar[Kind] = "map"

    def __init__(
        self,
        checkpoint: str | None = None,
        student: Student | None = None,
        shots: tuple[int, ...] = (),
        costs: tuple[float, ...] = COSTS,
        draws: int = 5,
        difficult: Literal["ignored", "negative"] = "ignored",
        method: str = "unknown",
    ) -> None:
        super().__init__(checkpoint, student, OptimizerConfig(), method)
        self.shots = shots
        self.costs = costs
        self.draws = draws
        self.difficult = difficult

    def prepare(self, data: Images) -> None:
        if not (min(self.shots, default=1) >= 1 and self.costs and min(self.costs) > 0 and self.draws >= 1):
            raise UserError(
                f"shots {list(self.shots)}, costs {list(self.costs)}, draws {self.draws} are out of range; "
                "give shots and draws of 1 or more, and positive costs"
            )
        super().prepare(data)

    def check_classes(self, data: Images) -> None:
        if not isinstance(data, Voc2007):
            raise UserError(f"VocSVM works with {Voc2007.__name__} alone; give it as data, or use LowShotSVM")
        self._check_examples(data.targets["train"], data.targets["val"], data.labels)

    def measure(self, train: Features, val: Features) -> None:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        learnt, held = (
            LabelledFeatures(rows.cpu().numpy(), data.targets[part][numbers.cpu()])
            for part, (rows, numbers) in (("train", train), ("val", val))
        )
        # Checked again, because images that cannot be read are left out.
        self._check_examples(learnt.targets, held.targets, data.labels)
        classes = len(data.labels)
        full = torch.zeros(classes, 3, dtype=torch.float64)
        drawn = torch.zeros(len(self.shots), self.draws, classes, len(self.costs), 3, dtype=torch.float64)
        # An SVM takes up to minutes on one core, so the processes divide the SVMs.
        for number in range(rank(), classes, world_size()):
            full[number] = torch.tensor(self._fit_full(learnt.of(number), held.of(number)))
        for which, drawing, number in list(np.ndindex(*drawn.shape[:3]))[rank() :: world_size()]:
            shots, mine = self.shots[which], learnt.of(number)
            few = mine.only(draw_examples(mine.targets, shots, classes, [data.seed, drawing, shots, number]))
            found = [
                (cross_validated_precision(few, cost), *held_out_precisions(few, held.of(number), cost))
                for cost in self.costs
            ]
            drawn[which, drawing, number] = torch.tensor(found)
        # The results of an SVM are zero in all processes except one.
        full, drawn = (
            self.trainer.strategy.reduce(mine.to(self.device), reduce_op="sum").cpu() for mine in (full, drawn)
        )
        self.results = [("VOC07 SVM", *self._full(full, data.labels))]
        for shots, of_shots in zip(self.shots, drawn):
            self.results.append((f"VOC07 low-shot SVM, {shots} a class", *self._low_shot(of_shots)))
        self.images = len(held.rows)

    def _check_examples(self, train: np.ndarray, val: np.ndarray, labels: tuple[str, ...]) -> None:
        shots = max(self.shots, default=1)
        check_examples(train, labels, shots, count_absent(shots, len(labels)) if self.shots else 1)
        check_examples(val, labels, 1, 1)

    def _fit_full(self, learnt: LabelledFeatures, held: LabelledFeatures) -> tuple[float, ...]:
        """Returns the number of the chosen cost of a class, and its two average precisions."""
        if self.difficult == "ignored":
            learnt = learnt.only(np.flatnonzero(learnt.targets))
        cost = int(np.argmax([cross_validated_precision(learnt, cost) for cost in self.costs]))
        return (cost, *held_out_precisions(learnt, held, self.costs[cost]))

    def _full(self, full: Tensor, labels: tuple[str, ...]) -> tuple[dict[str, float], dict[str, object]]:
        """Returns the values and the context of the record of the full SVMs.

        Args:
            full: number of the cost and two average precisions of each class (classes, 3).
            labels: names of the classes.
        """
        values = dict(zip(MEASURES, (100 * full[:, 1:].mean(dim=0)).tolist()))
        of_classes = {label: round(100 * value, 4) for label, value in zip(labels, full[:, 1].tolist())}
        return values, {
            "ap": of_classes,
            "cost_chosen": self._counted(full[:, 0].long().tolist()),
            "difficult": self.difficult,
        }

    def _low_shot(self, drawn: Tensor) -> tuple[dict[str, float], dict[str, object]]:
        """Returns the values and the context of a record of low-shot SVMs.

        Args:
            drawn: cross-validated and two test precisions (draws, classes, costs, 3).
        """
        of_costs = drawn.mean(dim=1)
        chosen = of_costs[:, :, 0].argmax(dim=1)
        picked = 100 * of_costs[torch.arange(len(chosen)), chosen, 1:]
        values = dict(zip(MEASURES, picked.mean(dim=0).tolist()))
        values |= {f"{name}_std": value for name, value in zip(MEASURES, picked.std(dim=0, correction=0).tolist())}
        by_cost = (100 * of_costs[:, :, 2].mean(dim=0)).tolist()
        return values, {
            "draws": self.draws,
            "cost_chosen": self._counted(chosen.tolist()),
            "map_interpolated_by_cost": {str(cost): round(value, 4) for cost, value in zip(self.costs, by_cost)},
        }

    def _counted(self, chosen: list[int]) -> dict[str, int]:
        """Returns how often each cost was chosen."""
        return {str(self.costs[cost]): count for cost, count in sorted(Counter(chosen).items())}

    def records(self, name: str, epochs: int) -> list[Record]:
        return [
            self.record(name, protocol, values, 0, images=self.images, **more)
            for protocol, values, more in self.results
        ]


def count_absent(shots: int, classes: int) -> int:
    """Returns the number of images without the class in a draw: `shots` for each other class."""
    return shots * max(classes - 1, 1)


def check_examples(targets: np.ndarray, labels: tuple[str, ...], with_class: int, without: int) -> None:
    """Raises `UserError` if too few images show a class, or too few do not.

    Args:
        targets: 1, 0 or -1, as in `Voc2007` (images, classes).
        labels: names of the classes.
        with_class: images needed that show a class.
        without: images needed that do not show it.
    """
    for number, label in enumerate(labels):
        present, absent = (int((targets[:, number] == sign).sum()) for sign in (1, -1))
        if present < with_class or absent < without:
            raise UserError(
                f"{present} images show {label} and {absent} do not, where {with_class} and {without} are needed; "
                "give smaller model.shots, or fetch VOC again"
            )


def draw_examples(targets: np.ndarray, shots: int, classes: int, seed: list[int]) -> np.ndarray:
    """Returns the positions of the images of a low-shot draw, as OpenSelfSup draws them.

    A draw has `shots` images with the class, and `shots` images without it for each other class.

    Args:
        targets: the class's targets (images,). Images with 0 are not drawn.
        shots: images per class.
        classes: number of classes.
        seed: seed of the random choice.
    """
    random = np.random.default_rng(seed)
    parts = (1, shots), (-1, count_absent(shots, classes))
    return np.concatenate(
        [random.choice(np.flatnonzero(targets == sign), count, replace=False) for sign, count in parts]
    )


def cross_validated_precision(learnt: LabelledFeatures, cost: float) -> float:
    """Returns the average precision of one class in three-fold cross-validation.

    Returns 0 if there are too few images for two folds.
    """
    rows, present = learnt.rows, learnt.targets > 0
    folds = min(FOLDS, int(present.sum()), int((~present).sum()))
    if folds < 2:
        return 0.0
    scores = [
        average_precision_score(present[b], fit_svm(rows[a], present[a].astype(int), cost).decision_function(rows[b]))
        for a, b in StratifiedKFold(folds).split(rows, present)
    ]
    return float(np.mean(scores))


def held_out_precisions(learnt: LabelledFeatures, held: LabelledFeatures, cost: float) -> tuple[float, float]:
    """Returns the average precision and the interpolated average precision of the SVM of one class.

    Args:
        learnt: the training images.
        held: the held-out images. Images with only difficult objects are not scored.
        cost: the SVM's C.
    """
    scored = held.only(np.flatnonzero(held.targets))
    svm = fit_svm(learnt.rows, (learnt.targets > 0).astype(int), cost)
    present, scores = scored.targets > 0, svm.decision_function(scored.rows)
    return float(average_precision_score(present, scores)), interpolated_precision(present, scores)


def interpolated_precision(present: np.ndarray, scores: np.ndarray) -> float:
    """Returns the area under the interpolated curve of precision and recall.

    Interpolation replaces each precision by the highest precision at the same or a higher recall.

    Args:
        present: whether each image shows the class (images,).
        scores: the SVM's scores (images,).
    """
    precision, recall, _ = precision_recall_curve(present, scores)
    # The curve goes from recall 1 down to 0. Its last point stands for no image and is left out.
    return float((-np.diff(recall) * np.maximum.accumulate(precision)[:-1]).sum())
