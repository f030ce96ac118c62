"""The script for a GPU, in its quick form on the CPU."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from edgebnn import records
from tools.gpu_check import differing_tensors

ROOT = Path(__file__).parents[2]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_check_passes_and_leaves_a_record(tmp_path: Path) -> None:
    command = [sys.executable, "tools/gpu_check.py", "--quick", "--runs", str(tmp_path), "--minutes", "14"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = records.read_records(tmp_path)
    said = {record.context["check"]: record.context["said"] for record in found if record.kind == "check"}
    assert said == {
        "training speed": "ok: see bench-train.log",
        "resume, bf16-mixed": "ok: equal bits",
        "one process of torchrun": "ok: gloo",
        "CIFAR-10": "ok: left out with --quick",
    }
    (speed,) = [record for record in found if record.kind == "training"]
    ratio = speed.values["images_per_s"] / speed.values["baseline_images_per_s"]
    np.testing.assert_allclose(speed.values["speed_ratio"], ratio, rtol=1e-12)
    assert "one step by kind of operator" in (tmp_path / "bench-train.log").read_text()


def test_time_that_is_over_is_told_and_no_success(tmp_path: Path) -> None:
    command = [sys.executable, "tools/gpu_check.py", "--quick", "--runs", str(tmp_path), "--minutes", "0.1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("left out: the time is over") == 4
    assert [record.values["ok"] for record in records.read_records(tmp_path)] == [0] * 4


def test_tensors_that_differ_in_a_bit_are_named(tmp_path: Path) -> None:
    one = {"a": np.zeros(3, np.float32), "b": np.ones(2, np.float32), "c": np.ones(1, np.float32)}
    other = {"a": np.array([0, -0.0, 0], np.float32), "b": np.ones(2, np.float32)}
    for name, tensors in (("one", one), ("other", other)):
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "model.safetensors")
    assert differing_tensors(tmp_path / "one", tmp_path / "other") == ["a", "c"]
    assert differing_tensors(tmp_path / "one", tmp_path / "one") == []
