"""Points that others published, from `published.json`. They are never mixed with measured ones."""

import json
from functools import cache
from pathlib import Path

import pandas as pd

from .axes import Axis
from .facts import threads

FILE = Path(__file__).with_name("published.json")


@cache
def published() -> pd.DataFrame:
    """Returns all published points, with the columns model, top1, source, conditions and those of the overview."""
    table = pd.DataFrame(json.loads(FILE.read_text(encoding="utf-8"))["points"])
    for column in ("median_ms", "ops", "bytes", "memory_bytes", "first_ms", "threads"):
        table[column] = pd.to_numeric(table[column]) if column in table else float("nan")
    parts = [table["runtime"], table["machine"], table["threads"].map(threads), table["data"], table["protocol"]]
    timed = table["median_ms"].notna()
    conditions = [", ".join(map(str, row if time else row[3:])) for time, row in zip(timed, zip(*parts))]
    return table.assign(conditions=conditions)


def published_points(axis: Axis) -> pd.DataFrame:
    """Returns the published points that have the axis's figure, with the column `x` in the axis's unit."""
    found = published().dropna(subset=["top1", axis.column])
    found = found.assign(x=found[axis.column] / axis.unit)
    return found[["model", "top1", "x", "conditions", "source"]].reset_index(drop=True)
