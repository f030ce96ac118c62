"""`python -m train recipe`: runs stages in order. Each stage is a configuration with some values changed.

    stages:
      teacher:
        config: ../configs/moco.yaml                    # beside the recipe
      step1:
        config: ../configs/distill.yaml
        set:
          model.init_args.teacher: ${run}/teacher/model.safetensors

`${run}` is the recipe's folder, and a stage writes into `${run}/STAGE`. The folder is RUNS/NAME for the recipe
NAME.yaml, or RUNS/FOLDER if the recipe has a key `folder`. Other `${NAME}`s get their values from
`--set NAME=VALUE`, or from the recipe's key `values`.

A finished stage is skipped. An interrupted stage resumes from its `last.ckpt`. The command refuses a stage whose
configuration or input files have changed since it ran, because its results would not belong to the recipe. Input files
are files of earlier stages and all other files that `model` names.

Under torchrun or srun, all processes run the stages together, and the first process writes.
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
from ..engine.changes import is_changeable
from ..engine.resume import config_differences, decides_result
from ..parallel.launch import is_first
from .inputs import changed_inputs, file_facts
from .stages import Stage, check_stage_order, portable_config, read_recipe, resolve_stage

INPUTS = "inputs.json"
"""Size, time and SHA-256 of a stage's input files. It is written before the stage starts."""

FINISHED = "finished"
"""An empty file that is written when a stage has finished."""


def run_recipe(path: Path, runs: Path, values: dict[str, str] | None = None, *, with_changes: bool = False) -> None:
    """Runs the unfinished stages of a recipe and prints the accuracies of all stages.

    Args:
        path: the recipe.
        runs: the folder in which the recipe's own folder lies.
        values: the values of the recipe's ${NAME}s, except ${run}.
        with_changes: whether a stage with changed values resumes, if `train.engine.changes` can change them.

    Raises:
        UserError: the recipe or a configuration is wrong, a stage fails, or the files of an earlier run do not fit.
    """
    # All configurations are read first, so that a mistake in the last stage is found before the first one trains.
    stages = [resolve_stage(stage) for stage in read_recipe(path, runs, values or {})]
    check_stage_order(stages)
    rows = []
    for number, stage in enumerate(stages, start=1):
        start = time.monotonic()
        done = is_finished(stage, with_changes=with_changes)
        if is_first():
            print(
                f"[{number}/{len(stages)}] {stage.name}: {'skipped, already finished' if done else 'running'}",
                flush=True,
            )
        if not done:
            run_stage(stage, with_changes=with_changes)
        first, *others = describe_accuracies(stage.folder) or [""]
        rows.append((stage.name, "-" if done else f"{time.monotonic() - start:.0f} s", first))
        rows += [("", "", other) for other in others]
    if is_first():
        print(columns([("stage", "time", "top-1"), *rows], "lll"))


def is_finished(stage: Stage, *, with_changes: bool = False) -> bool:
    """Returns whether the stage has finished with its present configuration and input files.

    Raises:
        UserError: it ran, to its end or not, with another configuration or other input files.
    """
    remedy = f"delete {stage.folder} to train it again, or give another folder with --runs"
    finished = stage.folder / FINISHED
    if not finished.exists() and not (stage.folder / LAST).exists():
        return False
    try:
        config = yaml.safe_load((stage.folder / CONFIG).read_text(encoding="utf-8"))
        was = portable_config(config, Path(config["run"]).parent)
        others = changed_inputs(json.loads((stage.folder / INPUTS).read_text(encoding="utf-8")), stage.inputs)
    except (AttributeError, OSError, ValueError, TypeError, KeyError, yaml.YAMLError) as error:
        raise UserError(f"stage {stage.name}: its files are damaged ({error}); {remedy}") from None
    changed = config_differences(was, stage.config)
    resumes = with_changes and stage.trains and all(is_changeable(key) or not decides_result(key) for key in changed)
    if changed and not resumes:
        if stage.trains and all(map(is_changeable, changed)):
            remedy = f"give --resume_with_changes to go on with the new values, or {remedy}"
        shown = ", ".join(changed.values())
        raise UserError(f"stage {stage.name} ran with another configuration: {shown}; {remedy}")
    if others:
        raise UserError(f"stage {stage.name} was trained from another {' and '.join(others)}; {remedy}")
    if changed:
        return False
    if finished.exists() and stage.trains:
        existing_file(stage.folder / MODEL, f"stage {stage.name}: finished model")
    return finished.exists()


def run_stage(stage: Stage, *, with_changes: bool = False) -> None:
    """Runs the stage and marks it as finished. It resumes from `last.ckpt` if this file exists.

    Raises:
        UserError: the stage fails. The message starts with its name.
    """
    last = stage.folder / LAST
    if is_first():
        # The stage itself reports a missing file.
        found = {name: file_facts(path) for name, path in stage.inputs.items() if path.is_file()}
        write_bytes(stage.folder / INPUTS, json.dumps(found).encode())
        # A finished stage trains again if its number of epochs was raised.
        (stage.folder / FINISHED).unlink(missing_ok=True)
    resume = ["--ckpt_path", str(last), f"--resume_with_changes={with_changes}"] if last.exists() else []
    try:
        fit([*stage.arguments, *resume])
    except UserError as error:
        raise UserError(f"stage {stage.name}: {error}") from None
    if is_first():
        write_bytes(stage.folder / FINISHED, b"")


def describe_accuracies(folder: Path) -> list[str]:
    """Returns one line per model and protocol with the newest accuracy in a run folder."""
    measured = {"accuracy": ("top1", "%"), "map": ("map", "% mAP")}
    found = [record for record in records.read_records(folder) if record.kind in measured]
    newest = {(record.model, record.context.get("protocol")): record for record in found}
    shown = {who: (record.values[measured[record.kind][0]], measured[record.kind][1]) for who, record in newest.items()}
    return [f"{value:.1f} {unit}  {model}: {protocol}" for (model, protocol), (value, unit) in shown.items()]
