"""SIGTERM and SIGUSR1 in the middle of an epoch: the run saves the step, and resumes as if it had never stopped."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from edgebnn.train.__main__ import main
from tests.train.conftest import WIDTH
from tests.train.runs import assert_equal_runs, command, last, write_config

STEPS = 24


def stop_in_epoch(run: Path, number: int, *arguments: object, whole_group: bool = False) -> tuple[int, str]:
    """Starts a run, sends it a signal after its third step, and returns its exit code and stderr."""
    logged = run / "logs/csv/version_0/metrics.csv"
    options = (*arguments, "--run", run, "--trainer.log_every_n_steps", 1)
    process = subprocess.Popen(command(*options), stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 200
    while not (logged.exists() and len(logged.read_text().splitlines()) > 3) and time.monotonic() < deadline:
        assert process.poll() is None, "it ended before the signal"
        time.sleep(0.005)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    _, err = process.communicate(timeout=200)
    return process.returncode, err


@pytest.fixture
def moco(tmp_path: Path) -> Path:
    trainer = {"max_epochs": 1, "limit_train_batches": STEPS}
    return write_config(tmp_path / "moco.yaml", "MoCoV2", trainer, student={"width": WIDTH}, dim=16, queue_size=64)


@pytest.mark.parametrize(
    ("number", "code", "whole_group"),
    [(signal.SIGTERM, 143, False), (signal.SIGUSR1, 138, True)],
    ids=["SIGTERM", "SIGUSR1 to all its processes"],
)
def test_a_signal_saves_the_step(tmp_path: Path, moco: Path, number: int, code: int, whole_group: bool) -> None:
    stopped = tmp_path / "stopped"
    options = ("fit", "--config", moco, "--data.workers", int(whole_group))
    found, err = stop_in_epoch(stopped, number, *options, whole_group=whole_group)
    assert found == code, err
    step = last(stopped)["global_step"]
    assert 3 <= step < STEPS
    (line,) = err.splitlines()
    assert re.match(
        f"stopped by {signal.Signals(number).name} after step {step}, which .*/stopped/last.ckpt holds", line
    )
    main([*map(str, options), "--run", str(stopped), "--ckpt_path", f"{stopped}/last.ckpt"])
    main([*map(str, options), "--run", str(tmp_path / "whole")])
    assert_equal_runs(stopped, tmp_path / "whole")


def test_the_launcher_passes_the_signal_on(tmp_path: Path, moco: Path) -> None:
    options = ("fit", "--config", moco, "--trainer.devices", 2)
    found, err = stop_in_epoch(tmp_path / "stopped", signal.SIGUSR1, *options)
    assert found == 138, err
    step = last(tmp_path / "stopped")["global_step"]
    assert 3 <= step < STEPS
    (line,) = err.splitlines()
    assert line.startswith(f"stopped by SIGUSR1 after step {step}")
