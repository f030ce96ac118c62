"""The overview: one row for every file as it was timed. Every figure in it stands in a record."""

import hashlib
from collections.abc import Iterable

import pandas as pd

from edgebnn import records
from edgebnn.records import Record

from .facts import artifact, content, headline, machine, newest, runtime, threads, void
from .text import number, words

FIGURES = (
    *("top1", "threads", "resolution", "median_ms", "p10_ms", "p90_ms", "first_ms", "init_ms"),
    *("memory_bytes", "ops", "bytes"),
)
"""The columns of numbers; NaN where there is none."""

WORDS = (
    *("key", "model", "protocol", "data", "artifact", "sha256", "runtime", "machine", "memory_kind"),
    *("void", "parity", "format", "measured"),
)
"""The columns of text; None where there is none."""

COLUMNS = (*WORDS, *FIGURES)


def overview(found: Iterable[Record]) -> pd.DataFrame:
    """Returns a row for every model, file, runtime, number of threads and machine, with the columns `COLUMNS`.

    Of several accuracies of a model, `headline` is shown. The row of a file shows the accuracy of the file itself
    where it was measured on the same data. Best accuracy first, then the fastest.
    """
    of_model: dict[str, list[Record]] = {}
    for record in newest(found):
        of_model.setdefault(record.model, []).append(record)
    rows = [row for name, own in of_model.items() for row in _rows(name, own)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    table = table.astype(dict.fromkeys(FIGURES, float)).astype(dict.fromkeys(WORDS, object))
    table[list(WORDS)] = table[list(WORDS)].where(table[list(WORDS)].notna(), None)
    order = ["top1", "model", "median_ms"]
    return table.sort_values(order, ascending=[False, True, True], na_position="last", ignore_index=True)


def _rows(model: str, found: list[Record]) -> list[dict[str, object]]:
    """Returns the overview's rows of one model, from its newest records."""
    of: dict[str, list[Record]] = {kind: [] for kind in records.NEEDED}
    for record in found:
        of[record.kind].append(record)
    common: dict[str, object] = {"model": model, "key": key(model)}
    if accuracy := headline([accuracy for accuracy in of["accuracy"] if not artifact(accuracy)]):
        common |= _accuracy(accuracy)
    for ops in of["ops"][-1:]:
        common |= {"ops": ops.values["ops"], "resolution": number(ops.context, "resolution")}

    # Facts belong to a file's content, not to its name: a file exported anew has not been verified.
    facts: dict[tuple[str, str], dict[str, object]] = {}
    for size in of["size"]:
        format = words(size.context.get("format")) or None
        facts.setdefault(content(size), {}).update({"bytes": size.values["bytes"], "format": format})
    for parity in of["parity"]:
        facts.setdefault(content(parity), {})["parity"] = "passed" if parity.values["ok"] else "FAILED"
    counted = [accuracy for accuracy in of["accuracy"] if artifact(accuracy)]
    for accuracy in counted:
        if common.get("data", _data(accuracy)) == _data(accuracy):
            facts.setdefault(content(accuracy), {}).update(_accuracy(accuracy))

    rows = []
    for latency in of["latency"]:
        name, digest = content(latency)
        row = common | {"artifact": name, "sha256": digest or None} | facts.get(content(latency), {})
        rows.append(row | _latency(latency))
    timed = {row["artifact"] for row in rows}
    newest_content = {artifact(record): content(record) for record in [*counted, *of["parity"], *of["size"]]}
    for name, known in newest_content.items():
        if name not in timed and known in facts:
            row = {"key": key(model, name), "artifact": name, "sha256": known[1] or None}
            rows.append(common | row | facts[known])
    return rows or [common]


def _latency(record: Record) -> dict[str, object]:
    """Returns what the overview shows of a latency record."""
    values, context = record.values, record.context
    kind = next((kind for kind in ("peak", "growth") if f"{kind}_memory_bytes" in values), None)
    shown: dict[str, object] = {
        "key": key_of(record),
        "runtime": runtime(record),
        "threads": number(context, "threads"),
        "machine": machine(record) or None,
        "memory_kind": kind,
        "memory_bytes": values.get(f"{kind}_memory_bytes"),
        "void": void(record) or None,
        "measured": record.created[:16].replace("T", " "),
    }
    return shown | {name: values.get(name) for name in ("median_ms", "p10_ms", "p90_ms", "first_ms", "init_ms")}


def _accuracy(record: Record) -> dict[str, object]:
    """Returns what the overview shows of an accuracy record."""
    shown = {name: words(record.context.get(name)) or None for name in ("protocol", "data")}
    return shown | {"top1": record.values["top1"]}


def _data(record: Record) -> str | None:
    return words(record.context.get("data")) or None


def key(*parts: object) -> str:
    """Returns a short name of a row that stays the same over time: it may stand in an address."""
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "replace")).hexdigest()[:10]


def key_of(record: Record) -> str:
    """Returns the key of the row that shows a latency record."""
    count = number(record.context, "threads")
    return key(record.model, artifact(record), runtime(record), count, machine(record))


def label(row: pd.Series) -> str:
    """Returns a row's name in words: the model, and how its file ran."""
    how = None if pd.isna(row["threads"]) else threads(row["threads"])
    return ", ".join(str(part) for part in (row["model"], row["artifact"], row["runtime"], how, row["machine"]) if part)
