"""A run that was stopped, wherever, ends with the same bits as one never stopped."""

from pathlib import Path

import pytest

from tests.train.conftest import WIDTH
from tests.train.runs import assert_equal_runs, kill_when, last, write_config
from train.__main__ import main

ARGUMENTS = {
    "MoCoV2": {"student": {"width": WIDTH}, "dim": 16, "queue": 64, "key_groups": 2},
    "Distill": {"student": {"width": WIDTH}},
}


@pytest.fixture
def distill(tmp_path: Path, teacher: str) -> Path:
    return write_config(tmp_path / "distill.yaml", "Distill", teacher=teacher, **ARGUMENTS["Distill"])


def test_killed_in_the_middle_of_an_epoch(distill: Path, tmp_path: Path) -> None:
    options = ("fit", "--config", distill, "--trainer.limit_train_batches", 40, "--run")
    killed = tmp_path / "killed"

    def in_second_epoch() -> bool:
        return (killed / "last.ckpt").exists() and 42 <= last(killed)["global_step"] < 60

    kill_when(in_second_epoch, *options, killed, "--checkpoint_steps", 1)
    step = last(killed)["global_step"]
    assert 40 < step < 80, "it was not killed in the middle of an epoch"
    main([*map(str, options), str(killed), "--ckpt_path", f"{killed}/last.ckpt"])
    main([*map(str, options), str(tmp_path / "whole")])
    assert last(killed)["global_step"] == 80
    assert_equal_runs(killed, tmp_path / "whole")


@pytest.fixture
def moco(tmp_path: Path) -> Path:
    return write_config(tmp_path / "moco.yaml", "MoCoV2", **ARGUMENTS["MoCoV2"])


@pytest.mark.parametrize("method", ["distill", "moco"])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("steps", [1, 6])
def test_any_step_is_a_place_to_go_on_from(
    request: pytest.FixtureRequest, tmp_path: Path, method: str, steps: int, accumulate: int
) -> None:
    config = request.getfixturevalue(method)
    options = ["fit", "--config", str(config), "--trainer.accumulate_grad_batches", str(accumulate)]
    options += ["--trainer.limit_train_batches", str(4 * accumulate), "--run"]
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    main([*options, str(broken), "--trainer.max_steps", str(steps)])
    assert last(broken)["global_step"] == steps
    # Other workers, and a save in between: the same.
    main(
        [*options, str(broken), "--ckpt_path", f"{broken}/last.ckpt", "--data.workers", "2", "--checkpoint_steps", "3"]
    )
    main([*options, str(whole)])
    assert last(whole)["global_step"] == 8
    assert_equal_runs(broken, whole)
