"""How the latency of a file changed from one measurement to the next."""

from collections.abc import Sequence

import pandas as pd

from edgebnn.records import Record

from .facts import artifact, subject, void
from .overview import key_of
from .text import words

SAME = "no change shown"


def measured_again(found: Sequence[Record]) -> dict[str, list[Record]]:
    """Returns the latency records of each row of the overview, oldest first, by the row's key.

    Args:
        found: records of any kind, oldest first.
    """
    of: dict[tuple[str, ...], list[Record]] = {}
    for record in found:
        if record.kind == "latency":
            of.setdefault(subject(record), []).append(record)
    return {key_of(records[-1]): records for records in of.values()}


def changes(records: Sequence[Record]) -> pd.DataFrame:
    """Returns a row for each measurement of one file, oldest first, with what it changed.

    A time is a regression if its 10th percentile is above the 90th percentile of the last sound measurement before it.
    It is an improvement if the reverse holds. Void times are compared with nothing.
    """
    rows, last = [], None
    for record in records:
        values, change, ratio = record.values, "", None
        reason = void(record)
        if reason:
            change = "void"
        elif last is not None:
            ratio = values["median_ms"] / last.values["median_ms"] if last.values["median_ms"] > 0 else None
            slower = values["p10_ms"] > last.values["p90_ms"]
            faster = values["p90_ms"] < last.values["p10_ms"]
            change = "regression" if slower else "improvement" if faster else SAME
        rows.append(
            {
                "created": record.created[:16].replace("T", " "),
                "median_ms": values["median_ms"],
                "p10_ms": values["p10_ms"],
                "p90_ms": values["p90_ms"],
                "change": change or "first",
                "ratio": ratio,
                "artifact": artifact(record),
                "content": words(record.context.get("sha256"))[:12],
                "version": words(record.context.get("runtime_version")),
                "void": reason or None,
            }
        )
        last = last if reason else record
    return pd.DataFrame(rows)
