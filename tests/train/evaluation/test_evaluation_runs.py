"""Evaluations through the command: two processes give what one gives, and a recipe runs them all."""

from pathlib import Path

import pytest

from edgebnn import checkpoint, records
from edgebnn.errors import UserError
from edgebnn.graph import ModelInfo
from edgebnn.records import Record
from edgebnn.train.__main__ import main
from edgebnn.train.cli import ConfigReader
from edgebnn.train.data.sources import Digits
from edgebnn.train.evaluation.base import measure_batchnorms
from edgebnn.train.pipeline.recipe import describe_accuracies
from edgebnn.train.pipeline.stages import read_recipe
from tests.train.conftest import REAL
from tests.train.runs import assert_equal_runs, last, write_config

TRAIN = Path(__file__).parents[3] / "train"


@pytest.fixture
def pretrained(digits: Digits, tmp_path: Path) -> str:
    network = REAL.with_head(())
    measure_batchnorms(network, digits.fixed_train_dataloader(shuffled=True))
    path = tmp_path / "model.safetensors"
    checkpoint.save_checkpoint(path, network, ModelInfo("any", 32, digits.mean, digits.std))
    return str(path)


def run(folder: Path, processes: int, model: list[str]) -> list[Record]:
    arguments = ["--run", str(folder), *model, "--data", "Digits", "--data.batch_size", "100"]
    trainer = {"max_epochs": 1, "limit_train_batches": 2, "accelerator": "cpu", "devices": processes, "logger": False}
    arguments += [f"--trainer.{key}={value}" for key, value in {**trainer, "enable_progress_bar": False}.items()]
    main(["fit", *arguments])
    return sorted(records.read_records(folder), key=lambda record: record.context["protocol"])


@pytest.mark.parametrize(
    "model",
    [
        ["KNN", "--model.k=20"],
        pytest.param(["LowShotSVM", "--model.shots=[1,3]", "--model.draws=2"], marks=pytest.mark.long),
        pytest.param(["LinearEvaluation"], marks=pytest.mark.long),
    ],
)
def test_two_processes_measure_what_one_does(model: list[str], pretrained: str, tmp_path: Path) -> None:
    kind, *options = model
    arguments = ["--model", kind, f"--model.checkpoint={pretrained}", *options]
    alone, together = (run(tmp_path / str(count), count, arguments) for count in (1, 2))
    assert len(alone) == len(together) == (2 if kind == "LowShotSVM" else 1)
    for one, two in zip(alone, together):
        # 359 images do not share out evenly; each counts once.
        assert one.context["images"] == two.context["images"] == 359
        assert two.values == pytest.approx(one.values, abs=0.3), "one image of 359, where a tie falls otherwise"
        assert two.context == one.context
    assert (tmp_path / "2/model.safetensors").exists() == (kind == "LinearEvaluation")


def test_two_processes_take_the_last_step_of_what_is_left_as_one_does(pretrained: str, tmp_path: Path) -> None:
    """110 images in steps of 44, 44 and 22, which two processes of two batches each do not share out evenly."""
    config = write_config(
        tmp_path / "linear.yaml", "LinearEvaluation", {"max_epochs": 1, "precision": "64-true"}, checkpoint=pretrained
    )
    options = [
        "fit",
        "--config",
        str(config),
        "--data.batch_size",
        "44",
        "--data.subset.per_class",
        "11",
        "--data.drop_last",
        "false",
    ]
    options += [
        "--trainer.limit_train_batches",
        "1.0",
        "--trainer.accumulate_grad_batches",
        "2",
        "--trainer.logger",
        "false",
    ]
    one, two = tmp_path / "one", tmp_path / "two"
    main([*options, "--run", str(one)])
    assert last(one)["global_step"] == 3
    # Two processes go on in the middle of the epoch, before its last step.
    main([*options, "--run", str(two), "--trainer.max_steps", "2"])
    main([*options, "--run", str(two), "--ckpt_path", f"{two}/last.ckpt", "--trainer.devices", "2"])
    assert last(two)["global_step"] == 3
    assert_equal_runs(two, one, rtol=1e-9, atol=1e-9)


def test_a_recipe_is_given_its_checkpoint_once(tmp_path: Path) -> None:
    recipe = TRAIN / "recipes/evaluate.yaml"
    values = {"checkpoint": "some.safetensors", "name": "tiny", "method": "ours, two steps"}
    stages = read_recipe(recipe, tmp_path, values)
    for stage in stages:
        config = ConfigReader(stage.arguments).resolved()
        assert config["name"] == "tiny"
        assert config["model"]["init_args"]["checkpoint"] == "some.safetensors"
        assert config["model"]["init_args"]["method"] == "ours, two steps"
    assert stages[-1].name == "linear"
    with pytest.raises(UserError, match="leaves \\$\\{method\\} open; give --set method=VALUE"):
        read_recipe(recipe, tmp_path, {"checkpoint": "c", "name": "n"})
    with pytest.raises(UserError, match="has no \\$\\{colour\\}"):
        read_recipe(recipe, tmp_path, {**values, "colour": "red"})


def test_a_recipe_shows_every_accuracy_of_a_stage_and_of_each_the_newest(tmp_path: Path) -> None:
    for date, shots, top1 in (("2026-01-01", 1, 20.0), ("2026-01-02", 1, 30.0), ("2026-01-03", 2, 40.04)):
        context = {"protocol": f"low-shot SVM, {shots} a class"}
        records.write_record(Record("accuracy", "tiny", {"top1": top1}, context, created=date), tmp_path)
    records.write_record(
        Record("map", "tiny", {"map": 61.27}, {"protocol": "VOC07 SVM"}, created="2026-01-04"), tmp_path
    )
    assert describe_accuracies(tmp_path) == [
        "30.0 %  tiny: low-shot SVM, 1 a class",
        "40.0 %  tiny: low-shot SVM, 2 a class",
        "61.3 % mAP  tiny: VOC07 SVM",
    ]
