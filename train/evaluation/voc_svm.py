"""Linear SVMs on frozen features of VOC07 in mean average precision (Goyal et al., ICCV 2019; OpenSelfSup)."""

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
"""OpenSelfSup's, in its order."""

MEASURES = ("map", "map_interpolated")


class Shown(NamedTuple):
    """Images and what they show.

    Attributes:
        rows: features (images, D).
        targets: 1, 0 or -1, as `Voc2007` has them, (images, classes), or (images,) of one class.
    """

    rows: np.ndarray
    targets: np.ndarray

    def of(self, number: int) -> "Shown":
        """The images and whether they show one class."""
        return Shown(self.rows, self.targets[:, number])

    def only(self, positions: np.ndarray) -> "Shown":
        """Some of the images."""
        return Shown(self.rows[positions], self.targets[positions])


class VocSVM(FeatureEvaluation):
    """Trains a linear SVM for every class of VOC07 and measures the mean of the classes' average precisions.

    The SVMs are those of `LowShotSVM`. On all training images, each class has its own cost: the one with the highest
    average precision in three-fold cross-validation. Low-shot draws take k images with the class and k for each
    other class without it, for every class by itself, and one cost for all classes of a draw.

    `map` is scikit-learn's average precision, `map_interpolated` the area under the interpolated curve of precision
    and recall, which OpenSelfSup computes. VOC07's own measure, the mean at 11 recalls, is neither.

    Several processes share classes and draws out, whose results do not depend on how many there are.

    Args:
        checkpoint, student, method: as `Evaluation` has them.
        shots: images a class of the low-shot draws, each of which gives a record; () for the full SVMs alone.
        costs: the SVM's C; of equally good ones the first is taken.
        draws: how often the images of low-shot SVMs are drawn.
        difficult: what images whose objects of a class are all difficult are to the full SVM of the class: left out
            (ignored), or images without it (negative), as OpenSelfSup's code trains. They are never scored.
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
                f"shots {list(self.shots)}, costs {list(self.costs)}, draws {self.draws} make no SVM; "
                "give shots and draws of 1 or more, and positive costs"
            )
        super().prepare(data)

    def check_classes(self, data: Images) -> None:
        if not isinstance(data, Voc2007):
            raise UserError(f"VocSVM measures {Voc2007.__name__} alone; give it as data, or use LowShotSVM")
        self._check_examples(data.targets["train"], data.targets["val"], data.labels)

    def measure(self, train: Features, val: Features) -> None:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        learnt, held = (
            Shown(rows.cpu().numpy(), data.targets[part][numbers.cpu()])
            for part, (rows, numbers) in (("train", train), ("val", val))
        )
        # Again, since images that cannot be read are left out.
        self._check_examples(learnt.targets, held.targets, data.labels)
        classes = len(data.labels)
        full = torch.zeros(classes, 3, dtype=torch.float64)
        drawn = torch.zeros(len(self.shots), self.draws, classes, len(self.costs), 3, dtype=torch.float64)
        # A fit takes one core and up to minutes, so the processes share them out.
        for number in range(rank(), classes, world_size()):
            full[number] = torch.tensor(self._fit_full(learnt.of(number), held.of(number)))
        for which, drawing, number in list(np.ndindex(*drawn.shape[:3]))[rank() :: world_size()]:
            shots, mine = self.shots[which], learnt.of(number)
            few = mine.only(draw(mine.targets, shots, classes, [data.seed, drawing, shots, number]))
            found = [(validated(few, cost), *precisions(few, held.of(number), cost)) for cost in self.costs]
            drawn[which, drawing, number] = torch.tensor(found)
        # Each is zeros in all processes but one.
        full, drawn = (
            self.trainer.strategy.reduce(mine.to(self.device), reduce_op="sum").cpu() for mine in (full, drawn)
        )
        self.results = [("VOC07 SVM", *self._full(full, data.labels))]
        for shots, of_shots in zip(self.shots, drawn):
            self.results.append((f"VOC07 low-shot SVM, {shots} a class", *self._low_shot(of_shots)))
        self.images = len(held.rows)

    def _check_examples(self, train: np.ndarray, val: np.ndarray, labels: tuple[str, ...]) -> None:
        shots = max(self.shots, default=1)
        check_examples(train, labels, shots, absences(shots, len(labels)) if self.shots else 1)
        check_examples(val, labels, 1, 1)

    def _fit_full(self, learnt: Shown, held: Shown) -> tuple[float, ...]:
        """The number of a class' cost, and its two average precisions."""
        if self.difficult == "ignored":
            learnt = learnt.only(np.flatnonzero(learnt.targets))
        cost = int(np.argmax([validated(learnt, cost) for cost in self.costs]))
        return (cost, *precisions(learnt, held, self.costs[cost]))

    def _full(self, full: Tensor, labels: tuple[str, ...]) -> tuple[dict[str, float], dict[str, object]]:
        """Values and context of the record, from the classes' cost and average precisions, (classes, 3)."""
        values = dict(zip(MEASURES, (100 * full[:, 1:].mean(dim=0)).tolist()))
        of_classes = {label: round(100 * value, 4) for label, value in zip(labels, full[:, 1].tolist())}
        return values, {
            "ap": of_classes,
            "cost_chosen": self._counted(full[:, 0].long().tolist()),
            "difficult": self.difficult,
        }

    def _low_shot(self, drawn: Tensor) -> tuple[dict[str, float], dict[str, object]]:
        """Values and context of a record, from (draws, classes, costs, 3): cross-validated, and both of the test."""
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
        """How often each cost was chosen."""
        return {str(self.costs[cost]): count for cost, count in sorted(Counter(chosen).items())}

    def records(self, name: str, epochs: int) -> list[Record]:
        return [
            self.record(name, protocol, values, 0, images=self.images, **more)
            for protocol, values, more in self.results
        ]


def absences(shots: int, classes: int) -> int:
    """How many images without a class a draw takes beside `shots` with it: as many for each other class."""
    return shots * max(classes - 1, 1)


def check_examples(targets: np.ndarray, labels: tuple[str, ...], with_class: int, without: int) -> None:
    """Raises `UserError` unless so many images show each class, and so many do not."""
    for number, label in enumerate(labels):
        present, absent = (int((targets[:, number] == sign).sum()) for sign in (1, -1))
        if present < with_class or absent < without:
            raise UserError(
                f"{present} images show {label} and {absent} do not, where {with_class} and {without} are needed; "
                "give model.shots of less, or fetch VOC again"
            )


def draw(targets: np.ndarray, shots: int, classes: int, seed: list[int]) -> np.ndarray:
    """Positions of `shots` images with a class and `shots` for each other class without it, OpenSelfSup's draw.

    Args:
        targets: the class' (images,), 1, 0 or -1; those of 0 are not drawn.
        shots: images to draw.
        classes: how many classes there are.
        seed: what the draw is a function of, with the targets.
    """
    random = np.random.default_rng(seed)
    parts = (1, shots), (-1, absences(shots, classes))
    return np.concatenate(
        [random.choice(np.flatnonzero(targets == sign), count, replace=False) for sign, count in parts]
    )


def validated(learnt: Shown, cost: float) -> float:
    """Mean average precision of one class on the thirds left out in turn; 0 if there is nothing to leave out."""
    rows, present = learnt.rows, learnt.targets > 0
    folds = min(FOLDS, int(present.sum()), int((~present).sum()))
    if folds < 2:
        return 0.0
    scores = [
        average_precision_score(present[b], fit_svm(rows[a], present[a].astype(int), cost).decision_function(rows[b]))
        for a, b in StratifiedKFold(folds).split(rows, present)
    ]
    return float(np.mean(scores))


def precisions(learnt: Shown, held: Shown, cost: float) -> tuple[float, float]:
    """Average precision and interpolated average precision of the SVM of one class on images not difficult."""
    scored = held.only(np.flatnonzero(held.targets))
    svm = fit_svm(learnt.rows, (learnt.targets > 0).astype(int), cost)
    present, scores = scored.targets > 0, svm.decision_function(scored.rows)
    return float(average_precision_score(present, scores)), interpolated(present, scores)


def interpolated(present: np.ndarray, scores: np.ndarray) -> float:
    """Area under the curve of precision and recall, each precision raised to the highest at that recall or more."""
    precision, recall, _ = precision_recall_curve(present, scores)
    # From recall 1 down to 0, where the curve has a point that stands for no image.
    return float((-np.diff(recall) * np.maximum.accumulate(precision)[:-1]).sum())
