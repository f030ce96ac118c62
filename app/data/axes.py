"""The figures that a file can be chosen by: their columns, units and explanations."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Axis:
    """A figure of the overview.

    Attributes:
        column: its column in the overview.
        title: its name with the unit.
        unit: what the column's value is divided by to be in that unit.
        pattern: how it is written (a format of Python and of D3).
        help: what it is and how it is measured.
        timed: whether it depends on the device.
    """

    column: str
    title: str
    unit: float
    pattern: str
    help: str
    timed: bool = True


AXES = {
    "Latency": Axis(
        "median_ms", "Median latency (ms)", 1, ".3f", "Time of one run on one image: the median of all measured runs."
    ),
    "First run": Axis(
        "first_ms",
        "First run (ms)",
        1,
        ".2f",
        "Time of the first run after loading. `edgebnn export device` measures it.",
    ),
    "Memory": Axis(
        "memory_bytes",
        "Memory (MB)",
        1e6,
        ".1f",
        "The most memory that the measuring process held, or what it grew by. `edgebnn export device` measures it.",
    ),
    "Size": Axis("bytes", "File size (MB)", 1e6, ".3f", "Bytes of the model file, in millions.", timed=False),
    "OPs": Axis(
        "ops",
        "OPs (millions)",
        1e6,
        ".2f",
        "FLOPs + BOPs / 64: real-valued multiply-accumulates, and binary ones divided by 64. OPs are counted, not "
        "measured. Two networks with equal OPs can differ much in latency.",
        timed=False,
    ),
}
"""What accuracy can be drawn against, by its name on the page."""


def wants_log(values: pd.Series) -> bool:
    """Returns whether an axis should be logarithmic: its values are positive and span a factor of 5 or more."""
    return len(values) > 1 and bool(values.min() > 0 and values.max() >= 5 * values.min())
