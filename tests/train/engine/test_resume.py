"""A run that was stopped, wherever, ends with the same bits as one never stopped."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from edgebnn.errors import UserError
from edgebnn.train.__main__ import main
from edgebnn.train.data.sources import Digits
from edgebnn.train.engine.resume import check_start, config_differences
from tests.train.conftest import WIDTH
from tests.train.runs import assert_equal_runs, kill_when, last, write_config

ARGUMENTS = {
    "MoCoV2": {"student": {"width": WIDTH}, "dim": 16, "queue_size": 64, "key_groups": 2},
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


class Stop(Callback):
    """Ends a run after its sixth step, as a time limit does: the second of its second epoch."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        trainer.should_stop = trainer.global_step == 6


def test_a_run_that_is_told_to_stop_leaves_what_it_has_done(distill: Path, tmp_path: Path) -> None:
    options = ["fit", "--config", str(distill), "--run"]
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    main([*options, str(stopped), "--trainer.callbacks", f"{__name__}.Stop"])
    assert last(stopped)["global_step"] == 6
    # As a run leaves it that was killed while it saved.
    halves = [stopped / f".{name}.abc.part" for name in ("last.ckpt", "model.safetensors")]
    others = stopped / ".notes.part"
    for path in (*halves, others):
        path.touch()
    main([*options, str(stopped), "--ckpt_path", f"{stopped}/last.ckpt"])
    assert not any(path.exists() for path in halves)
    assert others.exists()
    main([*options, str(whole)])
    assert_equal_runs(stopped, whole)


def test_a_file_that_is_no_checkpoint_of_a_run_is_refused(tmp_path: Path) -> None:
    whole = {"state_dict": {}, "loops": {}, "optimizer_states": [], "global_step": 3}
    for missing in whole:
        torch.save({key: value for key, value in whole.items() if key != missing}, tmp_path / "some.ckpt")
        with pytest.raises(UserError, match="no last.ckpt of a run"):
            check_start("run", str(tmp_path / "some.ckpt"), {}, -1)


def test_a_run_of_an_older_version_goes_on_under_the_keys_added_since(tmp_path: Path) -> None:
    old = {"model": {"init_args": {"temperature": 0.2}}, "data": {"init_args": {"batch_size": 4}}}
    path = tmp_path / "last.ckpt"
    torch.save(
        {"state_dict": {}, "loops": {}, "optimizer_states": [], "global_step": 3, "config": yaml.safe_dump(old)}, path
    )

    def now(drop_last: bool, weight_init: str) -> dict[str, Any]:
        model = {"init_args": {**old["model"]["init_args"], "weight_init": weight_init}}
        return {"model": model, "data": {"init_args": {**old["data"]["init_args"], "drop_last": drop_last}}}

    check_start("run", str(path), now(True, "kaiming"), -1)
    with pytest.raises(UserError, match=r"another data.init_args.drop_last \(was True, is False\); give"):
        check_start("run", str(path), now(False, "kaiming"), -1)
    with pytest.raises(UserError, match=r"another model.init_args.weight_init \(was kaiming, is torch\); give"):
        check_start("run", str(path), now(True, "torch"), -1)


def test_a_classifier_goes_on_with_the_classes_it_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_config(tmp_path / "s.yaml", "Supervised", {"max_epochs": 1}, student={"width": WIDTH})
    options = ["fit", "--config", str(config)]
    main([*options, "--trainer.max_steps", "1"])
    # As class folders named by numbers are now, which older versions sorted as text.
    monkeypatch.setattr(Digits, "labels", tuple("1023456789"))
    with pytest.raises(UserError, match=r"last.ckpt calls class 0 0, the data call it 1: the same classes in another"):
        main([*options, "--ckpt_path", f"{tmp_path}/s/last.ckpt"])


def test_a_class_that_moved_is_the_same_and_another_class_is_another() -> None:
    was = {"model.class_path": "train.distill.Distill", "data.class_path": "edgebnn.train.data.sources.Digits"}
    now = {"model.class_path": "edgebnn.train.methods.distill.Distill", "data.class_path": "train.data.Digits"}
    assert config_differences(was, now) == {}
    other = now | {"model.class_path": "edgebnn.train.methods.burn.BURN", "data.class_path": "mine.Digits"}
    assert list(config_differences(was, other)) == ["data.class_path", "model.class_path"]


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
