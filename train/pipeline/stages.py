"""Reads the stages of a recipe, and checks all of them before the first one trains."""

import json
import re
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from edgebnn.errors import UserError, check
from edgebnn.files import existing_file

from ..cli import ConfigReader
from ..engine.callbacks import LAST, MODEL
from ..engine.failures import one_line_errors
from ..engine.renamed_keys import flatten_config
from .inputs import find_inputs

RECIPE_SETS = ("run", "config", "ckpt_path", "resume_with_changes")
"""Keys that the recipe sets in every stage. A stage's `set` must not have them."""


@dataclass
class Stage:
    """One stage of a recipe.

    Attributes:
        name: name of the stage and of its folder.
        arguments: arguments of `train fit`.
        folder: the run folder.
        inputs: the files that its configuration names (`train.pipeline.inputs.find_inputs`).
        config: the whole configuration by dotted key, with the recipe's folder written as ${run}.
        trains: whether it writes a model file. An evaluation like kNN does not.
    """

    name: str
    arguments: list[str]
    folder: Path
    inputs: dict[str, Path] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    trains: bool = True


class Variables:
    """The values of the ${NAME}s in a recipe.

    Args:
        recipe: the recipe's path, for messages.
        defaults: the recipe's own `values`.
        given: the values of `--set`, which replace the defaults.

    Raises:
        UserError: a value has the name `run`.
    """

    def __init__(self, recipe: Path, defaults: dict[Any, Any], given: dict[str, str]) -> None:
        self.recipe = recipe
        self.values = {str(name): str(value) for name, value in defaults.items()} | given
        self.used: set[str] = set()
        check("run" not in self.values, f"recipe {recipe}: ${{run}} is the recipe's folder; give another with --runs")

    def fill(self, text: str) -> str:
        """Returns the text with the values of its ${NAME}s. Raises `UserError` if a value is missing."""
        return re.sub(r"\$\{(\w+)\}", self._value, text)

    def _value(self, match: re.Match[str]) -> str:
        name = match[1]
        check(name in self.values, f"recipe {self.recipe} leaves ${{{name}}} open; give --set {name}=VALUE")
        self.used.add(name)
        return self.values[name]


def read_recipe(path: Path, runs: Path, given: dict[str, str]) -> list[Stage]:
    """Returns the stages of a recipe.

    Args:
        path: the recipe.
        runs: the folder in which the recipe's own folder lies.
        given: values for the recipe's ${NAME}s. They replace the defaults under its key `values`.

    Raises:
        UserError: the file is no recipe, a ${NAME} has no value, or the recipe has no ${NAME} of a given value.
    """
    recipe = _parse_recipe(path)
    variables = Variables(path, recipe.get("values", {}), given)
    name = variables.fill(str(recipe.get("folder", path.stem)))
    check(
        re.fullmatch(r"[\w.-]+", name) and name.strip("."),
        f"recipe {path}: '{name}' is not a valid folder name; use letters, digits, ., - and _",
    )
    variables.values["run"] = str(runs / name)
    stages = [_read_stage(stage, entry, runs / name, variables) for stage, entry in recipe["stages"].items()]
    unused = sorted(given.keys() - variables.used)
    check(not unused, lambda: f"recipe {path} has no ${{{unused[0]}}}; leave it out of --set")
    return stages


def _parse_recipe(path: Path) -> dict[str, Any]:
    """Returns the content of a recipe. Raises `UserError` if its keys are wrong."""
    try:
        recipe = yaml.safe_load(existing_file(path, "recipe").read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {path} is not YAML ({error}); correct it") from None
    sound = isinstance(recipe, dict) and "stages" in recipe and not set(recipe) - {"stages", "values", "folder"}
    tables = sound and all(isinstance(recipe.get(key, {}), dict) for key in ("stages", "values"))
    if not tables or not recipe["stages"]:
        raise UserError(
            f"recipe {path} needs the key `stages`, with a stage by name under it, and may have `values` and `folder`; "
            "see train/recipes/"
        )
    return recipe


def _read_stage(name: Any, entry: Any, root: Path, variables: Variables) -> Stage:
    """Returns a stage from its entry in the recipe. `root` is the recipe's folder."""
    recipe = variables.recipe
    if not isinstance(entry, dict) or "config" not in entry or set(entry) - {"config", "set"}:
        raise UserError(f"recipe {recipe}: stage {name} takes the keys `config` and `set` (`config` is needed)")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", str(name)):
        raise UserError(f"recipe {recipe}: '{name}' is not a valid stage name; use letters, digits, - and _")
    changes = entry.get("set") or {}
    if not isinstance(changes, dict) or not {str(key) for key in changes}.isdisjoint(RECIPE_SETS):
        raise UserError(
            f"recipe {recipe}: stage {name}'s `set` takes all keys of train fit except {', '.join(RECIPE_SETS)}"
        )
    config = existing_file(recipe.parent / variables.fill(str(entry["config"])), f"stage {name}: config")
    folder = root / str(name)
    arguments = ["--config", str(config), "--run", str(folder)]
    for key, value in changes.items():
        # A string is passed unchanged. JSON is also YAML, so jsonargparse reads other values back from it.
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        arguments += [f"--{key}", variables.fill(text)]
    return Stage(str(name), arguments, folder)


def resolve_stage(stage: Stage) -> Stage:
    """Reads the stage's configuration and fills in `inputs`, `config` and `trains`.

    Raises:
        UserError: the configuration is wrong, or sets `trainer.max_time`.
    """
    try:
        with one_line_errors():
            config = ConfigReader(stage.arguments).resolved()
    except UserError as error:
        raise UserError(f"stage {stage.name}: {error}") from None
    limit = (config["trainer"] or {}).get("max_time")
    if limit is not None:
        # The stage would count as finished, and the next stage would start from a half-trained model.
        raise UserError(
            f"stage {stage.name}: trainer.max_time {limit} may end it half trained; leave it out: a stopped recipe "
            "resumes from the last checkpoint"
        )
    root = stage.folder.parent
    stage.inputs = find_inputs(flatten_config(config), root)
    stage.config = portable_config(config, root)
    module, _, name = config["model"]["class_path"].rpartition(".")
    stage.trains = getattr(import_module(module), name).trains
    return stage


def check_stage_order(stages: list[Stage]) -> None:
    """Raises `UserError` if a stage uses a file that no earlier stage writes."""
    made: set[Path] = set()
    root = stages[0].folder.parent
    for stage in stages:
        for name, path in stage.inputs.items():
            if path.parent.parent == root and path not in made:
                raise UserError(f"stage {stage.name} uses {name}, which no earlier stage writes; add that stage")
        if stage.trains:
            made |= {stage.folder / MODEL, stage.folder / LAST}


def portable_config(config: dict[str, Any], root: Path) -> dict[str, Any]:
    """Returns the flat configuration with the recipe's folder written as ${run}, so that the folder can be moved.

    Args:
        config: the configuration, as nested dictionaries.
        root: the recipe's folder.
    """

    def shown(value: Any) -> Any:
        inside = isinstance(value, str) and (value == str(root) or value.startswith(f"{root}/"))
        return "${run}" + value[len(str(root)) :] if inside else value

    return {key: shown(value) for key, value in flatten_config(config).items()}
