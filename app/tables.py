"""Records to tables. Every figure here stands in a record; nothing is computed but a unit's scale."""

import math
from collections.abc import Iterable
from pathlib import Path, PurePath

import pandas as pd

from edgebnn import records
from edgebnn.errors import UserError
from edgebnn.records import Record

COLUMNS = (
    *("model", "top1", "protocol", "data", "artifact", "runtime", "threads", "machine"),
    *("median_ms", "p10_ms", "p90_ms", "void", "ops", "bytes", "parity"),
)
FIGURES = ("top1", "threads", "median_ms", "p10_ms", "p90_ms", "ops", "bytes")
"""The columns of numbers; NaN where there is none."""


COMPARED = "linear, frozen features"
"""The protocol by which models are compared, where one was evaluated under several (docs/reference/evaluations.md)."""


def read_runs(root: str | Path) -> tuple[list[Record], list[str]]:
    """All sound records under `root`, oldest first, and a line for every file that is none."""
    found, complaints = [], []
    for path in sorted(Path(root).rglob(f"{records.FOLDER}/*.json")):
        try:
            found.append(records.read_record(path))
        except UserError as error:
            complaints.append(str(error))
    return sorted(found, key=lambda record: record.created), complaints


def subject(record: Record) -> tuple[str, ...]:
    """What a record speaks of: of two records with the same subject, the newer one wins."""
    context = record.context
    keys = {
        "accuracy": ("protocol", "data", "artifact"),
        "map": ("protocol", "data"),
        "latency": ("artifact", "runtime", "threads", "isa"),
        "ops": ("resolution",),
        "size": ("artifact",),
        "parity": ("artifact",),
        "kernels": ("artifact", "isa", "threads"),
        "training": (),
        "check": ("check",),
    }[record.kind]
    said = [artifact(record) if key == "artifact" else str(context.get(key, "")) for key in keys]
    if record.kind in ("latency", "kernels", "training", "check"):
        said.append(machine(record))
    return (record.kind, record.model, *said)


def artifact(record: Record) -> str:
    """The file a record speaks of, without its folders; "" if it speaks of none."""
    return PurePath(str(record.context.get("artifact") or "")).name


def content(record: Record) -> tuple[str, str]:
    """The file a record speaks of, by its name and SHA-256 ("" where that is not told)."""
    return artifact(record), str(record.context.get("sha256", ""))


def machine(record: Record) -> str:
    """The processor of a record of something timed; "" where it is not told."""
    described = record.context.get("machine")
    return str(described.get("cpu", "")) if isinstance(described, dict) else ""


def runtime(record: Record) -> str | None:
    """What ran the file of a latency record, for a packed file the instruction set, and whether the figure is void."""
    name, isa = record.context.get("runtime"), record.context.get("isa")
    if not name:
        return None
    return f"{name}{f', packed for {isa}' if isa else ''}{' (VOID)' if record.context.get('void') else ''}"


def threads(count: float) -> str:
    """A number of threads in words; NaN is an unknown number."""
    return "1 thread" if count == 1 else "? threads" if math.isnan(count) else f"{count:.0f} threads"


def newest(found: Iterable[Record]) -> list[Record]:
    """Of each subject the newest record, oldest first."""
    latest = {subject(record): record for record in sorted(found, key=lambda record: record.created)}
    return sorted(latest.values(), key=lambda record: record.created)


def overview(found: Iterable[Record]) -> pd.DataFrame:
    """A row for every model, artifact, runtime, number of threads and machine; columns `COLUMNS`.

    A figure that no record holds is missing (None or NaN). Of several accuracies of a model `headline` is
    shown; where it was counted at several resolutions the newest record counts. The row of a file shows the
    accuracy of the file itself where that was measured on the same data. Best accuracy first, then the fastest.
    """
    found = newest(found)
    rows = [row for name in dict.fromkeys(record.model for record in found) for row in _rows(name, found)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    for column in FIGURES:
        table[column] = pd.to_numeric(table[column], errors="coerce").astype(float)
    order = ["top1", "model", "median_ms"]
    return table.sort_values(order, ascending=[False, True, True], na_position="last", ignore_index=True)


def _rows(name: str, found: list[Record]) -> list[dict[str, object]]:
    """The overview's rows of one model."""
    of: dict[str, list[Record]] = {kind: [] for kind in records.NEEDED}
    for record in found:
        if record.model == name:
            of[record.kind].append(record)
    common: dict[str, object] = {"model": name}
    if accuracy := headline([accuracy for accuracy in of["accuracy"] if not artifact(accuracy)]):
        common |= _accuracy(accuracy)
    for ops in of["ops"][-1:]:
        common["ops"] = ops.values["ops"]

    # Facts belong to a file's content, not to its name: a file exported anew has not been verified.
    facts: dict[tuple[str, str], dict[str, object]] = {}
    for size in of["size"]:
        facts.setdefault(content(size), {})["bytes"] = size.values["bytes"]
    for parity in of["parity"]:
        facts.setdefault(content(parity), {})["parity"] = "passed" if parity.values["ok"] else "FAILED"
    counted = [accuracy for accuracy in of["accuracy"] if artifact(accuracy)]
    for accuracy in counted:
        if common.get("data", accuracy.context.get("data")) == accuracy.context.get("data"):
            facts.setdefault(content(accuracy), {}).update(_accuracy(accuracy))

    rows = []
    for latency in of["latency"]:
        row = common | {"artifact": artifact(latency)} | facts.get(content(latency), {})
        row |= {"runtime": runtime(latency), "threads": latency.context.get("threads"), "machine": machine(latency)}
        row |= {"void": bool(latency.context.get("void"))}
        rows.append(row | {key: latency.values[key] for key in ("median_ms", "p10_ms", "p90_ms")})
    timed = {row["artifact"] for row in rows}
    newest_content = {artifact(record): content(record) for record in [*counted, *of["parity"], *of["size"]]}
    for name, known in newest_content.items():
        if name not in timed and known in facts:
            rows.append(common | {"artifact": name} | facts[known])
    return rows or [common]


def _accuracy(record: Record) -> dict[str, object]:
    """What the overview shows of an accuracy record."""
    shown = {key: record.context.get(key) for key in ("protocol", "data")}
    return shown | {"top1": record.values["top1"]}


def headline(accuracies: list[Record]) -> Record | None:
    """Of a model's accuracies, oldest first, the one to show alone: the newest that compares best, None of none.

    Strict linear evaluation on the data it was trained on, else strict linear evaluation, else the newest.
    """

    def rank(record: Record) -> tuple[bool, bool]:
        strict = record.context.get("protocol") == COMPARED
        return strict, strict and record.context.get("pretrained_on") in (None, record.context.get("data"))

    # Of equals max takes the first, and the newest should win.
    return max(reversed(accuracies), key=rank, default=None)


def points(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of an overview that have both an accuracy and a latency."""
    return table.dropna(subset=["top1", "median_ms"]).reset_index(drop=True)


def wants_log(values: pd.Series) -> bool:
    """Whether an axis should be logarithmic: its values are positive and span a factor of 5 or more."""
    return len(values) > 1 and bool(values.min() > 0 and values.max() >= 5 * values.min())
