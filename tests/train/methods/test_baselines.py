"""The baselines of BURN's table: one step moves what it should, and each loss is its formula."""

import math
from pathlib import Path

import pytest
import torch

from edgebnn import checkpoint
from edgebnn.errors import UserError
from edgebnn.graph import ModelInfo
from edgebnn.train.data.sources import Digits
from edgebnn.train.engine.optim import OptimizerConfig
from edgebnn.train.methods.byol import BYOL
from edgebnn.train.methods.student import Student
from edgebnn.train.methods.supervised import Supervised
from edgebnn.train.methods.swav import SwAV
from tests.train.conftest import BINARY, REAL, STEP1, moved, snapshot, train_one_step

ADAM = OptimizerConfig()


def state(module: torch.nn.Module, part: str) -> set[str]:
    return {f"{part}.{name}" for name in module.get_submodule(part).state_dict()}


def test_byol_moves_network_and_heads_and_the_target_follows_by_its_schedule(digits: Digits) -> None:
    method = BYOL(BINARY, hidden_dim=16, dim=8, momentum=0.9, optimizer=ADAM)
    method.prepare(digits)
    before = snapshot(method)
    # Two steps of two: m is 0.9 in the first, half way to 1 in the second.
    train_one_step(method, digits, max_steps=1, max_epochs=2, limit_train_batches=1)
    changed = moved(method, before)
    for part in ("network", "projector", "predictor"):
        assert state(method, part) <= changed
    online = {f"0.{name}": tensor for name, tensor in method.network.named_parameters()}
    online |= {f"1.{name}": tensor for name, tensor in method.projector.named_parameters()}
    for name, tensor in method.target.named_parameters():
        expected = 0.9 * before[f"target.{name}"] + 0.1 * online[name]
        torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-7, msg=name)


def test_byols_momentum_rises_to_one(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    method = BYOL(REAL, hidden_dim=8, dim=4, momentum=0.8)
    method.prepare(digits)
    seen = []
    monkeypatch.setattr("edgebnn.train.methods.byol.follow", lambda target, source, momentum: seen.append(momentum))
    train_one_step(method, digits, max_steps=-1, max_epochs=2, limit_train_batches=4, accumulate_grad_batches=2)
    expected = [1 - 0.2 * (math.cos(math.pi * step / 4) + 1) / 2 for step in range(4)]
    assert seen == pytest.approx(expected, rel=1e-9)


def test_byols_loss_is_the_papers_of_both_crossings(digits: Digits) -> None:
    method = BYOL(REAL, hidden_dim=16, dim=8)
    method.prepare(digits)
    with torch.no_grad():
        for parameter in method.target.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    views = [torch.randn(6, 3, 32, 32) for _ in range(2)]
    expected = 0.0
    for seen, aimed in ((0, 1), (1, 0)):
        q = method.predictor(method.projector(method.network(views[seen])))
        z = method.target(views[aimed])
        for a, b in zip(q.tolist(), z.tolist()):
            cosine = sum(x * y for x, y in zip(a, b)) / math.hypot(*a) / math.hypot(*b)
            expected += (2 - 2 * cosine) / 6
    method.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    assert method.training_step((views, torch.zeros(6))).item() == pytest.approx(expected, rel=1e-3)


def small_swav(**arguments: object) -> SwAV:
    options = {
        "hidden_dim": 16,
        "dim": 8,
        "prototypes": 5,
        "small_views": 0,
        "freeze_prototypes_steps": 0,
        "optimizer": ADAM,
    }
    return SwAV(REAL, **{**options, **arguments})  # type: ignore[arg-type]


def test_swav_moves_network_projector_and_prototypes(digits: Digits) -> None:
    method = small_swav()
    method.prepare(digits)
    before = snapshot(method)
    train_one_step(method, digits)
    assert moved(method, before) == state(method, "network") | state(method, "projector") | state(method, "prototypes")
    # They are brought to length 1 before a step, which then moves each by no more than Adam's rate.
    torch.testing.assert_close(method.prototypes.weight.norm(dim=1), torch.ones(5), rtol=0, atol=2e-3)


def test_swavs_prototypes_stay_frozen_for_the_first_steps(digits: Digits) -> None:
    method = small_swav(freeze_prototypes_steps=2)
    method.prepare(digits)
    weight = torch.nn.functional.normalize(method.prototypes.weight, dim=1).detach().clone()
    train_one_step(method, digits, max_steps=2)
    torch.testing.assert_close(method.prototypes.weight, weight, rtol=1e-6, atol=1e-7)
    method = small_swav(freeze_prototypes_steps=2)
    method.prepare(digits)
    train_one_step(method, digits, max_steps=3)
    assert (method.prototypes.weight - weight).abs().max() > 1e-4


def sinkhorn(scores: list[list[float]], epsilon: float, iterations: int) -> list[list[float]]:
    """Assignments of rows to columns: Q <- Diag(u) exp(C / epsilon) Diag(v) (Caron et al., equation 5)."""
    q = [[math.exp(value / epsilon) for value in row] for row in scores]
    rows, columns = len(q), len(q[0])
    for _ in range(iterations):
        for column in range(columns):
            total = sum(row[column] for row in q)
            for row in q:
                row[column] /= total * columns
        for row in q:
            total = sum(row)
            row[:] = [value / (total * rows) for value in row]
    return [[value * rows for value in row] for row in q]


@pytest.mark.parametrize("small_views", [0, 2])
def test_swavs_loss_is_the_papers(small_views: int, digits: Digits) -> None:
    method = small_swav(small_views=small_views)
    method.prepare(digits)
    views = [torch.randn(6, 3, 32, 32) for _ in range(2)] + [torch.randn(6, 3, 32, 32) for _ in range(small_views)]
    method.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    with torch.no_grad():
        loss = method.training_step((views, torch.zeros(6))).item()
        groups = [views[:2], views[2:]] if small_views else [views]
        projections = [part for group in groups for part in method.project(group)]
        unit = torch.nn.functional.normalize(method.prototypes.weight, dim=1)
        scores = [(part @ unit.T).tolist() for part in projections]
    expected = 0.0
    for large in range(2):
        assigned = sinkhorn([list(row) for row in scores[large]], 0.05, 3)
        for other in range(len(views)):
            if other != large:
                for q, row in zip(assigned, scores[other]):
                    total = math.log(sum(math.exp(value / 0.1) for value in row))
                    expected -= sum(a * (value / 0.1 - total) for a, value in zip(q, row)) / 6
    assert loss == pytest.approx(expected / 2 / (len(views) - 1), rel=1e-4)


def test_swavs_queue_joins_once_it_is_full(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    method = small_swav(queue_size=64, queue_start_epoch=1)
    method.prepare(digits)
    sizes: list[int | None] = []
    loss = method.criterion.forward

    def watched(large: list[torch.Tensor], small: list[torch.Tensor], queue: list[torch.Tensor] | None) -> torch.Tensor:
        sizes.append(None if queue is None else len(queue[0]))
        return loss(large, small, queue)

    monkeypatch.setattr(method.criterion, "forward", watched)
    train_one_step(method, digits, max_steps=-1, max_epochs=2, limit_train_batches=3)
    # None in the first epoch; in the second two batches fill it.
    assert sizes == [None] * 5 + [64]


@pytest.fixture
def classifier(tmp_path: Path, digits: Digits) -> str:
    path = tmp_path / "classifier.safetensors"
    checkpoint.save_checkpoint(
        path, REAL.with_head((10,)), ModelInfo("teacher", 32, digits.mean, digits.std, digits.labels)
    )
    return str(path)


@pytest.mark.parametrize("student", [BINARY, STEP1])
@pytest.mark.parametrize("taught", [True, False])
def test_supervised_training_moves_the_whole_student(
    student: Student, taught: bool, classifier: str, digits: Digits
) -> None:
    method = Supervised(student, classifier if taught else None)
    method.prepare(digits)
    before = snapshot(method)
    train_one_step(method, digits)
    assert moved(method, before) == state(method, "network")


def test_supervised_loss_mixes_labels_and_teacher_by_share(classifier: str, digits: Digits) -> None:
    method = Supervised(REAL, classifier, teacher_share=0.25)
    method.prepare(digits)
    method.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    images, labels = torch.randn(6, 3, 32, 32), torch.arange(6)
    loss = method.training_step(([images], labels)).item()
    expected = 0.0
    for s, t, label in zip(method.network(images).tolist(), method.teacher(images).tolist(), labels.tolist()):
        # Less the largest, since an untrained teacher's logits are in the hundreds.
        s, t = ([value - max(row) for value in row] for row in (s, t))
        log_q = [value - math.log(sum(math.exp(other) for other in s)) for value in s]
        p = [math.exp(value) / sum(math.exp(other) for other in t) for value in t]
        expected -= (0.75 * log_q[label] + 0.25 * sum(a * b for a, b in zip(p, log_q))) / 6
    assert loss == pytest.approx(expected, rel=1e-3)
    assert method.method == "supervised, 25% teacher's answers"


def test_supervised_accuracy_is_recorded(digits: Digits) -> None:
    method = Supervised(REAL)
    method.prepare(digits)
    train_one_step(method, digits, max_steps=-1, max_epochs=1, limit_train_batches=2, limit_val_batches=1.0)
    (record,) = method.records("tiny", epochs=1)
    method.eval()
    (images, labels), right = (torch.cat(parts) for parts in zip(*[(v[0], y) for v, y in digits.val_dataloader()])), 0
    for scores, label in zip(method.network(images).tolist(), labels.tolist()):
        right += max(range(10), key=scores.__getitem__) == label
    assert record.values["top1"] == pytest.approx(100 * right / 359, abs=0.3)
    assert (record.context["protocol"], record.context["method"]) == ("supervised", "supervised")


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (BYOL(REAL, momentum=2.0), "are out of range"),
        (small_swav(prototypes=0), "are out of range"),
        (small_swav(queue_size=16), "does not hold whole batches of 32"),
        (Supervised(REAL, teacher_share=2.0), "not from 0 to 1"),
    ],
)
def test_values_that_make_no_method_are_refused(method: SwAV, reason: str, digits: Digits) -> None:
    with pytest.raises(UserError, match=reason):
        method.prepare(digits)


def test_small_views_that_the_network_cannot_take_are_refused() -> None:
    data = Digits(batch_size=32, small_resolution=24)
    data.setup("fit")
    with pytest.raises(UserError, match="resolution 24 does not divide"):
        small_swav(small_views=2).prepare(data)


def test_a_head_that_would_normalise_one_image_is_refused() -> None:
    data = Digits(batch_size=1)
    data.setup("fit")
    method = small_swav()
    method.prepare(data)
    with pytest.raises(UserError, match="one image at a time; give two or more"):
        train_one_step(method, data)


def test_a_teacher_of_other_classes_is_refused(teacher: str, digits: Digits) -> None:
    with pytest.raises(UserError, match="has 24 outputs, the data have 10 classes"):
        Supervised(REAL, teacher).prepare(digits)
