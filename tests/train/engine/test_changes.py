"""A run that goes on with another rate, batch, precision, accumulation or number of epochs."""

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgebnn import records
from edgebnn.errors import UserError
from edgebnn.train.__main__ import main
from tests.train.conftest import WIDTH
from tests.train.runs import last, write_config

IMAGES = 160
BATCH = 16
LR = 1e-3


@pytest.fixture
def stopped(tmp_path: Path) -> list[str]:
    """Options of a run of 3 epochs of 10 steps, which stopped after step 13."""
    config = write_config(
        tmp_path / "moco.yaml",
        "MoCoV2",
        {"max_epochs": 3, "limit_train_batches": None, "log_every_n_steps": 1},
        student={"width": WIDTH},
        dim=16,
        queue_size=32,
        key_groups=2,
        optimizer={"name": "adam", "lr": LR, "schedule": "linear"},
    )
    options = ["fit", "--config", str(config), "--data.subset", f"{{per_class: {IMAGES // 10}}}"]
    main([*options, "--trainer.max_steps", "13"])
    return options


def resume(options: list[str], *changes: str, flag: str = "true") -> Path:
    run = Path(options[2]).with_suffix("")
    main([*options, "--ckpt_path", f"{run}/last.ckpt", "--resume_with_changes", flag, *changes])
    return run


def logged(run: Path, version: int = 1) -> list[dict[str, str]]:
    with (run / f"logs/csv/version_{version}/metrics.csv").open() as file:
        return list(csv.DictReader(file))


def rates(run: Path) -> dict[int, float]:
    """The logged learning rate of each optimizer step, counted from 0."""
    return {int(row["step"]): float(row["lr-Adam"]) for row in logged(run) if row["lr-Adam"]}


def steps(run: Path) -> list[int]:
    return [int(row["step"]) for row in logged(run) if row["train/loss"]]


def test_another_rate_and_more_epochs(stopped: list[str]) -> None:
    run = resume(stopped, "--model.optimizer.lr", "1e-4", "--trainer.max_epochs", "4")
    assert last(run)["global_step"] == 40
    assert steps(run) == list(range(13, 40))
    assert rates(run) == pytest.approx({step: 1e-4 * (1 - step // 10 / 4) for step in range(13, 40)})
    assert yaml.safe_load((run / "config.1.yaml").read_text())["model"]["init_args"]["optimizer"]["lr"] == LR
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["max_epochs"] == 4
    changes = {"model.init_args.optimizer.lr": [LR, 1e-4], "trainer.max_epochs": [3, 4]}
    expected: dict[str, Any] = {"epoch": 1, "step": 13, "changes": changes}
    assert last(run)["changes"] == [expected]
    # The run is finished, and is extended.
    more = ("--model.optimizer.lr", "1e-4", "--trainer.max_epochs")
    with pytest.raises(UserError, match=r"another trainer.max_epochs \(was 4, is 5\); .* --resume_with_changes true"):
        resume(stopped, *more, "5", flag="false")
    resume(stopped, *more, "5")
    assert last(run)["global_step"] == 50
    again = {"epoch": 4, "step": 40, "changes": {"trainer.max_epochs": [4, 5]}}
    assert last(run)["changes"] == [expected, again]
    assert yaml.safe_load((run / "config.2.yaml").read_text())["trainer"]["max_epochs"] == 4


@pytest.mark.parametrize(
    ("batch", "accumulate", "position", "per_epoch"), [(8, 1, 6, 20), (32, 2, 1, 5), (16, 2, 3, 10)]
)
def test_another_batch_goes_on_at_the_same_image(
    stopped: list[str], batch: int, accumulate: int, position: int, per_epoch: int
) -> None:
    """48 images of the second epoch were seen."""
    changes = ("--data.batch_size", str(batch), "--trainer.accumulate_grad_batches", str(accumulate))
    run = resume(stopped, *changes)
    first = per_epoch + position
    assert last(run)["global_step"] == 3 * per_epoch
    assert sorted(set(steps(run))) == list(range(first, 3 * per_epoch))
    found = rates(run)
    assert found == pytest.approx({step: LR * (1 - step // per_epoch / 3) for step in found})
    assert first in found


def test_precision_and_clipping(stopped: list[str]) -> None:
    run = resume(stopped, "--trainer.precision", "bf16-mixed", "--trainer.gradient_clip_val", "1.0")
    assert last(run)["global_step"] == 30


def test_other_changes_are_refused(stopped: list[str]) -> None:
    with pytest.raises(UserError, match=r"another model.init_args.temperature .*changes the optimizer's values, batch"):
        resume(stopped, "--model.temperature", "0.3", "--model.optimizer.lr", "1e-4")
    with pytest.raises(UserError, match=r"another model.init_args.optimizer.name \(was adam, is sgd\)"):
        resume(stopped, "--model.optimizer.name", "sgd")


def test_records_name_the_changes(tmp_path: Path) -> None:
    config = write_config(tmp_path / "sup.yaml", "Supervised", {"limit_val_batches": 1}, student={"width": WIDTH})
    options = ["fit", "--config", str(config)]
    main([*options, "--trainer.max_steps", "4"])
    run = resume(options, "--trainer.max_epochs", "3")
    newest = max(records.read_records(run), key=lambda record: record.created)
    assert newest.context["changes"] == [{"epoch": 1, "step": 4, "changes": {"trainer.max_epochs": [2, 3]}}]
    assert newest.context["epochs"] == 3
