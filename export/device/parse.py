"""Parses the output of measuring programs: TensorFlow Lite's benchmark_model, LCE's version of it, and `edgebnn bench`.

benchmark_model prints a line of statistics for the warm-up, another for the measured runs, and a summary. The wording
changed over the years: tests/export/benchmark_outputs.py has the output of several versions. Times are in microseconds.

No version prints the times of single runs. But of three runs the statistics give all times: the first, the last
("curr"), and the one between them from the average.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from edgebnn.errors import UserError, check

RUNS = 3
"""The number of measured runs per call, see above."""

NUMBER = r"(\d{1,20}(?:\.\d{1,20})?(?:e[+-]?\d{1,2})?)(?!\w)"
STATISTICS = re.compile(r"\bcount=(\d{1,9})(?:\s+first=" + NUMBER + r")?\s+curr=" + NUMBER + r"(\s*\(all same\))?(.*)")
PEAK = re.compile(r"Overall peak memory footprint \(MB\) via periodic monitoring: " + NUMBER)
GROWTH = re.compile(
    r"(?:Memory footprint delta from the start of the tool|Peak memory footprint) \(MB\): .*overall=" + NUMBER
)
SUMMARIES = (
    # The first form is that of TensorFlow 2.1 and later, the second that of versions up to 1.15.
    re.compile(rf"Inference timings in us: Init: {NUMBER}, First inference: {NUMBER},"),
    re.compile(rf"Average inference timings in us: Warmup: {NUMBER}, Init: {NUMBER},"),
)
PROCESS = ("architecture", "bits", "features", "python", "numpy", "onnxruntime")
"""The facts about the machine that `edgebnn bench` knows better than the device's shell."""

MAX_MS = 3_600_000.0
"""No run takes longer than an hour."""


@dataclass(frozen=True)
class Statistics:
    """A line of statistics, in microseconds. A value that the program's version does not print is None."""

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
class BenchmarkOutput:
    """The parsed output of benchmark_model.

    Attributes:
        warmup, runs: the statistics of the warm-up and of the measured runs.
        init_us: microseconds of loading the model.
        first_us: microseconds of the first run.
        peak_bytes: peak memory of the process; None if it was not measured.
        growth_bytes: growth of the process's memory from its start to its end; None if it was not measured.
    """

    warmup: Statistics
    runs: Statistics
    init_us: float
    first_us: float
    peak_bytes: int | None
    growth_bytes: int | None

    def sample(self) -> "Sample":
        """Returns the times of the single runs.

        Raises:
            UserError: there were more than three runs, or the statistics contradict each other.
        """
        runs = self.runs
        if runs.min == runs.max:
            single = [runs.first] * runs.count
        elif runs.count == 2:
            single = [runs.first, runs.last]
        else:
            check(
                runs.count == 3,
                f"the program made {runs.count} runs, not {RUNS}, so single times are not known; use a newer version",
            )
            between = 3 * runs.avg - runs.first - runs.last
            # The average is printed with only six digits.
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
    """The measurements of one call of a program.

    Attributes:
        runs_ms: milliseconds of each measured run.
        init_ms: milliseconds of loading the model.
        first_ms: milliseconds of the first run.
        peak_bytes: peak memory of the process; None if the program does not report it.
        growth_bytes: growth of the process's memory; None if the program does not report it.
        facts: more facts for records, such as versions and the instruction set.
    """

    runs_ms: tuple[float, ...]
    init_ms: float
    first_ms: float
    peak_bytes: int | None = None
    growth_bytes: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        times = (*self.runs_ms, self.init_ms, self.first_ms)
        sound = self.runs_ms and all(math.isfinite(each) and 0 <= each < MAX_MS for each in times)
        check(sound and min(self.runs_ms) > 0, f"times of {times} ms are impossible; measure again")
        check(
            self.peak_bytes is None or self.peak_bytes > 0,
            f"a peak of {self.peak_bytes} bytes of memory is impossible; measure again",
        )


def parse_benchmark_model(output: str) -> BenchmarkOutput:
    """Parses the output of benchmark_model or lce_benchmark_model.

    Raises:
        UserError: the output has no statistics, or they contradict each other. The message shows the line.
    """
    lines = [line for line in output.replace("\r", "").split("\n") if line.strip()]
    found = [match for line in lines if (match := STATISTICS.search(line))]
    summary = next((match for line in lines for each in SUMMARIES if (match := each.search(line))), None)
    if len(found) < 2 or summary is None:
        line = next((line for line in lines if re.search(r"error|fail", line, re.IGNORECASE)), (lines or [""])[-1])
        raise UserError(f"the program printed no times, but {_shown(line)}; run it by hand, or use another version")
    warmup, runs = _statistics(found[0]), _statistics(found[1])
    new = summary.re is SUMMARIES[0]
    peak, growth = (next((match for line in lines if (match := each.search(line))), None) for each in (PEAK, GROWTH))
    return BenchmarkOutput(
        warmup=warmup,
        runs=runs,
        init_us=float(summary[1] if new else summary[2]),
        first_us=float(summary[2]) if new else warmup.first,
        # The program prints 0 on a system that does not report memory.
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


def _record_entries(table: Any, names: Sequence[str]) -> dict[str, Any]:
    """Returns named entries of a device's answer, to be written into records.

    Raises:
        TypeError, KeyError: an entry is missing, or is neither text nor a whole number nor a list of them.
    """
    found = {name: table[name] for name in names}
    for name, value in found.items():
        entries = value if isinstance(value, list) else [value]
        if not all(each is None or isinstance(each, (str, int)) for each in entries):
            raise TypeError(f"{name} is {value!r:.100}")
    return found


def parse_edgebnn_bench(output: str) -> Sample:
    """Parses the output of `edgebnn bench --json` for one model.

    Raises:
        UserError: the output is something else. The message shows its first line.
    """
    # A login shell may print a greeting first.
    start = re.search(r"^\{", output, re.MULTILINE)
    try:
        data: Any = json.loads(output[start.start() :]) if start else None
        (result,) = data["results"]
        facts = _record_entries(result, ["runtime", "runtime_version", "batch", *(["isa"] if "isa" in result else [])])
        # The process may differ from the system: 32-bit on a 64-bit system, or emulated.
        facts |= {"process": _record_entries(data["machine"], PROCESS)}
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
            f"edgebnn bench printed unexpected text, {shown} ({error!r}); install the same version of edgebnn there"
        ) from None
