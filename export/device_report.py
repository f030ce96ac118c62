"""What was measured on a device: whether it can be compared, as a table, as records, as JSON."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from statistics import median
from typing import Any

from edgebnn.records import Record
from edgebnn.runtime.machine import one_line
from edgebnn.runtime.state import State, throttling
from edgebnn.text import columns, printable
from export.device import Findings, Measured

SPREAD = 0.2
"""p90 - p10 over the median, from which on a file's times are too far apart to compare."""

DRIFT = 0.1
"""Share by which the last third of the rounds may differ from the first."""

ROUNDS_FOR_DRIFT = 6


def doubts(found: Findings) -> list[str]:
    """Reasons for which the comparison is void, each with what to do; none if it holds.

    The rule: the device throttled; more processes wanted to run than cores were free; a file's p10 to p90 spans over
    20% of its median; a file's median moved by over 10% from the first third of the rounds to the last.
    """
    reasons = []
    signs = throttling(found.states)
    if signs:
        reasons.append(f"the device throttled ({signs}); cool it, feed it well, pause, and measure again")
    load, cores = found.states[0].load, found.machine["cores"]
    if load is not None and load > cores - found.threads + 0.5:
        reasons.append(f"the device was busy (load {load:.1f} on {cores} cores before measuring); end what else runs")
    for each in found.measured:
        latency, name = each.latency, printable(each.subject.path.name)
        spread = (latency.p90_ms - latency.p10_ms) / latency.median_ms
        if spread > SPREAD:
            reasons.append(
                f"{name}: p10 to p90 spans {spread:.0%} of the median; end what else runs, set "
                "the governor to performance, take more --rounds"
            )
        drift = _drift(each)
        if abs(drift) > DRIFT:
            reasons.append(
                f"{name}: the last rounds took {drift:+.0%} against the first; let the device reach "
                "an even temperature first"
            )
    return reasons


def notes(found: Findings) -> list[str]:
    """What a reader should know, though the comparison holds."""
    said = []
    if throttling(found.states) is None:
        said.append("the device does not tell whether it throttled")
    if found.threads > found.machine["cores"]:
        said.append(f"{found.threads} threads share {found.machine['cores']} cores")
    if found.machine["bits"] == 32 and found.machine["architecture"] in ("aarch64", "x86_64"):
        said.append("the programs are 32-bit on a 64-bit kernel: a 64-bit system would be faster")
    kinds = {memory[0] for each in found.measured if (memory := each.memory)}
    if "growth" in kinds:
        said.append("memory with a plus is what the program grew by; without, its peak")
    return said


def _drift(each: Measured) -> float:
    third = len(each.medians) // 3
    if len(each.medians) < ROUNDS_FOR_DRIFT:
        return 0.0
    return median(each.medians[-third:]) / median(each.medians[:third]) - 1


def table(found: Findings) -> str:
    """A row a file, then the device in two lines, notes and doubts."""
    rows = []
    for each in found.measured:
        latency, memory = each.latency, each.memory
        rows.append(
            [
                printable(each.subject.path.name),
                str(each.runner_facts["runtime"]),
                f"{latency.median_ms:.3f}",
                f"{latency.p10_ms:.3f}-{latency.p90_ms:.3f}",
                f"{each.first_ms:.2f}",
                f"{each.init_ms:.2f}",
                "" if memory is None else f"{'+' * (memory[0] == 'growth')}{memory[1] / 1e6:.1f}",
                f"{each.ratio(found.measured[0]):.2f}",
            ]
        )
    header = ["artifact", "runner", "median ms", "p10-p90", "first ms", "init ms", "memory MB", "ratio"]
    threads = f"{found.threads} thread{'s' * (found.threads > 1)}"
    lines = [
        columns([header, *rows], "llrrrrrr"),
        f"{threads}, {found.measured[0].latency.runs} runs each in {len(found.measured[0].rounds)} rounds, on "
        + one_line(found.machine),
        f"before: {moment(found.states[0])}; after: {moment(found.states[-1])}",
        *(f"note: {text}" for text in notes(found)),
        *(f"VOID: {text}" for text in doubts(found)),
    ]
    return "\n".join(lines)


def moment(at: State) -> str:
    """A state for people."""
    parts = []
    if at.mhz:
        parts.append(f"{min(at.mhz):.0f}" + (f"-{max(at.mhz):.0f}" if max(at.mhz) > min(at.mhz) else "") + " MHz")
    parts.append(f"{at.temperature_c:.1f} °C" if at.temperature_c is not None else "temperature not told")
    if at.load is not None:
        parts.append(f"load {at.load:.1f}")
    return ", ".join(parts)


def to_records(found: Findings, target: str) -> Iterator[Record]:
    """A latency and a size record of every file, as docs/records.md says."""
    signs, reasons = throttling(found.states), doubts(found)
    for each in found.measured:
        latency = asdict(each.latency)
        runs = latency.pop("runs")
        memory = each.memory
        artifact = {"artifact": each.subject.path.name, "sha256": each.subject.sha256}
        values = latency | {"first_ms": each.first_ms, "init_ms": each.init_ms}
        told = dict(each.runner_facts)
        versions = {key: told.pop(key) for key in ("python", "numpy", "onnxruntime") if key in told}
        context: dict[str, Any] = artifact | told
        context |= {"threads": found.threads, "runs": runs, "rounds": len(each.rounds), "target": target}
        context |= {"machine": found.machine | versions}
        context |= {"before": asdict(found.states[0]), "after": asdict(found.states[-1])}
        context |= {"throttled": None if signs is None else bool(signs), "void": reasons}
        if memory is not None:
            values |= {f"{memory[0]}_memory_bytes": memory[1]}
        yield Record("latency", each.subject.model, values, json.loads(json.dumps(context)))
        yield Record(
            "size", each.subject.model, {"bytes": each.subject.bytes}, artifact | {"format": each.subject.format}
        )


def to_json(found: Findings, target: str) -> str:
    """Everything, single runs too."""
    results = [
        asdict(record)
        | {
            "bytes": each.subject.bytes,
            "baseline": each.subject.baseline,
            "ratio": each.ratio(found.measured[0]),
            "milliseconds": [list(sample.runs_ms) for sample in each.rounds],
        }
        for each, record in zip(found.measured, (r for r in to_records(found, target) if r.kind == "latency"))
    ]
    return json.dumps(
        {
            "target": target,
            "machine": found.machine,
            "states": [asdict(each) for each in found.states],
            "notes": notes(found),
            "void": doubts(found),
            "results": results,
        },
        indent=1,
    )
