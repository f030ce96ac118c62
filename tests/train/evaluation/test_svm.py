"""Low-shot SVMs against scikit-learn called plainly."""

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC

from edgebnn.errors import UserError
from edgebnn.train.data.sources import Digits
from edgebnn.train.evaluation import svm
from edgebnn.train.evaluation.features import Features
from edgebnn.train.evaluation.svm import LowShotSVM, check_shots, choose_cost, count_svm_correct, draw_shots
from edgebnn.train.methods.measured import accuracies
from tests.train.conftest import REAL
from tests.train.evaluation.test_knn import measured


@pytest.fixture
def blobs() -> tuple[Features, Features]:
    """Three classes that overlap, 20 and 30 images of each."""
    random = torch.Generator().manual_seed(0)
    centres = torch.randn(3, 8, generator=random)

    def part(count: int) -> Features:
        labels = torch.arange(3).repeat(count)
        rows = centres[labels] + torch.randn(len(labels), 8, generator=random)
        return torch.nn.functional.normalize(rows), labels

    return part(20), part(30)


def plain_top1(train: Features, val: Features, cost: float) -> float:
    """One SVM a class, fitted one after the other; the highest score wins."""
    scores = []
    for label in range(3):
        svm = LinearSVC(C=cost, class_weight={-1: 1, 1: 2}, loss="squared_hinge", max_iter=2000, random_state=0)
        svm.fit(train[0].numpy(), np.where(train[1].numpy() == label, 1, -1))
        scores.append(val[0].numpy() @ svm.coef_[0] + svm.intercept_[0])
    right = sum(int(np.argmax(row)) == int(label) for row, label in zip(np.stack(scores, axis=1), val[1]))
    return 100 * right / len(val[1])


@pytest.mark.parametrize("cost", [0.1, 1.0, 100.0])
def test_accuracy_equals_svms_fitted_one_by_one(blobs: tuple[Features, Features], cost: float) -> None:
    train, val = blobs
    found = accuracies(count_svm_correct(train[0].numpy(), train[1].numpy(), val, cost), 3)
    assert found == {"top1": pytest.approx(plain_top1(train, val, cost))}
    assert 60 < found["top1"] < 100


def test_two_classes_have_a_single_svm(blobs: tuple[Features, Features]) -> None:
    train, val = ((rows[labels < 2], labels[labels < 2]) for rows, labels in blobs)
    assert accuracies(count_svm_correct(train[0].numpy(), train[1].numpy(), val, 1.0), 2)["top1"] > 75


def test_a_draw_is_balanced_and_a_function_of_the_seed() -> None:
    labels = np.array([0] * 9 + [1] * 5 + [2] * 30)
    first = draw_shots(labels, 4, [0, 0])
    assert np.bincount(labels[first]).tolist() == [4, 4, 4]
    assert len(set(first.tolist())) == 12
    assert first.tolist() == draw_shots(labels, 4, [0, 0]).tolist() != draw_shots(labels, 4, [0, 1]).tolist()


def test_the_cost_is_chosen_on_images_left_out(blobs: tuple[Features, Features]) -> None:
    rows, labels = (tensor.numpy() for tensor in blobs[0])

    # Features this small need a high cost to be told apart at all.
    assert choose_cost(0.01 * rows, labels, (1e-6, 1000.0)) == 1
    assert choose_cost(0.01 * rows[:3], labels[:3], (1e-6, 1000.0)) == 0, "one image a class leaves nothing out"


def test_records_have_the_mean_and_the_spread_of_draws(digits: Digits) -> None:
    method = LowShotSVM(student=REAL, shots=(1, 3), costs=(1.0,), draws=2)
    one, three = measured(method, digits)
    assert [record.context["protocol"] for record in (one, three)] == [
        "low-shot SVM, 1 a class",
        "low-shot SVM, 3 a class",
    ]
    assert one.context["images"] == 359
    # The same draws, fitted here.
    rows, labels, found = {}, {}, []
    for part, loader in (("train", digits.fixed_train_dataloader()), ("val", digits.val_dataloader())):
        with torch.no_grad():
            batches = [(method.network.features(images), some) for (images,), some in loader]
        rows[part] = torch.nn.functional.normalize(torch.cat([some for some, _ in batches]))
        labels[part] = torch.cat([some for _, some in batches])
    for number in range(2):
        drawn = draw_shots(labels["train"].numpy(), 3, [0, number, 3])
        few = rows["train"].numpy()[drawn], labels["train"].numpy()[drawn]
        found.append(accuracies(count_svm_correct(*few, (rows["val"], labels["val"]), 1.0), 10)["top1"])
    assert three.values["top1"] == pytest.approx(sum(found) / 2, abs=1e-3)
    assert three.values["top1_std"] == pytest.approx(abs(found[0] - found[1]) / 2, abs=1e-3)
    assert three.values["top1"] > one.values["top1"] > 15


def test_processes_share_the_draws_out(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[tuple[int, ...]]] = [set(), set()]
    monkeypatch.setattr(svm, "world_size", lambda: 2)
    # Half the draws are missing, with no second process to bring them.
    monkeypatch.setattr(LowShotSVM, "_summary", lambda *_: ({"top1": 0.0}, {}))
    for process in (0, 1):

        def noted(labels: np.ndarray, shots: int, seed: list[int], process: int = process) -> np.ndarray:
            seen[process].add(tuple(seed))
            return draw_shots(labels, shots, seed)

        monkeypatch.setattr(svm, "rank", lambda process=process: process)
        monkeypatch.setattr(svm, "draw_shots", noted)
        measured(LowShotSVM(student=REAL, shots=(1, 2), costs=(1.0,), draws=2), digits)
    assert seen == [{(0, 0, 1), (0, 0, 2)}, {(0, 1, 1), (0, 1, 2)}]


def test_too_few_readable_images_are_told(digits: Digits) -> None:
    method = LowShotSVM(student=REAL, shots=(139,), costs=(1.0,), draws=1)
    loader = digits.fixed_train_dataloader

    def broken(*, shuffled: bool = False) -> object:
        whole = loader(shuffled=shuffled)
        return whole if shuffled else [([views[0][1:]], labels[1:]) for views, labels in whole]

    digits.fixed_train_dataloader = broken  # type: ignore[assignment, method-assign]
    with pytest.raises(UserError, match="139 shots, but class . has 1[0-9][0-9] training images"):
        measured(method, digits)


def test_what_makes_no_svm_is_refused(digits: Digits) -> None:
    with pytest.raises(UserError, match="6 shots, but class cat has 5 training images; give model.shots of 5 or less"):
        check_shots((1, 6), np.array([9, 5]), ("dog", "cat"))
    with pytest.raises(UserError, match="900 shots, but class 8 has 139 training images"):
        LowShotSVM(student=REAL, shots=(1, 900)).prepare(digits)
    with pytest.raises(UserError, match="are out of range"):
        LowShotSVM(student=REAL, shots=(0,)).prepare(digits)
