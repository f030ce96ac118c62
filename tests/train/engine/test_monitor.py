"""What a run tells about itself, against slow formulas."""

import math
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from edgebnn.train.data.sources import Digits
from edgebnn.train.engine import monitor
from edgebnn.train.engine.monitor import COLLAPSED, OutputSpread, Throughput, WeightFlips, output_spread
from edgebnn.train.engine.optim import OptimizerConfig
from edgebnn.train.methods.distill import Distill
from edgebnn.train.methods.student import Student
from tests.train.conftest import BINARY, STEP1, snapshot, train_one_step


def test_spread_is_the_deviation_of_directions() -> None:
    outputs = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)) + 1
    rows = [[value / math.hypot(*row) for value in row] for row in outputs.tolist()]
    deviations = []
    for column in zip(*rows):
        mean = sum(column) / 7
        deviations.append(math.sqrt(sum((value - mean) ** 2 for value in column) / 7))
    assert float(output_spread(outputs)) == pytest.approx(sum(deviations) / 5 * math.sqrt(5), rel=1e-5)
    # Both ends: one direction, and two opposite ones in every dimension.
    assert float(output_spread(torch.ones(4, 3))) == pytest.approx(0, abs=1e-6)
    assert float(output_spread(torch.cat([torch.eye(8), -torch.eye(8)]))) == pytest.approx(1, rel=1e-5)


def distilled(teacher: str, digits: Digits, student: Student = BINARY, lr: float = 0.1) -> Distill:
    method = Distill(student, teacher, optimizer=OptimizerConfig(lr=lr))
    method.prepare(digits)
    return method


def test_flips_are_signs_that_changed(teacher: str, digits: Digits, tmp_path: Path) -> None:
    method = distilled(teacher, digits)
    before = snapshot(method.network)
    logger = TensorBoardLogger(tmp_path, "logs")
    # Two batches make the step, and only its end counts.
    how = {"log_every_n_steps": 1, "accumulate_grad_batches": 2, "logger": logger}
    train_one_step(method, digits, callbacks=[WeightFlips()], **how)
    changed = {
        name: [
            (a >= 0) != (b >= 0) for a, b in zip(weight.flatten().tolist(), before[f"{name}.weight"].flatten().tolist())
        ]
        for name, weight in monitor.binary_weights(method.network).items()
    }
    flips = [flip for layer in changed.values() for flip in layer]
    share = sum(flips) / len(flips)
    assert 0 < share < 1
    assert float(method.trainer.callback_metrics["train/flips"]) == pytest.approx(share, rel=1e-5)
    logger.finalize("")
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    for name, layer in changed.items():
        (event,) = events.Scalars(f"flips/{name}")
        assert (event.step, event.value) == (1, pytest.approx(sum(layer) / len(layer), rel=1e-5))


def test_a_network_without_binary_weights_has_no_flips(teacher: str, digits: Digits) -> None:
    method = distilled(teacher, digits, STEP1)
    train_one_step(method, digits, callbacks=[WeightFlips()], log_every_n_steps=1)
    assert "train/flips" not in method.trainer.callback_metrics


def test_collapse_is_told_once(teacher: str, digits: Digits, capsys: pytest.CaptureFixture[str]) -> None:
    how = {"log_every_n_steps": 1, "max_steps": 3}
    sound = distilled(teacher, digits, lr=1e-3)
    train_one_step(sound, digits, callbacks=[OutputSpread()], **how)
    assert float(sound.trainer.callback_metrics["train/spread"]) > COLLAPSED
    assert capsys.readouterr().err == ""
    collapsed = distilled(teacher, digits, lr=1e-6)
    with torch.no_grad():
        collapsed.network.head[-1].weight.mul_(1e-6)
    train_one_step(collapsed, digits, callbacks=[OutputSpread()], **how)
    assert float(collapsed.trainer.callback_metrics["train/spread"]) < COLLAPSED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: outputs have nearly collapsed at step 1: their spread is 0.000")


def test_throughput_is_images_over_the_time_of_steps(
    teacher: str, digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(1000))
    # A clock that is looked at once when timing starts and once at each logged step.
    monkeypatch.setattr(monitor.time, "monotonic", lambda: float(next(ticks)))
    logger = CSVLogger(tmp_path, "logs")
    method = distilled(teacher, digits)
    callback = Throughput()
    how = {"log_every_n_steps": 2, "max_steps": 2, "accumulate_grad_batches": 2, "logger": logger}
    start = next(ticks)
    train_one_step(method, digits, callbacks=[callback], **how)
    # Two steps of 32 images; other parts of the trainer look at the clock, too.
    rate = float(method.trainer.callback_metrics["train/images_per_s"])
    seconds = 64 / rate
    assert seconds == pytest.approx(round(seconds), rel=1e-5)
    assert 1 <= seconds <= next(ticks) - start
