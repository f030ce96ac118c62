"""A run that was stopped, wherever, ends with the same bits as one never stopped."""

from pathlib import Path

import pytest

from tests.train.conftest import WIDTH
from tests.train.runs import assert_equal_runs, kill_when, last, write_config
from train.__main__ import main

ARGUMENTS = {
    "MoCoV2": {"student": {"width": WIDTH}, "dim": 16, "queue": 48, "key_groups": 2},
    "Distill": {"student": {"width": WIDTH}},
}


@pytest.fixture
def distill(tmp_path: Path, teacher: str) -> Path:
    return write_config(tmp_path / "distill.yaml", "Distill", teacher=teacher, **ARGUMENTS["Distill"])


def test_killed_in_the_middle_of_an_epoch(distill: Path, tmp_path: Path) -> None:
    options = ("fit", "--config", distill, "--trainer.limit_train_batches", 12, "--run")
    killed = tmp_path / "killed"

    def in_second_epoch() -> bool:
        return (killed / "last.ckpt").exists() and 14 <= last(killed)["global_step"] < 23

    kill_when(in_second_epoch, *options, killed, "--checkpoint_steps", 1)
    step = last(killed)["global_step"]
    assert step % 12 != 0, "it was not killed in the middle of an epoch"
    main([*map(str, options), str(killed), "--ckpt_path", f"{killed}/last.ckpt"])
    main([*map(str, options), str(tmp_path / "whole")])
    assert last(killed)["global_step"] == 24
    assert_equal_runs(killed, tmp_path / "whole")


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("steps", [1, 6])
def test_any_step_is_a_place_to_go_on_from(distill: Path, tmp_path: Path, steps: int, accumulate: int) -> None:
    options = ["fit", "--config", str(distill), "--trainer.accumulate_grad_batches", str(accumulate)]
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
