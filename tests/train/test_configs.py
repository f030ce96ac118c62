"""Every configuration and recipe in the folders is one that the command reads."""

import re
from pathlib import Path

import pytest
import yaml

from train import stages
from train.cli import Reader
from train.failures import one_line_errors

ROOT = Path(__file__).parents[2] / "train"
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
        Reader(["--config", str(path)])


def test_the_defaults_of_evaluations_are_where_the_recipes_leave_their_networks() -> None:
    """Every checkpoint that an ImageNet configuration names is one that the recipe of that name writes."""
    for path in CONFIGS:
        named = yaml.safe_load(path.read_text())["model"]["init_args"].get("checkpoint")
        if named is not None and not path.stem.startswith(("demo", "cifar10")):
            _, name, stage, _ = Path(named).parts
            assert stage in yaml.safe_load((ROOT / f"recipes/{name}.yaml").read_text())["stages"], path.name


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
    found = [stages.resolve(stage) for stage in stages.read(path, tmp_path, given)]
    stages.check_order(found)
    for before, stage in zip(found, found[1:]):
        if stage.name in ("step2", "stage2"):
            assert stage.config["model.init_args.student.binary_weights"]
            assert not before.config["model.init_args.student.binary_weights"]
            assert Path(stage.config["model.init_args.init"]).parent.name == before.name
