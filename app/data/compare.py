"""Whether one file is faster than another, and by how much.

Files that were measured together took turns: in each round every file ran once, in a new order. The ratio of two times
of the same round is free of whatever slowed the whole round. The median of those ratios is the paired ratio.

The interval of the median needs no assumption about the times' distribution (Conover, Practical Nonparametric
Statistics, section 3.2). Of n sorted ratios, the k-th smallest and the k-th largest enclose the true median with the
probability 1 - 2 P(B < k), where B is the number of heads of n fair coins. k is the largest one for which this is at
least 95%. Fewer than 6 rounds have no such interval.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from edgebnn.records import Record

from .facts import artifact, content, machine, subject, void
from .text import number

Verdict = Literal["faster", "slower", "no difference shown", "void"]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Comparison:
    """A file against another one.

    Attributes:
        verdict: whether the file is faster.
        ratio: its time over the other's; under 1 is faster. None where the times must not be compared.
        interval: 95% interval of the ratio, where the rounds allow it.
        ratios: the ratio of each round.
        why: what the verdict rests on, or why there is none.
    """

    verdict: Verdict
    ratio: float | None
    interval: tuple[float, float] | None
    ratios: tuple[float, ...]
    why: str


def compare(one: Record, other: Record) -> Comparison:
    """Compares two latency records: is `one` faster than `other`?"""
    if reason := incomparable(one, other):
        return Comparison("void", None, None, (), reason)
    ratios = paired_ratios(one, other)
    if not ratios:
        ratio = one.values["median_ms"] / other.values["median_ms"]
        why = "They were not measured in the same rounds, so there is no interval. The verdict asks whether the ranges "
        why += "from the 10th to the 90th percentile overlap. Measure both with one command to get an interval."
        if one.values["p90_ms"] < other.values["p10_ms"]:
            return Comparison("faster", ratio, None, (), why)
        if one.values["p10_ms"] > other.values["p90_ms"]:
            return Comparison("slower", ratio, None, (), why)
        return Comparison("no difference shown", ratio, None, (), why)
    ratio, interval = median(ratios), median_interval(ratios)
    rounds = f"{len(ratios)} rounds in which both files took turns."
    if interval is None:
        return Comparison("no difference shown", ratio, None, tuple(ratios), f"{rounds} An interval needs 6 or more.")
    low, high = interval
    verdict: Verdict = "faster" if high < 1 else "slower" if low > 1 else "no difference shown"
    return Comparison(verdict, ratio, interval, tuple(ratios), rounds)


def incomparable(one: Record, other: Record) -> str:
    """Returns why two times must not be compared; "" if they may be."""
    for record in (one, other):
        if reason := void(record):
            return f"{artifact(record) or record.model}: {reason}"
        if min(record.values["median_ms"], record.values["p10_ms"]) <= 0:
            return f"{artifact(record) or record.model}: a time of 0 or less"
    if machine(one) != machine(other):
        return "They were measured on different devices."
    if number(one.context, "threads") != number(other.context, "threads"):
        return "They were measured on different numbers of threads."
    if (number(one.context, "batch") or 1) != (number(other.context, "batch") or 1):
        return "They were measured with different numbers of images in a run."
    return ""


def paired_ratios(one: Record, other: Record) -> list[float]:
    """Returns the ratio of the times of each round; none unless both files took turns."""
    session = one.context.get("session")
    if not session or session != other.context.get("session"):
        return []
    times = [record.context.get("rounds_ms") for record in (one, other)]
    if not all(isinstance(each, list) and each for each in times) or len(times[0]) != len(times[1]):  # type: ignore[arg-type]
        return []
    flat = [*times[0], *times[1]]  # type: ignore[misc]
    if not all(isinstance(time, (int, float)) and math.isfinite(time) and time > 0 for time in flat):
        return []
    return [own / others for own, others in zip(times[0], times[1])]  # type: ignore[arg-type]


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Returns an interval that holds the median of what the values were drawn from; None if they are too few."""
    count = len(values)
    below, rank = 0.0, 0
    while rank < count // 2:
        # below: the probability of `rank` heads or fewer.
        below += math.comb(count, rank) / 2**count
        if 1 - 2 * below < confidence:
            break
        rank += 1
    if rank == 0:
        return None
    ordered = sorted(values)
    return ordered[rank - 1], ordered[count - rank]


def measured_together(found: Sequence[Record], one: Record, other: Record) -> tuple[Record, Record]:
    """Returns the newest records of the same two files that were measured together, or the two records themselves.

    The newest time of each file may come from different measurements, though both were once measured together.

    Args:
        found: all records, oldest first.
        one, other: the newest latency records of two files.
    """

    def by_session(newest: Record) -> dict[str, Record]:
        same = [each for each in found if each.model == newest.model and each.kind == "latency"]
        same = [each for each in same if subject(each) == subject(newest) and content(each) == content(newest)]
        return {str(each.context["session"]): each for each in same if each.context.get("session")}

    ones, others = by_session(one), by_session(other)
    for session in reversed(ones):
        if session in others and paired_ratios(ones[session], others[session]):
            return ones[session], others[session]
    return one, other


def sentence(name: str, other: str, found: Comparison) -> str:
    """Returns the comparison in words."""
    if found.ratio is None:
        return f"{name} against {other}: void. {found.why}"
    times = 1 / found.ratio if found.ratio < 1 else found.ratio
    how = f"{times:.2f} times as {'fast' if found.ratio < 1 else 'slow'}"
    spread = ""
    if found.interval:
        low, high = found.interval
        low, high = (1 / high, 1 / low) if found.ratio < 1 else (low, high)
        spread = f", 95% interval {low:.2f} to {high:.2f}"
    if found.verdict == "no difference shown":
        return f"{name} against {other}: no difference shown (measured {how}{spread})."
    return f"{name} is {found.verdict} than {other}: {how}{spread}."
