"""Keeps what a finished run on CIFAR-10 found, small enough to be committed.

For every finished stage of a run folder, `docs/results/cifar10/RUN/STAGE` gets the stage's records unchanged and
`curve.csv`: the means of each epoch of what the training logged.
"""

import csv
import shutil
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import yaml

from edgebnn import records
from edgebnn.files import write_bytes

KEPT = Path("docs/results/cifar10")
FINISHED = "finished"
"""The file that a recipe leaves in the folder of a finished stage."""

MODEL = "model.safetensors"
TEACHER = ("cifar10-teacher", "teacher")
"""The run and the stage that train the teacher. Its network is kept, because every student needs it."""

CURVES = ("train/loss", "train/flips", "train/spread", "train/balance")
"""The logged values that are kept, where a method logs them."""


def keep(run: Path, kept: Path = KEPT) -> list[Path]:
    """Copies the records and the curves of a run, and returns the files written.

    Args:
        run: the folder of a recipe's run; stages that are not finished are left out.
        kept: the folder that gets a folder of the run's name.
    """
    written = []
    for stage in sorted(path for path in run.iterdir() if path.is_dir()):
        if not (stage / FINISHED).exists():
            continue
        target = kept / run.name / stage.name
        # A record is written once: what was kept of an earlier, replaced run must not stay beside the new.
        shutil.rmtree(target, ignore_errors=True)
        for path in sorted((stage / records.FOLDER).glob("*.json")):
            records.read_record(path)
            written.append(target / records.FOLDER / path.name)
            write_bytes(written[-1], path.read_bytes())
        rows = curve(stage)
        if rows:
            written.append(target / "curve.csv")
            write_bytes(written[-1], _as_csv(rows))
        if (run.name, stage.name) == TEACHER:
            # 3 MB, and every student needs it: its training takes more than an hour.
            written.append(target / MODEL)
            write_bytes(written[-1], (stage / MODEL).read_bytes())
    return written


def restore_teacher(runs: Path = Path("runs"), kept: Path = KEPT) -> None:
    """Copies the kept teacher to where the recipes look for it, unless one was trained there."""
    path = runs.joinpath(*TEACHER, MODEL)
    if not path.exists():
        write_bytes(path, kept.joinpath(*TEACHER, MODEL).read_bytes())


def curve(stage: Path) -> list[dict[str, float]]:
    """Returns one row per epoch of a stage: its means, its last optimizer step, and its seconds of training.

    The seconds are those that the logged speed implies. An epoch that an interruption divided counts once: of a step
    that was logged twice, the later row is taken.
    """
    logged: dict[int, dict[str, float]] = {}
    for path in sorted((stage / "logs" / "csv").glob("version_*/metrics.csv"), key=_version):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                if row.get("train/images_per_s"):
                    logged[int(row["step"])] = {name: float(value) for name, value in row.items() if value}
    if not logged:
        return []
    config = yaml.safe_load((stage / "config.yaml").read_text(encoding="utf-8"))
    batch = config["data"]["init_args"]["batch_size"]
    epochs: dict[int, list[dict[str, float]]] = defaultdict(list)
    before = -1
    for step, row in sorted(logged.items()):
        seconds = (step - before) * batch / row["train/images_per_s"]
        epochs[int(row["epoch"])].append(row | {"seconds": seconds})
        before = step
    return [_epoch(number, rows) for number, rows in sorted(epochs.items())]


def _epoch(number: int, rows: list[dict[str, float]]) -> dict[str, float]:
    means = {name: fmean(row[name] for row in rows) for name in CURVES if all(name in row for row in rows)}
    seconds = sum(row["seconds"] for row in rows)
    return {"epoch": number + 1, "step": rows[-1]["step"] + 1, "seconds": round(seconds, 1), **means}


def _version(path: Path) -> int:
    return int(path.parent.name.removeprefix("version_"))


def _as_csv(rows: list[dict[str, float]]) -> bytes:
    names = list(rows[0])
    lines = [",".join(names), *(",".join(f"{row[name]:.6g}" for name in names) for row in rows)]
    return ("\n".join(lines) + "\n").encode()
