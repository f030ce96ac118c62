"""What can go wrong in a run: one line, exit code 2, and the last good checkpoint stays."""

import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from edgebnn.train.__main__ import main
from edgebnn.train.pipeline import inputs
from tests.train.conftest import WIDTH
from tests.train.runs import command, last, run, write_config


@pytest.fixture
def distill(tmp_path: Path, teacher: str) -> Path:
    return write_config(tmp_path / "distill.yaml", "Distill", teacher=teacher, student={"width": WIDTH})


@pytest.mark.parametrize("full", ["model.safetensors", "last.ckpt"])
def test_a_full_disk(distill: Path, tmp_path: Path, full: str) -> None:
    options = ["fit", "--config", str(distill)]
    main([*options, "--trainer.max_steps", "4"])
    folder = tmp_path / "distill"
    before = {name: (folder / name).read_bytes() for name in ("model.safetensors", "last.ckpt")}
    assert len(before["model.safetensors"]) < len(before["last.ckpt"]) / 2
    # A file cannot grow beyond this: the system says so as it would of a disk.
    limit = len(before[full]) * 2 // 3
    found = subprocess.run(
        command(*options, "--ckpt_path", folder / "last.ckpt"),
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert found.returncode == 2
    (line,) = found.stderr.splitlines()
    assert line.startswith(f"error: cannot write {folder / full}")
    assert (folder / "last.ckpt").read_bytes() == before["last.ckpt"]
    assert (folder / full).read_bytes() == before[full]
    assert not list(folder.glob(".*.part"))
    # With room again it goes on.
    main([*options, "--ckpt_path", str(folder / "last.ckpt")])
    assert last(folder)["global_step"] == 8


def test_weights_that_are_no_numbers_are_not_saved(distill: Path, tmp_path: Path) -> None:
    # The first loss is a number still; Adam's step makes the weights infinite.
    options = ["fit", "--config", distill, "--checkpoint_steps", 1, "--model.optimizer.lr", 1e39]
    found = run(*options)
    assert found.returncode == 2
    (line,) = found.stderr.splitlines()
    assert "holds values that are not finite in epoch 0; the last good checkpoint is kept" in line
    assert not (tmp_path / "distill/last.ckpt").exists()
    assert not (tmp_path / "distill/model.safetensors").exists()


@pytest.mark.parametrize("busy", [False, pytest.param(True, marks=pytest.mark.long)], ids=["waiting", "busy"])
def test_a_killed_process_ends_the_others(distill: Path, tmp_path: Path, busy: bool) -> None:
    """The other one waits for what the killed one should send, or is told to end before it misses it."""
    options = ["fit", "--config", distill, "--trainer.limit_train_batches", 60, "--checkpoint_steps", 1]
    launcher = subprocess.Popen(command(*options, "--trainer.devices", 2), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while not (tmp_path / "distill/last.ckpt").exists() and launcher.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    processes = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    assert len(processes) == 2
    if busy:
        os.kill(int(processes[0]), signal.SIGSTOP)
    os.kill(int(processes[1]), signal.SIGKILL)
    if busy:
        time.sleep(3)  # the launcher has found out, and its SIGTERM waits
        os.kill(int(processes[0]), signal.SIGCONT)
    _, err = launcher.communicate(timeout=200)
    assert launcher.returncode == 2
    (line,) = err.splitlines()
    assert line.startswith("error: process 1 of 2 was killed by signal 9; if memory ran out")
    assert not [pid for pid in processes if Path(f"/proc/{pid}").exists()]
    assert last(tmp_path / "distill")["global_step"] >= 1


def test_files_a_stage_learns_from_are_watched(tmp_path: Path) -> None:
    teacher = tmp_path / "external.pth"
    teacher.write_bytes(b"teacher")
    root = tmp_path / "runs"
    config = {
        "model.init_args.teacher": str(teacher),
        "model.init_args.init_checkpoint": f"{root}/step1/model.safetensors",
        "model.class_path": "Distill",
        "data.init_args.root": str(tmp_path),
        # No file, and too long to be asked for as one.
        "model.init_args.method": 300 * "distilled ",
        "trainer.max_epochs": 3,
    }
    files = inputs.find_inputs(config, root)
    assert files == {str(teacher): teacher, "step1/model.safetensors": root / "step1/model.safetensors"}
    files["step1/model.safetensors"].parent.mkdir(parents=True)
    files["step1/model.safetensors"].write_bytes(b"first")
    was = {name: inputs.file_facts(path) for name, path in files.items()}
    assert inputs.changed_inputs(was, files) == []
    os.utime(teacher, ns=(1, 1))
    assert inputs.changed_inputs(was, files) == []
    teacher.write_bytes(b"Teacher")
    assert inputs.changed_inputs(was, files) == [str(teacher)]
    teacher.unlink()
    files["step1/model.safetensors"].write_bytes(b"first one")
    assert inputs.changed_inputs(was, files) == ["step1/model.safetensors"]
    assert inputs.changed_inputs({}, files) == ["step1/model.safetensors"]
