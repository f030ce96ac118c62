"""`python -m train recipe`: stages in order, each a configuration with a few values changed.

    stages:
      teacher:
        config: ../configs/moco.yaml                    # beside the recipe
      step1:
        config: ../configs/distill.yaml
        set:
          model.init_args.teacher: ${run}/teacher/model.safetensors

`${run}` is the recipe's folder, and a stage writes into `${run}/STAGE`. The folder is RUNS/NAME for the recipe
NAME.yaml, or RUNS/FOLDER where the recipe has a key `folder`. Any other `${NAME}` is given with `--set NAME=VALUE`, or
by the recipe's own defaults under the key `values`.
A finished stage is skipped, an interrupted one goes on from its `last.ckpt`. A stage whose configuration or
input files (of earlier stages, and any other that `model` names) have changed since it ran is refused: its results
would not be what the recipe says.

Started by torchrun or srun, all processes walk through the stages in step, and the first one writes.
"""

import json
import time
from pathlib import Path

import yaml

from edgebnn import records
from edgebnn.errors import UserError
from edgebnn.files import existing_file, write_bytes
from edgebnn.text import columns

from ..cli import fit
from ..engine.callbacks import CONFIG, LAST, MODEL
from ..engine.resume import differences
from ..parallel.launch import is_first
from . import inputs
from .stages import Stage, check_order, read, relative, resolve

INPUTS = "inputs.json"
"""Written before a stage starts: what tells the files that it learns from from others."""

FINISHED = "finished"
"""Written, empty, when a stage has ended."""


def run_recipe(path: Path, runs: Path, values: dict[str, str] | None = None) -> None:
    """Runs what is left to do of a recipe and prints what its stages measured.

    Args:
        path: the recipe.
        runs: the folder that its own lies in.
        values: what each ${NAME} besides ${run} stands for.

    Raises:
        UserError: the recipe, a configuration, or what an earlier run left does not allow it.
    """
    # Every configuration is read first: a mistake in the last stage should not wait for the first to train.
    stages = [resolve(stage) for stage in read(path, runs, values or {})]
    check_order(stages)
    rows = []
    for number, stage in enumerate(stages, start=1):
        start = time.monotonic()
        done = is_finished(stage)
        if is_first():
            print(f"[{number}/{len(stages)}] {stage.name}: {'finished before' if done else 'running'}", flush=True)
        if not done:
            train(stage)
        first, *others = accuracies(stage.folder) or [""]
        rows.append((stage.name, "-" if done else f"{time.monotonic() - start:.0f} s", first))
        rows += [("", "", other) for other in others]
    if is_first():
        print(columns([("stage", "time", "top-1"), *rows], "lll"))


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
    changed = differences(was, stage.config)
    if changed:
        shown = ", ".join(changed.values())
        raise UserError(f"stage {stage.name} ran with another configuration: {shown}; {remedy}")
    if others:
        raise UserError(f"stage {stage.name} was trained from another {' and '.join(others)}; {remedy}")
    if finished.exists() and stage.trains:
        existing_file(stage.folder / MODEL, f"stage {stage.name}: finished model")
    return finished.exists()


def train(stage: Stage) -> None:
    """Runs the stage, from its last checkpoint if it has one, and marks it as finished."""
    last = stage.folder / LAST
    if is_first():
        # A file that is not there is for the stage itself to tell.
        found = {name: inputs.facts(path) for name, path in stage.inputs.items() if path.is_file()}
        write_bytes(stage.folder / INPUTS, json.dumps(found).encode())
    try:
        fit([*stage.arguments, *(["--ckpt_path", str(last)] if last.exists() else [])])
    except UserError as error:
        raise UserError(f"stage {stage.name}: {error}") from None
    if is_first():
        write_bytes(stage.folder / FINISHED, b"")


def accuracies(folder: Path) -> list[str]:
    """The accuracies measured in a run folder, the newest of each model and protocol, with both."""
    measured = {"accuracy": ("top1", "%"), "map": ("map", "% mAP")}
    found = [record for record in records.read_records(folder) if record.kind in measured]
    newest = {(record.model, record.context.get("protocol")): record for record in found}
    shown = {who: (record.values[measured[record.kind][0]], measured[record.kind][1]) for who, record in newest.items()}
    return [f"{value:.1f} {unit}  {model}: {protocol}" for (model, protocol), (value, unit) in shown.items()]
