"""Training in two processes: the same weights as in one, and one line when something goes wrong."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.train.conftest import WIDTH
from tests.train.runs import assert_equal_runs, last, run, write_config

STUDENT = {"student": {"width": WIDTH}}
TAUGHT = {**STUDENT, "teacher": None}
MOCO = {"queue": 64, "key_groups": 2}
METHODS: dict[str, dict[str, Any]] = {
    "Distill": TAUGHT,
    "MoCoV2": {**STUDENT, **MOCO, "dim": 16},
    "MoCoV2Distill": {**TAUGHT, **MOCO},
    "BURN": {**TAUGHT, "classes": 24},
}
"""Methods, and what their configurations say; the teacher is put in by the test."""

STEPS = {"max_epochs": 1, "limit_train_batches": 5, "sync_batchnorm": True}
# Rounding differs with the order of sums, a rounded value can pass a sign's threshold, and Adam divides gradients that
# should be 0 (of biases before a BatchNorm) by themselves. In float64 none of the three is seen in five steps.
EXACT = {"precision": "64-true"}


@pytest.fixture
def recipe(tmp_path: Path, teacher: str) -> Path:
    """A stage for every method."""
    stages = {}
    for name, arguments in METHODS.items():
        if "teacher" in arguments:
            arguments = {**arguments, "teacher": teacher}
        write_config(tmp_path / f"{name}.yaml", name, STEPS | EXACT, **arguments)
        stages[name] = {"config": f"{name}.yaml"}
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    return path


def test_two_processes_with_half_the_batch_each_equal_one(recipe: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert run("recipe", recipe, "--runs", one).returncode == 0
    walked = run("recipe", recipe, "--runs", two, torchrun=2)
    assert walked.returncode == 0, walked.stderr
    # Both processes walk the stages, one of them tells of it.
    assert walked.stdout.count("running") == len(METHODS)
    for name in METHODS:
        assert last(two / "all" / name)["global_step"] == 5
        # The greatest difference seen is 4e-11.
        assert_equal_runs(two / "all" / name, one / "all" / name, rtol=1e-9, atol=1e-9)


def test_devices_start_processes_that_resume_what_one_began(tmp_path: Path, teacher: str) -> None:
    config = write_config(tmp_path / "d.yaml", "Distill", EXACT | {"sync_batchnorm": True}, teacher=teacher, **STUDENT)
    options = ("fit", "--config", config, "--run")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run(*options, whole).returncode == 0
    assert run(*options, broken, "--trainer.max_steps", 6).returncode == 0
    two = run(*options, broken, "--trainer.devices", 2, "--ckpt_path", broken / "last.ckpt")
    assert (two.returncode, two.stderr) == (0, "")
    assert last(broken)["global_step"] == 8
    assert_equal_runs(broken, whole, rtol=1e-9, atol=1e-9)
    again = run(*options, whole, "--trainer.devices", 2)
    assert again.returncode == 2
    # Both meet it, and whichever is first tells it.
    (line,) = again.stderr.splitlines()
    assert line.removeprefix("error: ").removeprefix("process 1: ").startswith(f"{whole} holds a run already; give")
    uneven = run(*options, tmp_path / "other", "--data.batch_size", 15, torchrun=2)
    assert uneven.returncode != 0
    # torchrun adds its own account.
    (line,) = [line for line in uneven.stderr.splitlines() if line.startswith("error:")]
    assert "not shared out evenly by 2 processes" in line
    assert not (tmp_path / "other").exists()
