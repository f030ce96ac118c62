"""`python -m train recipe`: stages in order, each a configuration with a few values changed.

    stages:
      teacher:
        config: ../configs/moco.yaml                    # beside the recipe
      step1:
        config: ../configs/distill.yaml
        set:
          model.init_args.teacher: ${run}/teacher/model.safetensors

`${run}` is the recipe's folder, RUNS/NAME for the recipe NAME.yaml; a stage writes into `${run}/STAGE`. Any other
`${NAME}` is given with `--set NAME=VALUE`.
A finished stage is skipped, an interrupted one goes on from its `last.ckpt`. A stage whose configuration or
input files (of earlier stages, and any other that `model` names) have changed since it ran is refused: its results
would not be what the recipe says.

Started by torchrun or srun, all processes walk through the stages in step, and the first one writes.
"""

import argparse
import json
import re
import time
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from edgebnn import records
from edgebnn.errors import UserError, check
from edgebnn.files import existing_file, write_bytes
from edgebnn.text import columns
from train import inputs
from train.callbacks import CONFIG, LAST, MODEL
from train.cli import Reader, fit
from train.failures import one_line_errors
from train.launch import place
from train.resume import flat

INPUTS = "inputs.json"
"""Written before a stage starts: what tells the files that it learns from from others."""

FINISHED = "finished"
"""Written, empty, when a stage has ended."""

OURS = ("run", "config", "ckpt_path")
"""Keys that a recipe gives each stage itself."""


@dataclass
class Stage:
    """One stage of a recipe.

    Attributes:
        name: its name and that of its folder.
        arguments: of `train fit`.
        folder: where it writes.
        inputs: files that its configuration names (`train.inputs.find`).
        trains: whether it leaves a model file; an evaluation like kNN does not.
        config: the whole configuration, with the recipe's folder written as ${run}.
    """

    name: str
    arguments: list[str]
    folder: Path
    inputs: dict[str, Path] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    trains: bool = True


def main(arguments: list[str]) -> None:
    """The command line of `python -m train recipe`."""
    parser = argparse.ArgumentParser(prog="python -m train recipe", description="Runs the stages of a recipe in order.")
    parser.add_argument("recipe", type=Path, help="a file of train/recipes/")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where run folders lie (default: runs)")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="what ${NAME} stands for in it")
    chosen = parser.parse_args(arguments)
    for given in chosen.set:
        check("=" in given, f"--set {given} lacks a value; write NAME=VALUE")
    run_recipe(chosen.recipe, chosen.runs, dict(given.split("=", 1) for given in chosen.set))


def run_recipe(path: Path, runs: Path, values: dict[str, str] | None = None) -> None:
    """Runs what is left to do of a recipe and prints what its stages measured.

    Args:
        path: the recipe.
        runs: the folder that its own lies in.
        values: what each ${NAME} besides ${run} stands for.

    Raises:
        UserError: the recipe, a configuration, or what an earlier run left does not allow it.
    """
    root = runs / path.stem
    # Every configuration is read first: a mistake in the last stage should not wait for the first to train.
    stages = [resolve(stage, root) for stage in read(path, root, values or {})]
    check_order(stages)
    rows = []
    for number, stage in enumerate(stages, start=1):
        start = time.monotonic()
        done = is_finished(stage)
        if writes():
            print(f"[{number}/{len(stages)}] {stage.name}: {'finished before' if done else 'running'}", flush=True)
        if not done:
            train(stage)
        rows.append((stage.name, "-" if done else f"{time.monotonic() - start:.0f} s", accuracy(stage.folder)))
    if writes():
        print(columns([("stage", "time", "top-1"), *rows], "lll"))


def writes() -> bool:
    """Whether this process is the one that writes and prints."""
    here = place()
    return here is None or here.rank == 0


def read(path: Path, root: Path, values: dict[str, str]) -> list[Stage]:
    """The stages of the recipe `path`, which write under `root`. Raises `UserError` if it is no recipe."""
    used: set[str] = set()

    def filled(match: re.Match[str]) -> str:
        name = match[1]
        check(name == "run" or name in values, f"recipe {path} leaves ${{{name}}} open; give --set {name}=VALUE")
        used.add(name)
        return str(root) if name == "run" else values[name]

    try:
        recipe = yaml.safe_load(existing_file(path, "recipe").read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"recipe {path} is not YAML ({error}); mend it") from None
    sound = isinstance(recipe, dict) and set(recipe) == {"stages"} and isinstance(recipe["stages"], dict)
    if not sound or not recipe["stages"]:
        raise UserError(f"recipe {path} needs one key, `stages`, with a stage by name under it; see train/recipes/")
    stages = []
    for name, entry in recipe["stages"].items():
        if not isinstance(entry, dict) or "config" not in entry or set(entry) - {"config", "set"}:
            raise UserError(f"recipe {path}: stage {name} takes the keys `config` and `set` (`config` is needed)")
        if not re.fullmatch(r"[A-Za-z0-9_-]+", str(name)):
            raise UserError(f"recipe {path}: '{name}' is no stage's name; use letters, digits, - and _")
        changes = entry.get("set") or {}
        if not isinstance(changes, dict) or not {str(key) for key in changes}.isdisjoint(OURS):
            raise UserError(f"recipe {path}: stage {name}'s `set` takes keys of train fit but {', '.join(OURS)}")
        config = existing_file(path.parent / str(entry["config"]), f"stage {name}: config")
        folder = root / str(name)
        arguments = ["--config", str(config), "--run", str(folder)]
        for key, value in changes.items():
            # A string is an argument as it is; anything else in the form YAML reads back.
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            arguments += [f"--{key}", re.sub(r"\$\{(\w+)\}", filled, text)]
        stages.append(Stage(str(name), arguments, folder))
    unused = sorted(values.keys() - used)
    check(not unused, lambda: f"recipe {path} has no ${{{unused[0]}}}; leave it out of --set")
    return stages


def resolve(stage: Stage, root: Path) -> Stage:
    """Reads the stage's configuration. Raises `UserError` if there is something wrong with it."""
    try:
        with one_line_errors():
            config = Reader(stage.arguments).resolved()
    except UserError as error:
        raise UserError(f"stage {stage.name}: {error}") from None
    stage.inputs = inputs.find(flat(config), root)
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

    return {key: shown(value) for key, value in flat(config).items()}


def is_finished(stage: Stage) -> bool:
    """Whether the stage ran to its end, as the recipe now has it.

    Raises:
        UserError: it ran, to its end or not, with another configuration or from other files.
    """
    remedy = f"delete {stage.folder} to train it again, or give another folder with --runs"
    finished = stage.folder / FINISHED
    if not finished.exists() and not (stage.folder / LAST).exists():
        return False
    try:
        config = yaml.safe_load((stage.folder / CONFIG).read_text(encoding="utf-8"))
        was = relative(config, Path(config["run"]).parent)
        others = inputs.changed(json.loads((stage.folder / INPUTS).read_text(encoding="utf-8")), stage.inputs)
    except (AttributeError, OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise UserError(f"stage {stage.name}: what it left is damaged ({error}); {remedy}") from None
    changed = sorted(key for key in was.keys() | stage.config.keys() if was.get(key) != stage.config.get(key))
    if changed:
        shown = ", ".join(f"{key} (was {was.get(key)}, is {stage.config.get(key)})" for key in changed)
        raise UserError(f"stage {stage.name} ran with another configuration: {shown}; {remedy}")
    if others:
        raise UserError(f"stage {stage.name} was trained from another {' and '.join(others)}; {remedy}")
    if finished.exists() and stage.trains:
        existing_file(stage.folder / MODEL, f"stage {stage.name}: finished model")
    return finished.exists()


def train(stage: Stage) -> None:
    """Runs the stage, from its last checkpoint if it has one, and marks it as finished."""
    last = stage.folder / LAST
    if writes():
        # A file that is not there is for the stage itself to tell.
        found = {name: inputs.facts(path) for name, path in stage.inputs.items() if path.is_file()}
        write_bytes(stage.folder / INPUTS, json.dumps(found).encode())
    try:
        fit([*stage.arguments, *(["--ckpt_path", str(last)] if last.exists() else [])])
    except UserError as error:
        raise UserError(f"stage {stage.name}: {error}") from None
    if writes():
        write_bytes(stage.folder / FINISHED, b"")


def accuracy(folder: Path) -> str:
    """The newest accuracy measured in a run folder, with the model's name and how; empty if there is none."""
    found = [record for record in records.read_all(folder) if record.kind == "accuracy"]
    if not found:
        return ""
    return f"{found[-1].values['top1']:.1f} %  {found[-1].model}: {found[-1].context.get('protocol')}"
