"""Low-shot linear SVMs on frozen features (Goyal et al., ICCV 2019, section 5.2; BURN's benchmark)."""

import warnings
from collections import Counter

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC
from torch import Tensor

from edgebnn.errors import UserError
from edgebnn.hints import Hints
from edgebnn.records import Record

from ..data.sources import Images
from ..engine.optim import OptimizerConfig
from ..methods.measured import accuracies, check_single_label, count_correct
from ..methods.student import Student
from ..parallel.distributed import rank, world_size
from .base import images_of_classes
from .features import FeatureEvaluation, Features

FOLDS = 3


class LowShotSVM(FeatureEvaluation):
    """Trains linear SVMs, one class against the rest, on a few images of every class.

    The SVMs are those of the published benchmark: features of length 1, squared hinge loss, weight 2 for errors on the
    class itself, at most 2,000 iterations. That benchmark uses VOC07, whose images have several classes, and measures
    mean average precision (`train.evaluation.voc_svm`). Here every image has one class, and the SVM with the highest
    score gives the answer.

    The published codes report the cost that is best on the test images. Here cross-validation on the drawn images alone
    chooses the cost, with up to three folds. With one image per class, cross-validation is impossible and the first
    cost is used. The context of a record has the accuracy of every cost.

    Several processes divide the draws. The results do not depend on the number of processes.

    Args:
        checkpoint: the network to evaluate, binary or real-valued. None for the untrained baseline.
        student: shape of the untrained network, in place of a checkpoint.
        shots: numbers of images per class. Each number makes one record.
        costs: values of the SVM's C. BURN's are 1, 10 and 100.
        draws: how often the images are drawn. The published benchmark has 5 draws.
        method: how the network was trained, for the record.
        checkpoint_hints: what a published checkpoint does not say (docs/reference/checkpoints.md).
    """

    def __init__(
        self,
        checkpoint: str | None = None,
        student: Student | None = None,
        shots: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 96),
        costs: tuple[float, ...] = (1.0, 10.0, 100.0),
        draws: int = 5,
        method: str = "unknown",
        checkpoint_hints: Hints | None = None,
    ) -> None:
        super().__init__(checkpoint, student, OptimizerConfig(), method, checkpoint_hints)
        self.shots = shots
        self.costs = costs
        self.draws = draws

    def prepare(self, data: Images) -> None:
        if not (self.shots and min(self.shots) >= 1 and self.costs and min(self.costs) > 0 and self.draws >= 1):
            raise UserError(
                f"shots {list(self.shots)}, costs {list(self.costs)}, draws {self.draws} are out of range; "
                "give at least one of each, shots and draws of 1 or more, positive costs"
            )
        check_single_label(data)
        check_shots(self.shots, images_of_classes(data), data.labels)
        super().prepare(data)

    def measure(self, train: Features, val: Features) -> None:
        data: Images = self.trainer.datamodule  # type: ignore[attr-defined]
        rows, labels = (tensor.cpu().numpy() for tensor in train)
        # Checked again, because images that cannot be read are left out.
        check_shots(self.shots, np.bincount(labels, minlength=len(data.labels)), data.labels)
        held_out = val[0].cpu(), val[1].cpu()
        counts = torch.zeros(len(self.shots), self.draws, len(self.costs), 3, dtype=torch.long)
        chosen = torch.zeros(len(self.shots), self.draws, dtype=torch.long)
        # An SVM takes minutes on one core, so the processes divide the draws.
        for number, (which, drawing) in enumerate(np.ndindex(chosen.shape)):
            if number % world_size() == rank():
                shots = self.shots[which]
                drawn = draw_shots(labels, shots, [data.seed, drawing, shots])
                few = rows[drawn], labels[drawn]
                for cost, value in enumerate(self.costs):
                    counts[which, drawing, cost] = count_svm_correct(*few, held_out, value)
                chosen[which, drawing] = choose_cost(*few, self.costs)
        # The counts of a draw are zero in all processes except one.
        counts, chosen = (
            self.trainer.strategy.reduce(mine.to(self.device), reduce_op="sum").cpu() for mine in (counts, chosen)
        )
        self.results = {
            shots: self._summary(of_shots, costs, len(data.labels))
            for shots, of_shots, costs in zip(self.shots, counts, chosen)
        }
        self.images = len(val[1])

    def _summary(self, counts: Tensor, chosen: Tensor, classes: int) -> tuple[dict[str, float], dict[str, object]]:
        """Returns the values and the context of a record.

        Args:
            counts: `count_correct` of each draw and cost (draws, costs, 3).
            chosen: number of the chosen cost of each draw (draws,).
            classes: number of classes.
        """
        found = [[accuracies(answers, classes) for answers in of_draw] for of_draw in counts]
        picked = [of_draw[cost] for of_draw, cost in zip(found, chosen.tolist())]
        of_draws = {name: [one[name] for one in picked] for name in picked[0]}
        values = {name: float(np.mean(some)) for name, some in of_draws.items()}
        values |= {f"{name}_std": float(np.std(some)) for name, some in of_draws.items()}
        by_cost = {
            str(value): round(float(np.mean([of_draw[cost]["top1"] for of_draw in found])), 4)
            for cost, value in enumerate(self.costs)
        }
        times = {str(self.costs[cost]): count for cost, count in sorted(Counter(chosen.tolist()).items())}
        return values, {"draws": self.draws, "cost_chosen": times, "top1_by_cost": by_cost}

    def records(self, name: str, epochs: int) -> list[Record]:
        return [
            self.record(name, f"low-shot SVM, {shots} a class", values, 0, images=self.images, **more)
            for shots, (values, more) in self.results.items()
        ]


def draw_shots(labels: np.ndarray, shots: int, seed: list[int]) -> np.ndarray:
    """Returns the positions of `shots` random images of every class.

    Args:
        labels: class numbers (N,).
        shots: images per class.
        seed: seed of the random choice.
    """
    random = np.random.default_rng(seed)
    classes = np.unique(labels)
    return np.concatenate([random.choice(np.flatnonzero(labels == one), shots, replace=False) for one in classes])


def fit_svm(rows: np.ndarray, labels: np.ndarray, cost: float) -> OneVsRestClassifier:
    """Returns linear SVMs, one class against the rest, trained on features (N, D) and class numbers (N,).

    Args:
        rows: the features.
        labels: the class numbers.
        cost: the SVM's C.
    """
    svm = LinearSVC(C=cost, class_weight={0: 1, 1: 2}, dual=True, max_iter=2000, random_state=0)
    with warnings.catch_warnings():
        # The published SVMs also stop after 2,000 iterations.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return OneVsRestClassifier(svm).fit(rows, labels)


def count_svm_correct(rows: np.ndarray, labels: np.ndarray, val: Features, cost: float) -> Tensor:
    """Returns the counts of `count_correct` (3,) on `val` for SVMs trained on `rows` and `labels`.

    Args:
        rows: features (N, D) of the drawn images.
        labels: class numbers (N,) of the drawn images.
        val: features and class numbers of the held-out images.
        cost: the SVM's C.
    """
    scores = fit_svm(rows, labels, cost).decision_function(val[0].numpy())
    if scores.ndim == 1:
        # For two classes there is one SVM, for the second class.
        scores = np.stack([-scores, scores], axis=1)
    ranked = torch.from_numpy(scores).topk(min(5, scores.shape[1]), dim=1).indices
    return count_correct(ranked, val[1])


def choose_cost(rows: np.ndarray, labels: np.ndarray, costs: tuple[float, ...]) -> int:
    """Returns the number of the cost with the highest cross-validated accuracy, the first one of equals.

    Args:
        rows: features (N, D) of the drawn images.
        labels: class numbers (N,) of the drawn images.
        costs: values of the SVM's C.
    """
    least = int(np.bincount(labels).min())
    if least == 1 or len(costs) == 1:
        return 0
    folds = list(StratifiedKFold(min(FOLDS, least)).split(rows, labels))
    right = [sum(fit_svm(rows[a], labels[a], cost).score(rows[b], labels[b]) for a, b in folds) for cost in costs]
    return int(np.argmax(right))


def check_shots(shots: tuple[int, ...], counts: np.ndarray, names: tuple[str, ...]) -> None:
    """Raises `UserError` if a class has fewer images than `shots` asks for.

    Args:
        shots: numbers of images per class.
        counts: training images of each class (classes,).
        names: names of the classes.
    """
    least = int(counts.argmin())
    if max(shots) > counts[least]:
        raise UserError(
            f"{max(shots)} shots, but class {names[least]} has {counts[least]} training images; "
            f"give model.shots of {counts[least]} or less"
        )
