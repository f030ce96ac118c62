"""The kNN probe of a pretraining: its value, when it runs, and that it changes nothing."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from edgebnn.train.__main__ import main
from edgebnn.train.data.sources import Digits
from edgebnn.train.evaluation.probe import BANK, QUERIES, NeighbourProbe, probe_interval
from edgebnn.train.methods.distill import Distill
from tests.train.conftest import BINARY, WIDTH, train_one_step
from tests.train.runs import assert_equal_runs, write_config


def test_the_probe_is_the_accuracy_of_near_neighbours(teacher: str, digits: Digits) -> None:
    method = Distill(BINARY, teacher)
    method.prepare(digits)
    how = {"callbacks": [NeighbourProbe(1)], "max_epochs": 1, "max_steps": -1, "limit_train_batches": 1}
    train_one_step(method, digits, **how)
    found = float(method.trainer.callback_metrics["val/knn_top1"])
    network = method.network.eval()

    def features(part: str, most: int) -> tuple[np.ndarray, np.ndarray]:
        images = digits.images(part)  # type: ignore[arg-type]
        order = np.random.default_rng(0).permutation(len(images))[:most] if len(images) > most else range(len(images))
        (views, labels), *_ = images.fixed([int(number) for number in order], digits.fixed())
        with torch.no_grad():
            rows = network.features(views[0]).double().numpy()
        return rows / np.linalg.norm(rows, axis=1, keepdims=True), labels.numpy()

    # The sample holds all digits, in any order.
    (bank, numbers), (queries, right) = features("train", BANK), features("val", QUERIES)
    hits = 0
    for query, label in zip(queries, right):
        near = bank @ query
        votes = np.zeros(10)
        for neighbour in np.argsort(-near)[:20]:
            votes[numbers[neighbour]] += np.exp(near[neighbour] / 0.07)
        hits += votes.argmax() == label
    # float32 may order two equal neighbours differently.
    assert found == pytest.approx(100 * hits / len(right), abs=100 * 2 / len(right))
    assert 0 < found < 100
    assert found * len(right) / 100 == pytest.approx(round(found * len(right) / 100), abs=1e-3)


@pytest.mark.parametrize(
    ("images", "epochs"), [(1_281_167, 1), (50_000, 1), (49_999, 2), (4_000, 13), (1_437, 36), (10, 2500)]
)
def test_probes_see_a_twentieth_of_the_images(images: int, epochs: int) -> None:
    assert probe_interval(images, 2500) == epochs
    assert 2500 / (epochs * images) <= 0.051 or images < 20


def test_a_run_with_probes_ends_with_the_same_bits(tmp_path: Path) -> None:
    config = write_config(tmp_path / "moco.yaml", "MoCoV2", student={"width": WIDTH}, dim=16, queue_size=64)
    for folder, epochs in (("with", 1), ("without", 0), ("default", "null")):
        options = ["--probe_epochs", str(epochs), "--data.workers", "1", "--run", str(tmp_path / folder)]
        main(["fit", "--config", str(config), *options])
    assert_equal_runs(tmp_path / "with", tmp_path / "without")
    logged = {}
    for folder in ("with", "without", "default"):
        metrics = tmp_path / folder / "logs/csv/version_0/metrics.csv"
        # A run of so few steps logs nothing else.
        rows = list(csv.DictReader(metrics.read_text().splitlines())) if metrics.exists() else []
        logged[folder] = [float(row["val/knn_top1"]) for row in rows if row.get("val/knn_top1")]
    assert len(logged["with"]) == 2
    assert all(10 < value <= 100 for value in logged["with"])
    # A probe would take longer than the two epochs of 64 images.
    assert logged["without"] == logged["default"] == []
