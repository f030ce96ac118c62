"""Runs that train or have trained: how far they are, and how long they still take."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from .lineage import CONFIG, Stage, read_stage

STALE_S = 600
"""A run that wrote nothing for so long is taken as stopped."""
MOST = 500


@dataclass(frozen=True)
class Run:
    """A run folder with a configuration.

    Attributes:
        stage: what its configuration says.
        state: "finished", "running" or "stopped".
        step: the last logged optimizer step, None before the first.
        epoch: the epoch it is in, counted from 0.
        left_s: seconds that it still takes if it goes on as it did; None where that is not known.
        changed: when it wrote last, seconds since 1970.
    """

    stage: Stage
    state: str
    step: int | None
    epoch: int | None
    left_s: float | None
    changed: float


def runs(root: Path, now: float | None = None) -> list[Run]:
    """Returns the runs under `root`, those that wrote last first. Follows no link."""
    found = []
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if name not in ("records", "logs")]
        if CONFIG in files and (stage := read_stage(Path(folder), root)) is not None:
            found.append(_run(stage, time.time() if now is None else now))
        if len(found) >= MOST:
            break
    return sorted(found, key=lambda run: -run.changed)


def _run(stage: Stage, now: float) -> Run:
    folder = stage.folder
    logs = sorted(folder.glob("logs/csv/version_*/metrics.csv"), key=lambda path: path.stat().st_mtime)
    began = (folder / CONFIG).stat().st_mtime
    changed = max([began, *(path.stat().st_mtime for path in logs)])
    step, epoch = _progress(logs[-1]) if logs else (None, None)
    # The last thing that a stage of a recipe writes.
    if (folder / "finished").exists():
        return Run(stage, "finished", step, epoch, None, changed)
    state = "running" if now - changed < STALE_S else "stopped"
    left = None
    epochs = float(stage.epochs) if stage.epochs.replace(".", "", 1).isdecimal() else 0.0
    if state == "running" and epoch and epochs > epoch:
        left = (changed - began) / epoch * (epochs - epoch)
    return Run(stage, state, step, epoch, left, changed)


def _progress(log: Path) -> tuple[int | None, int | None]:
    """Returns the last step and epoch of a log."""
    try:
        with log.open("rb") as file:
            head = file.readline().decode("utf-8", "replace").strip().split(",")
            file.seek(max(file.tell(), log.stat().st_size - 4096))
            lines = [line.split(",") for line in file.read().decode("utf-8", "replace").splitlines()]
    except OSError:
        return None, None

    def last(name: str) -> int | None:
        if name not in head:
            return None
        place = head.index(name)
        values = [line[place] for line in lines if len(line) == len(head) and line[place].isdecimal()]
        return int(values[-1]) if values else None

    return last("step"), last("epoch")


def duration(seconds: float) -> str:
    """Returns a time in words."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "under a minute"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
