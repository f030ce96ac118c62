"""Every configuration and recipe in the folders is one that the command reads."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgebnn.train.cli import ConfigReader
from edgebnn.train.engine.failures import one_line_errors
from edgebnn.train.pipeline import stages

ROOT = Path(__file__).parents[3] / "train"
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
IN_RECIPES = "".join(path.read_text() for path in RECIPES)
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_writes_into_the_folder_of_its_name(path: Path) -> None:
    given = yaml.safe_load(path.read_text())
    assert (given["run"], given["seed_everything"]) == (f"runs/{path.stem}", 0)


# Reading one takes a second, and the recipes' are read below.
@pytest.mark.parametrize("path", [path for path in CONFIGS if f"/{path.name}" not in IN_RECIPES], ids=lambda p: p.stem)
def test_a_configuration_of_no_recipe_is_read(path: Path) -> None:
    with one_line_errors():
        ConfigReader(["--config", str(path)])


def test_the_defaults_of_evaluations_are_where_the_recipes_leave_their_networks() -> None:
    """Every checkpoint that an ImageNet configuration names is one that the recipe of that name writes."""
    for path in CONFIGS:
        named = yaml.safe_load(path.read_text())["model"]["init_args"].get("checkpoint")
        if named is not None and not path.stem.startswith(("demo", "cifar10")):
            _, name, stage, _ = Path(named).parts
            assert stage in yaml.safe_load((ROOT / f"recipes/{name}.yaml").read_text())["stages"], path.name


PUBLISHED: dict[str, dict[str, Any]] = {
    # BURN's configs/benchmarks/semi_classification: 64 images on each of 8 GPUs.
    "semi-1": {"lr": 0.01, "weight_decay": 5e-4, "milestones": [12, 16], "step_factor": 0.2, "steps_of": 8 * 64},
    "semi-10": {"lr": 0.01, "weight_decay": 1e-4, "milestones": [12, 16], "step_factor": 0.2, "steps_of": 8 * 64},
    # BURN's configs/selfsup/swav, whose method is BYOL: 128 images on each of 8 GPUs, gathered 8 times.
    "byol": {"lr": 4.8, "weight_decay": 1e-6, "steps_of": 128 * 8 * 8, "gathered": 8},
    # SimSiam's main_lincls.py: lr 0.1 for every 256 images, no warm-up (which is our default).
    "linear-simsiam": {"name": "lars", "lr": 0.1 * 4096 / 256, "weight_decay": 0, "steps_of": 4096, "epochs": 90},
    "linear": {"name": "sgd", "lr": 0.1, "weight_decay": 0, "milestones": [60, 80], "steps_of": 256, "epochs": 100},
    "linear-burn": {"lr": 0.01, "weight_decay": 0, "milestones": [60, 80], "steps_of": 256, "epochs": 100},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_are_those_of_the_public_code(name: str) -> None:
    given = yaml.safe_load((ROOT / f"configs/{name}.yaml").read_text())
    trainer = given["trainer"]
    found = given["model"]["init_args"]["optimizer"] | {
        "steps_of": given["data"]["init_args"]["batch_size"],
        "epochs": trainer["max_epochs"],
        "gathered": trainer.get("accumulate_grad_batches", 1),
    }
    for key, value in PUBLISHED[name].items():
        assert found[key] == (value if isinstance(value, list) else pytest.approx(value)), key


def test_evaluations_on_labels_keep_the_images_left_over_as_the_public_codes_do() -> None:
    """Those for small data of our own are not of a published code; the others' loaders drop nothing."""
    for path in CONFIGS:
        given = yaml.safe_load(path.read_text())
        keeps = given["model"]["class_path"] in ("LinearEvaluation", "BurnLinearEvaluation", "FineTune")
        if path.stem not in ("demo-linear", "cifar10-linear"):
            assert given["data"]["init_args"].get("drop_last", True) != keeps, path.name


def variants() -> list[tuple[Path, dict[str, str]]]:
    """Every recipe, and the recipe of CIFAR-10 with each method that has a configuration for it."""
    methods = [path.stem.removeprefix("cifar10-") for path in CONFIGS if path.stem.startswith("cifar10-")]
    trained = [name for name in methods if name not in ("teacher", "knn", "linear")]
    return [(path, {}) for path in RECIPES] + [(ROOT / "recipes/cifar10.yaml", {"method": name}) for name in trained]


@pytest.mark.parametrize(("path", "chosen"), variants(), ids=lambda part: getattr(part, "stem", None) or str(part))
def test_recipe_is_read_and_each_stage_comes_after_what_it_uses(
    path: Path, chosen: dict[str, str], tmp_path: Path
) -> None:
    text = path.read_text()
    defaults = yaml.safe_load(text).get("values", {})
    given = dict.fromkeys(set(re.findall(r"\$\{(\w+)\}", text)) - {"run", *defaults}, "any") | chosen
    found = [stages.resolve_stage(stage) for stage in stages.read_recipe(path, tmp_path, given)]
    stages.check_stage_order(found)
    for before, stage in zip(found, found[1:]):
        if stage.name in ("step2", "stage2"):
            assert stage.config["model.init_args.student.binary_weights"]
            assert not before.config["model.init_args.student.binary_weights"]
            assert Path(stage.config["model.init_args.init_checkpoint"]).parent.name == before.name
