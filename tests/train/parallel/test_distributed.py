"""Training in two processes: the same weights as in one, and one line when something goes wrong."""

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import distributed, multiprocessing

from edgebnn.train.__main__ import main
from edgebnn.train.data.sources import Digits
from tests.train.conftest import REAL, WIDTH
from tests.train.runs import assert_equal_runs, last, run, write_config

STUDENT = {"student": {"width": WIDTH}}
TAUGHT = {**STUDENT, "teacher": None}
MOCO = {"queue_size": 64, "key_groups": 2}
METHODS: dict[str, dict[str, Any]] = {
    "Distill": TAUGHT,
    "MoCoV2": {**STUDENT, **MOCO, "dim": 16},
    "MoCoV2Distill": {**TAUGHT, **MOCO},
    "BURN": {**TAUGHT, "classifier_dim": 24},
}
"""Methods, and what their configurations say; the teacher is put in by the test."""

STEPS = {"max_epochs": 1, "limit_train_batches": 5, "sync_batchnorm": True}
# Rounding differs with the order of sums, a rounded value can pass a sign's threshold, and Adam divides gradients that
# should be 0 (of biases before a BatchNorm) by themselves. In float64 none of the three is seen in five steps.
EXACT = {"precision": "64-true"}


def write_recipe(tmp_path: Path, teacher: str, methods: list[str]) -> Path:
    """A stage for each of the methods."""
    stages = {}
    for name in methods:
        arguments = METHODS[name]
        if "teacher" in arguments:
            arguments = {**arguments, "teacher": teacher}
        write_config(tmp_path / f"{name}.yaml", name, STEPS | EXACT, **arguments)
        stages[name] = {"config": f"{name}.yaml"}
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    return path


# The first has what two of the others have: a queue, and a teacher.
@pytest.mark.parametrize(
    "methods",
    [["MoCoV2Distill"], pytest.param(["Distill", "MoCoV2", "BURN"], marks=pytest.mark.long)],
    ids=["one", "others"],
)
def test_two_processes_with_half_the_batch_each_equal_one(methods: list[str], tmp_path: Path, teacher: str) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    recipe = write_recipe(tmp_path, teacher, methods)
    main(["recipe", str(recipe), "--runs", str(one)])
    walked = run("recipe", recipe, "--runs", two, torchrun=2)
    assert walked.returncode == 0, walked.stderr
    # Both processes walk the stages, one of them tells of it.
    assert walked.stdout.count("running") == len(methods)
    for name in methods:
        assert last(two / "all" / name)["global_step"] == 5
        # The greatest difference seen is 4e-11.
        assert_equal_runs(two / "all" / name, one / "all" / name, rtol=1e-9, atol=1e-9)


def test_devices_start_processes_that_resume_what_one_began(tmp_path: Path, teacher: str) -> None:
    config = write_config(tmp_path / "d.yaml", "Distill", EXACT | {"sync_batchnorm": True}, teacher=teacher, **STUDENT)
    options = ("fit", "--config", config, "--run")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    main([*map(str, options), str(whole)])
    main([*map(str, options), str(broken), "--trainer.max_steps", "6"])
    two = run(*options, broken, "--trainer.devices", 2, "--ckpt_path", broken / "last.ckpt")
    assert (two.returncode, two.stderr) == (0, "")
    assert last(broken)["global_step"] == 8
    assert_equal_runs(broken, whole, rtol=1e-9, atol=1e-9)


@pytest.mark.long
def test_what_both_processes_meet_is_told_once(tmp_path: Path, teacher: str) -> None:
    config = write_config(tmp_path / "d.yaml", "Distill", EXACT | {"sync_batchnorm": True}, teacher=teacher, **STUDENT)
    options = ("fit", "--config", config, "--run")
    whole = tmp_path / "whole"
    main([*map(str, options), str(whole)])
    again = run(*options, whole, "--trainer.devices", 2)
    assert again.returncode == 2
    # Both meet it, and whichever is first tells it.
    (line,) = again.stderr.splitlines()
    assert line.removeprefix("error: ").removeprefix("process 1: ").startswith(f"{whole} holds a run already; give")
    uneven = run(*options, tmp_path / "other", "--data.batch_size", 15, torchrun=2)
    assert uneven.returncode != 0
    # torchrun adds its own account.
    (line,) = [line for line in uneven.stderr.splitlines() if line.startswith("error:")]
    assert "does not divide evenly by 2 processes" in line
    assert not (tmp_path / "other").exists()


@pytest.mark.long
def test_what_is_measured_is_the_network_that_is_saved(tmp_path: Path) -> None:
    # Each process normalises eight images at a time by itself; the first one's statistics are kept.
    config = write_config(
        tmp_path / "s.yaml", "Supervised", {"max_epochs": 1}, student=vars(REAL), optimizer={"lr": 0.01}
    )
    trained = run("fit", "--config", config, "--trainer.devices", 2)
    assert (trained.returncode, trained.stderr) == (0, "")
    with next((tmp_path / "s/logs/csv").glob("*/metrics.csv")).open() as file:
        measured = [row["val/top1"] for row in csv.DictReader(file) if row["val/top1"]]
    # In training, and of the finished network.
    assert len(measured) == 2
    assert measured[0] == measured[1]


def meet_broken_files(rank: int, folder: str) -> None:
    """A process whose loaders could not read some files."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    data = Digits()
    data.broken = [{"b", "a"}, {"b", "c"}][rank]
    Path(folder, f"{rank}").write_text(" ".join(data.skipped()))
    distributed.destroy_process_group()


def test_a_broken_file_that_both_processes_met_is_one(tmp_path: Path) -> None:
    multiprocessing.spawn(meet_broken_files, (str(tmp_path),), nprocs=2)
    assert [(tmp_path / f"{rank}").read_text() for rank in range(2)] == ["a b c"] * 2
