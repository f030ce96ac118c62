"""Runs of `python -m train`, small enough for tests, and what they leave."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

TRAINER = {"max_epochs": 2, "limit_train_batches": 4, "accelerator": "cpu", "enable_progress_bar": False}
DATA = {"class_path": "Digits", "init_args": {"batch_size": 16}}


def write_config(path: Path, method: str, trainer: dict[str, Any] | None = None, **arguments: Any) -> Path:
    """A configuration whose run folder is `path` without its suffix."""
    model = {"class_path": method, "init_args": arguments}
    config = {"run": str(path.with_suffix("")), "model": model, "data": DATA, "trainer": TRAINER | (trainer or {})}
    path.write_text(yaml.safe_dump(config))
    return path


def command(*arguments: object, torchrun: int = 0) -> list[str]:
    """The command line of `python -m train`, under torchrun in so many processes if any."""
    launcher = (
        ["torch.distributed.run", "--standalone", "--nproc_per_node", str(torchrun), "-m", "--"] if torchrun else []
    )
    return [sys.executable, "-m", *launcher, "train", *map(str, arguments)]


def run(*arguments: object, torchrun: int = 0) -> subprocess.CompletedProcess[str]:
    """Runs the command in processes of its own, to its end."""
    return subprocess.run(command(*arguments, torchrun=torchrun), capture_output=True, text=True, timeout=240)


def kill_when(reached: Callable[[], bool], *arguments: object) -> None:
    """Starts the command and kills it and all its processes (-9) as soon as `reached()` is true."""
    process = subprocess.Popen(command(*arguments), start_new_session=True)
    deadline = time.monotonic() + 200
    while not reached() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert process.poll() is None, "it ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last(run_folder: Path) -> dict[str, Any]:
    """The run's `last.ckpt`."""
    return torch.load(run_folder / "last.ckpt", weights_only=True)


def assert_equal_runs(found: Path, expected: Path, **tolerance: float) -> None:
    """Weights, buffers and the optimiser's state are equal, to the bit if no tolerance is given."""
    tolerance = tolerance or {"rtol": 0, "atol": 0}
    one, other = last(found), last(expected)
    for what in ("global_step", "epoch", "lr_schedulers"):
        assert one[what] == other[what]
    torch.testing.assert_close(one["state_dict"], other["state_dict"], **tolerance)
    (one_optimizer,), (other_optimizer,) = one["optimizer_states"], other["optimizer_states"]
    torch.testing.assert_close(one_optimizer["state"], other_optimizer["state"], **tolerance)
