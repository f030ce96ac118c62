"""Which rows of the overview fit a budget, which of them are on the Pareto front, and whether they can be compared."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import pandas as pd

from .axes import AXES, Axis
from .facts import threads

CHOICES = {
    "device": "machine",
    "runtime": "runtime",
    "threads": "threads",
    "resolution": "resolution",
    "data": "data",
    "protocol": "protocol",
}
"""The filters by their name in the address, with the overview's column."""

ACCURACY = ("data", "protocol")
TIMED = ("machine", "threads")


@dataclass(frozen=True)
class Budget:
    """What a file must keep to.

    Attributes:
        least_top1: the least accuracy in percent.
        most: by the name of an axis the largest figure, in the axis's unit.
        among: by a name of `CHOICES` the values of which one is wanted; all are, where there are none.
        text: words that must all occur in the row's model, file, runtime or device.
    """

    least_top1: float = 0.0
    most: Mapping[str, float] = field(default_factory=dict)
    among: Mapping[str, Sequence[object]] = field(default_factory=dict)
    text: str = ""


def within(table: pd.DataFrame, budget: Budget) -> tuple[pd.DataFrame, dict[str, int]]:
    """Returns the rows that keep to the budget, and for each limit how many rows lack the figure that it limits.

    A row without the figure does not keep to the limit: nobody knows whether it would.
    """
    keep = pd.Series(True, index=table.index)
    for name, values in budget.among.items():
        if values:
            keep &= table[CHOICES[name]].isin(list(values))
    if budget.text:
        names = [table[column].fillna("").astype(str) for column in ("model", "artifact", "runtime", "machine")]
        everything = [" ".join(row).casefold() for row in zip(*names)]
        wanted = budget.text.casefold().split()
        keep &= pd.Series([all(word in text for word in wanted) for text in everything], index=table.index)
    lacking = {}
    limits = {name: (AXES[name].column, limit * AXES[name].unit) for name, limit in budget.most.items()}
    for name, (column, limit) in limits.items():
        if math.isfinite(limit):
            lacking[name] = int((keep & table[column].isna()).sum())
            keep &= table[column] <= limit
    if budget.least_top1 > 0:
        lacking["Accuracy"] = int((keep & table["top1"].isna()).sum())
        keep &= table["top1"] >= budget.least_top1
    return table[keep].reset_index(drop=True), {name: count for name, count in lacking.items() if count}


def points(table: pd.DataFrame, axis: Axis) -> pd.DataFrame:
    """Returns the rows that have both an accuracy and the axis's figure, with the column `x` in the axis's unit.

    Several times of one file are one point where the axis does not depend on the device.
    """
    found = table.dropna(subset=["top1", axis.column])
    if not axis.timed:
        found = found.drop_duplicates(["model", "artifact", axis.column, "top1"])
    return found.assign(x=found[axis.column] / axis.unit).reset_index(drop=True)


def groups(found: pd.DataFrame, axis: Axis) -> pd.Series:
    """Returns for each point the circumstances within which it may be compared, in words."""
    columns = [*ACCURACY, *(TIMED if axis.timed else ())]
    parts = [
        found[column].map(threads) if column == "threads" else found[column].fillna("not known") for column in columns
    ]
    return reduce(lambda left, right: left + ", " + right, parts)


def front(found: pd.DataFrame, axis: Axis) -> pd.Series:
    """Returns which points are on the Pareto front of those measured in the same circumstances.

    A point is on the front if no other is at least as good in both figures and better in one. Void times are on none.
    """
    on_front = pd.Series(False, index=found.index)
    usable = found[found["void"].isna()] if axis.timed else found
    for _, group in usable.groupby(groups(usable, axis), sort=False):
        ordered = group.sort_values(["x", "top1"], ascending=[True, False])
        best_before = ordered["top1"].astype(float).cummax().shift(fill_value=-math.inf)
        rises = ordered["top1"] > best_before
        # Of equal points each is on the front, not only the first.
        corners = set(zip(ordered["x"][rises], ordered["top1"][rises]))
        on_front[group.index] = [pair in corners for pair in zip(group["x"], group["top1"])]
    return on_front


def unlike(found: pd.DataFrame, axis: Axis) -> list[str]:
    """Returns a line for each circumstance in which the points differ, so that comparing them may mislead."""
    named = {"data": "data sets", "protocol": "evaluation protocols", "machine": "devices", "threads": "thread counts"}
    lines = []
    for column in [*ACCURACY, *(TIMED if axis.timed else ())]:
        values = found[column].dropna().unique()
        if len(values) > 1:
            shown = [f"{value:.0f}" if isinstance(value, float) else str(value) for value in values[:4]]
            more = f" and {len(values) - 4} more" if len(values) > 4 else ""
            lines.append(f"{len(values)} {named[column]}: {'; '.join(shown)}{more}")
    kinds = found["memory_kind"].dropna().unique()
    if axis.column == "memory_bytes" and len(kinds) > 1:
        lines.append("2 measures of memory: the process's peak, and what it grew by")
    if axis.timed and (count := int(found["void"].notna().sum())):
        lines.append(f"{count} void time{'s' * (count > 1)}: something disturbed the measurement")
    return lines
