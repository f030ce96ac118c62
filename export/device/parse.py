"""Reads what measuring programs print: TensorFlow Lite's benchmark_model, LCE's version of it, and `edgebnn bench`.

benchmark_model prints a line of statistics for the warm-up and one for the measured runs, then a summary. The
wording changed over the years; what is read here stands in tests/export/benchmark_outputs.py as the tools printed it.
Times are in microseconds. No version prints single runs, but of three the statistics give all:
the first, the last ("curr"), and from the average the one between.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edgebnn.errors import UserError, check

RUNS = 3
"""Measured runs a call, see above."""

NUMBER = r"(\d{1,20}(?:\.\d{1,20})?(?:e[+-]?\d{1,2})?)(?!\w)"
STATISTICS = re.compile(r"\bcount=(\d{1,9})(?:\s+first=" + NUMBER + r")?\s+curr=" + NUMBER + r"(\s*\(all same\))?(.*)")
PEAK = re.compile(r"Overall peak memory footprint \(MB\) via periodic monitoring: " + NUMBER)
GROWTH = re.compile(
    r"(?:Memory footprint delta from the start of the tool|Peak memory footprint) \(MB\): .*overall=" + NUMBER
)
SUMMARIES = (
    # TensorFlow 2.1 and later; until 1.15.
    re.compile(rf"Inference timings in us: Init: {NUMBER}, First inference: {NUMBER},"),
    re.compile(rf"Average inference timings in us: Warmup: {NUMBER}, Init: {NUMBER},"),
)
PROCESS = ("architecture", "bits", "features", "python", "numpy", "onnxruntime")
"""What `edgebnn bench` knows better of the machine than the device's shell."""

MOST_MS = 3_600_000.0


@dataclass(frozen=True)
class Statistics:
    """A line of statistics; microseconds. What the version does not print is None."""

    count: int
    first: float
    last: float
    min: float
    max: float
    avg: float
    p5: float | None = None
    median: float | None = None
    p95: float | None = None


@dataclass(frozen=True)
class Report:
    """What benchmark_model printed.

    Attributes:
        warmup, runs: of the warm-up, and of the measured runs.
        init_us: loading the model, microseconds.
        first_us: the first run, microseconds.
        peak_bytes: the most memory the process held, if it was asked to look.
        growth_bytes: the memory it held at the end more than at its start.
    """

    warmup: Statistics
    runs: Statistics
    init_us: float
    first_us: float
    peak_bytes: int | None
    growth_bytes: int | None

    def sample(self) -> "Sample":
        """With the times of single runs. Raises `UserError` unless there were three runs, or fewer."""
        runs = self.runs
        if runs.min == runs.max:
            single = [runs.first] * runs.count
        elif runs.count == 2:
            single = [runs.first, runs.last]
        else:
            check(
                runs.count == 3,
                f"the program made {runs.count} runs and not {RUNS}: single times cannot be told; use a newer one",
            )
            between = 3 * runs.avg - runs.first - runs.last
            # The average is printed with six digits.
            slack = 1 + 3e-5 * runs.avg
            check(
                runs.min - slack <= between <= runs.max + slack,
                f"the program printed statistics that contradict each other: {runs}; measure again",
            )
            single = [runs.first, min(max(between, runs.min), runs.max), runs.last]
        times = tuple(each / 1e3 for each in single)
        return Sample(times, self.init_us / 1e3, self.first_us / 1e3, self.peak_bytes, self.growth_bytes)


@dataclass(frozen=True)
class Sample:
    """What one call of a program tells of a model.

    Attributes:
        runs_ms: milliseconds of each measured run.
        init_ms: loading the model.
        first_ms: the first run after that.
        peak_bytes: the most memory that the process held, None if it does not tell.
        growth_bytes: memory it held more than at its start, None if it does not tell.
        facts: what else a record should say (versions, instruction set).
    """

    runs_ms: tuple[float, ...]
    init_ms: float
    first_ms: float
    peak_bytes: int | None = None
    growth_bytes: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        times = (*self.runs_ms, self.init_ms, self.first_ms)
        sound = self.runs_ms and all(math.isfinite(each) and 0 <= each < MOST_MS for each in times)
        check(sound and min(self.runs_ms) > 0, f"times of {times} ms cannot be; measure again")
        check(
            self.peak_bytes is None or self.peak_bytes > 0,
            f"{self.peak_bytes} bytes of memory cannot be; measure again",
        )


def benchmark(output: str) -> Report:
    """What benchmark_model or lce_benchmark_model printed.

    Raises:
        UserError: it did not print its statistics, or they contradict each other; the line is shown.
    """
    lines = [line for line in output.replace("\r", "").split("\n") if line.strip()]
    found = [match for line in lines if (match := STATISTICS.search(line))]
    summary = next((match for line in lines for each in SUMMARIES if (match := each.search(line))), None)
    if len(found) < 2 or summary is None:
        line = next((line for line in lines if re.search(r"error|fail", line, re.IGNORECASE)), (lines or [""])[-1])
        raise UserError(f"the program printed no times, but {_shown(line)}; run it by hand, or get another version")
    warmup, runs = _statistics(found[0]), _statistics(found[1])
    new = summary.re is SUMMARIES[0]
    peak, growth = (next((match for line in lines if (match := each.search(line))), None) for each in (PEAK, GROWTH))
    return Report(
        warmup=warmup,
        runs=runs,
        init_us=float(summary[1] if new else summary[2]),
        first_us=float(summary[2]) if new else warmup.first,
        # A system that does not tell makes it print 0.
        peak_bytes=(round(float(peak[1]) * 2**20) or None) if peak else None,
        growth_bytes=(round(float(growth[1]) * 2**20) or None) if growth else None,
    )


def _shown(line: str) -> str:
    return repr(line.strip()[:300])


def _statistics(line: "re.Match[str]") -> Statistics:
    count, last = int(line[1]), float(line[3])
    first = float(line[2] or last)
    if line[4] or count == 1:
        return Statistics(count, *[last] * 5)
    rest = {name: float(value) for name, value in re.findall(rf"\b(min|max|avg|p5|median|p95)={NUMBER}", line[5])}
    shown = _shown(line[0])
    check({"min", "max", "avg"} <= rest.keys() and count, f"the program printed no min, max and avg: {shown}")
    found = Statistics(count, first, last, **rest)
    ordered = [found.min, *(each for each in (found.p5, found.median, found.p95) if each is not None), found.max]
    inside = all(found.min <= each <= found.max for each in (first, last))
    slack = 1 + found.max * 1e-5
    sound = ordered == sorted(ordered) and inside and found.min - slack <= found.avg <= found.max + slack
    check(sound, f"the program printed statistics that contradict each other: {shown}; measure again")
    return found


def _plain(table: Any, names: Sequence[str]) -> dict[str, Any]:
    """Those entries of a device's answer, which go into records. Raises TypeError or KeyError where they cannot."""
    found = {name: table[name] for name in names}
    for name, value in found.items():
        entries = value if isinstance(value, list) else [value]
        if not all(each is None or isinstance(each, (str, int)) for each in entries):
            raise TypeError(f"{name} is {value!r:.100}")
    return found


def bench(output: str) -> Sample:
    """What `edgebnn bench --json` printed of one model.

    Raises:
        UserError: it is not that; the line is shown.
    """
    # A login shell may greet before it.
    start = re.search(r"^\{", output, re.MULTILINE)
    try:
        data: Any = json.loads(output[start.start() :]) if start else None
        (result,) = data["results"]
        facts = _plain(result, ["runtime", "runtime_version", "batch", *(["isa"] if "isa" in result else [])])
        # What the process sees itself as: of 32 bits on a system of 64, or emulated.
        facts |= {"process": _plain(data["machine"], PROCESS)}
        memory = data["peak_memory_bytes"]
        return Sample(
            runs_ms=tuple(float(each) for each in result["milliseconds"]),
            init_ms=float(result["init_ms"]),
            first_ms=float(result["first_ms"]),
            peak_bytes=None if memory is None else int(memory),
            facts=facts,
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        shown = _shown(next((line for line in output.splitlines() if line.strip()), ""))
        raise UserError(
            f"edgebnn bench printed something else, {shown} ({error!r}); install the same edgebnn there"
        ) from None
