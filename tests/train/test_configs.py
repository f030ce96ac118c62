"""Every configuration and recipe in the folders is one that the command reads."""

from pathlib import Path

import pytest

from train import recipe
from train.cli import Reader
from train.failures import one_line_errors

ROOT = Path(__file__).parents[2] / "train"
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configuration_is_read_and_its_optimiser_is_sound(path: Path) -> None:
    with one_line_errors():
        reader = Reader(["--config", str(path)])
        # Constructors open no file, so the method itself can be built.
        method = reader.parser.instantiate_classes(reader.config).model
    method.optimizer_config.check()
    assert reader.config.run == f"runs/{path.stem}"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_read_and_each_stage_comes_after_what_it_uses(path: Path, tmp_path: Path) -> None:
    stages = [recipe.resolve(stage, tmp_path) for stage in recipe.read(path, tmp_path)]
    recipe.check_order(stages)
    for before, stage in zip(stages, stages[1:]):
        if stage.name in ("step2", "stage2"):
            assert stage.config["model.init_args.student.binary_weights"]
            assert not before.config["model.init_args.student.binary_weights"]
            assert Path(stage.config["model.init_args.init"]).parent.name == before.name
