"""Every configuration and recipe in the folders is one that the command reads."""

import re
from pathlib import Path

import pytest

from train import recipe
from train.cli import Reader
from train.failures import one_line_errors

ROOT = Path(__file__).parents[2] / "train"
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
IN_RECIPES = "".join(path.read_text() for path in RECIPES)
CONFIGS = [path for path in sorted((ROOT / "configs").glob("*.yaml")) if f"/{path.name}" not in IN_RECIPES]
"""Those that no recipe reads: reading one takes a second."""


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configuration_is_read(path: Path) -> None:
    with one_line_errors():
        assert Reader(["--config", str(path)]).config.run == f"runs/{path.stem}"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_read_and_each_stage_comes_after_what_it_uses(path: Path, tmp_path: Path) -> None:
    given = dict.fromkeys(set(re.findall(r"\$\{(\w+)\}", path.read_text())) - {"run"}, "any")
    stages = [recipe.resolve(stage, tmp_path) for stage in recipe.read(path, tmp_path, given)]
    recipe.check_order(stages)
    for before, stage in zip(stages, stages[1:]):
        if stage.name in ("step2", "stage2"):
            assert stage.config["model.init_args.student.binary_weights"]
            assert not before.config["model.init_args.student.binary_weights"]
            assert Path(stage.config["model.init_args.init"]).parent.name == before.name
