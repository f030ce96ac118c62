"""The stages of a recipe, read and checked before the first of them trains."""

import json
import re
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from edgebnn.errors import UserError, check
from edgebnn.files import existing_file

from ..cli import Reader
from ..engine.callbacks import LAST, MODEL
from ..engine.failures import one_line_errors
from ..engine.renamed_keys import flatten_config
from . import inputs

OURS = ("run", "config", "ckpt_path")
"""Keys that a recipe gives each stage itself."""


@dataclass
class Stage:
    """One stage of a recipe.

    Attributes:
        name: its name and that of its folder.
        arguments: of `train fit`.
        folder: where it writes.
        inputs: files that its configuration names (`train.pipeline.inputs.find`).
        trains: whether it leaves a model file; an evaluation like kNN does not.
        config: the whole configuration, with the recipe's folder written as ${run}.
    """

    name: str
    arguments: list[str]
    folder: Path
    inputs: dict[str, Path] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    trains: bool = True


def read(path: Path, runs: Path, given: dict[str, str]) -> list[Stage]:
    """Returns the stages of a recipe.

    Args:
        path: the recipe.
        runs: the folder that the recipe's own folder lies in.
        given: values for the recipe's ${NAME}s, before the defaults in its `values`.

    Raises:
        UserError: the file is no recipe, or a ${NAME} has no value.
    """
    recipe = _parse(path)
    values = {str(name): str(value) for name, value in recipe.get("values", {}).items()} | given
    check("run" not in values, f"recipe {path}: ${{run}} is the recipe's folder; give another with --runs")
    used: set[str] = set()

    def filled(match: re.Match[str]) -> str:
        name = match[1]
        check(name in values, f"recipe {path} leaves ${{{name}}} open; give --set {name}=VALUE")
        used.add(name)
        return values[name]

    def fill(text: str) -> str:
        return re.sub(r"\$\{(\w+)\}", filled, text)

    name = fill(str(recipe.get("folder", path.stem)))
    check(re.fullmatch(r"[\w.-]+", name) and name.strip("."), f"recipe {path}: '{name}' is no folder's name")
    root = runs / name
    values["run"] = str(root)
    stages = []
    for name, entry in recipe["stages"].items():
        if not isinstance(entry, dict) or "config" not in entry or set(entry) - {"config", "set"}:
            raise UserError(f"recipe {path}: stage {name} takes the keys `config` and `set` (`config` is needed)")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", str(name)):
            raise UserError(f"recipe {path}: '{name}' is no stage's name; use letters, digits, - and _")
        changes = entry.get("set") or {}
        if not isinstance(changes, dict) or not {str(key) for key in changes}.isdisjoint(OURS):
            raise UserError(f"recipe {path}: stage {name}'s `set` takes keys of train fit but {', '.join(OURS)}")
        config = existing_file(path.parent / fill(str(entry["config"])), f"stage {name}: config")
        folder = root / str(name)
        arguments = ["--config", str(config), "--run", str(folder)]
        for key, value in changes.items():
            # A string is an argument as it is; anything else in the form YAML reads back.
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            arguments += [f"--{key}", fill(text)]
        stages.append(Stage(str(name), arguments, folder))
    unused = sorted(given.keys() - used)
    check(not unused, lambda: f"recipe {path} has no ${{{unused[0]}}}; leave it out of --set")
    return stages


def _parse(path: Path) -> dict[str, Any]:
    try:
        recipe = yaml.safe_load(existing_file(path, "recipe").read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {path} is not YAML ({error}); mend it") from None
    sound = isinstance(recipe, dict) and "stages" in recipe and not set(recipe) - {"stages", "values", "folder"}
    tables = sound and all(isinstance(recipe.get(key, {}), dict) for key in ("stages", "values"))
    if not tables or not recipe["stages"]:
        raise UserError(
            f"recipe {path} needs the key `stages`, with a stage by name under it, and may have `values` and `folder`; "
            "see train/recipes/"
        )
    return recipe


def resolve(stage: Stage) -> Stage:
    """Reads the stage's configuration. Raises `UserError` if there is something wrong with it."""
    try:
        with one_line_errors():
            config = Reader(stage.arguments).resolved()
    except UserError as error:
        raise UserError(f"stage {stage.name}: {error}") from None
    limit = (config["trainer"] or {}).get("max_time")
    if limit is not None:
        # It would count as finished, and the stages after it would build on half a model.
        raise UserError(
            f"stage {stage.name}: trainer.max_time {limit} may end it half trained; leave it out: a recipe that is "
            "stopped goes on from the last checkpoint"
        )
    root = stage.folder.parent
    stage.inputs = inputs.find(flatten_config(config), root)
    stage.config = relative(config, root)
    module, _, name = config["model"]["class_path"].rpartition(".")
    stage.trains = getattr(import_module(module), name).trains
    return stage


def check_order(stages: list[Stage]) -> None:
    """Raises `UserError` if a stage uses a file that no earlier stage makes."""
    made: set[Path] = set()
    root = stages[0].folder.parent
    for stage in stages:
        for name, path in stage.inputs.items():
            if path.parent.parent == root and path not in made:
                raise UserError(f"stage {stage.name} names {name}, which no stage before it makes; add one")
        if stage.trains:
            made |= {stage.folder / MODEL, stage.folder / LAST}


def relative(config: dict[str, Any], root: Path) -> dict[str, Any]:
    """The flat configuration with `root` written as ${run}, so that a recipe's folder can be moved."""

    def shown(value: Any) -> Any:
        inside = isinstance(value, str) and (value == str(root) or value.startswith(f"{root}/"))
        return "${run}" + value[len(str(root)) :] if inside else value

    return {key: shown(value) for key, value in flatten_config(config).items()}
