"""What was measured on a device: whether it can be compared, as a table, as records, as JSON."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from statistics import median
from typing import Any

from edgebnn.records import Record
from edgebnn.records import session as new_session
from edgebnn.runtime.system.machine import one_line
from edgebnn.runtime.system.state import State, happened_before, throttling
from edgebnn.text import columns, printable

from .measure import Findings, Measured

SPREAD = 0.2
"""p90 - p10 over the median, from which on a file's times are too far apart to compare."""

BUSY = 0.5
"""Cores that others may keep busy beyond those that the runs leave free."""

DRIFT = 0.1
"""Share by which the last third of the rounds may differ from the first."""

ROUNDS_FOR_DRIFT = 6


def doubts(found: Findings) -> list[str]:
    """Reasons for which the comparison is void, each with what to do; none if it holds.

    The rule: the device throttled; others kept busy over half a core that the runs need; a file's p10 to p90 spans
    over 20% of its median; a file's median moved by over 10% from the first third of the rounds to the last.
    """
    reasons = []
    signs = throttling(found.states)
    if signs:
        reasons.append(f"the device throttled ({signs}); cool it, feed it well, pause, and measure again")
    busy, cores = found.busy, found.machine["cores"]
    if busy is not None and busy > max(0, cores - found.threads) + BUSY:
        reasons.append(
            f"others kept {busy:.1f} of the device's {cores} cores busy before measuring; end what else runs"
        )
    for name, each in zip(names(found), found.measured):
        latency = each.latency
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
    elif "Raspberry Pi" in found.machine["cpu"] and found.states[0].firmware is None:
        said.append(
            "its firmware, which knows whether it throttled, did not answer: vcgencmd is missing there, or the user is "
            "not in the group video"
        )
    if flags := happened_before(found.states[0]):
        said.append(
            f"since it was switched on its firmware has noted: {', '.join(flags)}. It notes that once; what came and "
            "went again in a round is not seen, so restart it and measure again"
        )
    if found.threads > found.machine["cores"]:
        said.append(f"{found.threads} threads share {found.machine['cores']} cores")
    # All of Arm's cores that are known by name here are of 64 bits; an older kernel calls itself armv7l on them too.
    wide = found.machine["architecture"] in ("aarch64", "armv8l", "x86_64") or found.machine["core_types"]
    if found.machine["bits"] == 32 and wide:
        said.append("the programs are 32-bit on a 64-bit processor: a 64-bit system would be faster")
    kinds = {memory[0] for each in found.measured if (memory := each.memory)}
    if "growth" in kinds:
        said.append("memory with a plus is what the program grew by; without, its peak")
    return said


def names(found: Findings) -> list[str]:
    """The files' names in one line each, with their folders where two are of one name."""
    short = [each.subject.path.name for each in found.measured]
    return [
        printable(name if short.count(name) == 1 else str(each.subject.path))
        for name, each in zip(short, found.measured)
    ]


def _drift(each: Measured) -> float:
    third = len(each.medians) // 3
    if len(each.medians) < ROUNDS_FOR_DRIFT:
        return 0.0
    return median(each.medians[-third:]) / median(each.medians[:third]) - 1


def table(found: Findings) -> str:
    """A row a file, then the device in two lines, notes and doubts."""
    rows = []
    for name, each in zip(names(found), found.measured):
        latency, memory = each.latency, each.memory
        rows.append(
            [
                name,
                printable(str(each.runner_facts["runtime"])),
                f"{latency.median_ms:.3f}",
                f"{latency.p10_ms:.3f}-{latency.p90_ms:.3f}",
                f"{each.first_ms:.2f}",
                f"{each.init_ms:.2f}",
                "" if memory is None else f"{'+' * (memory[0] == 'growth')}{memory[1] / 1e6:.1f}",
                f"{each.ratio(found.measured[0]):.2f}",
            ]
        )
    header = ["artifact", "runner", "median ms", "p10-p90", "first ms", "init ms", "memory MB", "ratio"]
    threads, rounds = f"{found.threads} thread{'s' * (found.threads > 1)}", len(found.measured[0].rounds)
    lines = [
        columns([header, *rows], "llrrrrrr"),
        f"{threads}, {found.measured[0].latency.runs} runs each in {rounds} round{'s' * (rounds > 1)}, on "
        + printable(one_line(found.machine)),
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
    """A latency and a size record of every file, as docs/reference/records.md says."""
    signs, reasons, session = throttling(found.states), doubts(found), new_session()
    for each in found.measured:
        latency = asdict(each.latency)
        runs = latency.pop("runs")
        memory = each.memory
        artifact = {"artifact": each.subject.path.name, "sha256": each.subject.sha256}
        values = latency | {"first_ms": each.first_ms, "init_ms": each.init_ms}
        told = dict(each.runner_facts)
        process = told.pop("process", {})
        context: dict[str, Any] = artifact | told
        context |= {"threads": found.threads, "runs": runs, "rounds": len(each.rounds), "target": target}
        context |= {"machine": found.machine | process}
        context |= {"before": asdict(found.states[0]), "after": asdict(found.states[-1])}
        context |= {"busy_cores": found.busy, "throttled": None if signs is None else bool(signs), "void": reasons}
        context |= {"session": session, "rounds_ms": [round(time, 4) for time in each.medians]}
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
            "busy_cores": found.busy,
            "notes": notes(found),
            "void": doubts(found),
            "results": results,
        },
        indent=1,
    )
