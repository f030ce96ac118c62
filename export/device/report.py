"""Reports measurements on a device as a table, as records and as JSON, and says whether they can be compared."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from statistics import median
from typing import Any

from edgebnn.records import Record, new_session
from edgebnn.runtime.system.machine import one_line
from edgebnn.runtime.system.state import State, happened_before, throttling
from edgebnn.text import columns, printable

from .measure import DeviceResults, Measured

MAX_SPREAD = 0.2
"""The largest (p90 - p10) / median with which a file's times can be compared."""

MAX_BUSY = 0.5
"""The number of cores that other programs may use, beyond the cores that the runs leave free."""

MAX_DRIFT = 0.1
"""The share by which the median may change from the first third of the rounds to the last."""

ROUNDS_FOR_DRIFT = 6
"""With fewer rounds, drift is not judged."""


def void_reasons(found: DeviceResults) -> list[str]:
    """Returns the reasons why the measurements must not be compared, each with a remedy. The list is empty if they can.

    The reasons are:

    - The device throttled.
    - Other programs used more than half a core that the runs need.
    - A file's times spread too far: p10 to p90 is over 20% of the median.
    - A file's median changed by over 10% from the first third of the rounds to the last.
    """
    reasons = []
    signs = throttling(found.states)
    if signs:
        reasons.append(
            f"the device throttled ({signs}); cool it, give it a sufficient power supply, wait, and measure again"
        )
    busy, cores = found.busy, found.machine["cores"]
    if busy is not None and busy > max(0, cores - found.threads) + MAX_BUSY:
        reasons.append(f"other programs used {busy:.1f} of the device's {cores} cores before measuring; end them")
    for name, each in zip(file_names(found), found.measured):
        latency = each.latency
        spread = (latency.p90_ms - latency.p10_ms) / latency.median_ms
        if spread > MAX_SPREAD:
            reasons.append(
                f"{name}: p10 to p90 spans {spread:.0%} of the median; end other programs, set the governor to "
                "performance, or give more --rounds"
            )
        drift = _drift(each)
        if abs(drift) > MAX_DRIFT:
            reasons.append(
                f"{name}: the last rounds took {drift:+.0%} compared with the first; let the device reach an even "
                "temperature first"
            )
    return reasons


def notes(found: DeviceResults) -> list[str]:
    """Returns remarks that a reader should know, even if the measurements can be compared."""
    remarks = []
    if throttling(found.states) is None:
        remarks.append("the device does not report whether it throttled")
    elif "Raspberry Pi" in found.machine["cpu"] and found.states[0].firmware is None:
        remarks.append(
            "the firmware, which knows whether the device throttled, did not answer: vcgencmd is missing there, or the "
            "user is not in the group video"
        )
    if flags := happened_before(found.states[0]):
        remarks.append(
            f"since the device was switched on, its firmware has reported: {', '.join(flags)}. It reports each only "
            "once, so a short event during the rounds would not be seen. Restart the device and measure again"
        )
    if found.threads > found.machine["cores"]:
        remarks.append(f"{found.threads} threads share {found.machine['cores']} cores")
    # All Arm cores in `ARM_PARTS` are 64-bit, even if an old kernel reports the architecture armv7l on them.
    sixty_four_bit = found.machine["architecture"] in ("aarch64", "armv8l", "x86_64") or found.machine["core_types"]
    if found.machine["bits"] == 32 and sixty_four_bit:
        remarks.append("the programs are 32-bit on a 64-bit processor: a 64-bit system would be faster")
    kinds = {memory[0] for each in found.measured if (memory := each.memory)}
    if "growth" in kinds:
        remarks.append("memory with a plus is the growth of the program; without a plus it is the peak")
    return remarks


def file_names(found: DeviceResults) -> list[str]:
    """Returns the name of each file. If two files have the same name, their folders are shown too."""
    short = [each.subject.path.name for each in found.measured]
    return [
        printable(name if short.count(name) == 1 else str(each.subject.path))
        for name, each in zip(short, found.measured)
    ]


def _drift(each: Measured) -> float:
    """Returns the change of the median from the first third of the rounds to the last, as a share."""
    third = len(each.medians) // 3
    if len(each.medians) < ROUNDS_FOR_DRIFT:
        return 0.0
    return median(each.medians[-third:]) / median(each.medians[:third]) - 1


def to_table(found: DeviceResults) -> str:
    """Returns a table with one row per file, then two lines about the device, notes, and reasons to void."""
    rows = []
    for name, each in zip(file_names(found), found.measured):
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
        f"before: {state_text(found.states[0])}; after: {state_text(found.states[-1])}",
        *(f"note: {text}" for text in notes(found)),
        *(f"VOID: {text}" for text in void_reasons(found)),
    ]
    return "\n".join(lines)


def state_text(at: State) -> str:
    """Returns a state of the device as text."""
    parts = []
    if at.mhz:
        parts.append(f"{min(at.mhz):.0f}" + (f"-{max(at.mhz):.0f}" if max(at.mhz) > min(at.mhz) else "") + " MHz")
    parts.append(f"{at.temperature_c:.1f} °C" if at.temperature_c is not None else "temperature not reported")
    if at.load is not None:
        parts.append(f"load {at.load:.1f}")
    return ", ".join(parts)


def to_records(found: DeviceResults, target: str) -> Iterator[Record]:
    """Yields a latency record and a size record of every file (docs/reference/records.md)."""
    signs, reasons, session = throttling(found.states), void_reasons(found), new_session()
    for each in found.measured:
        latency = asdict(each.latency)
        runs = latency.pop("runs")
        memory = each.memory
        artifact = {"artifact": each.subject.path.name, "sha256": each.subject.sha256}
        values = latency | {"first_ms": each.first_ms, "init_ms": each.init_ms}
        facts = dict(each.runner_facts)
        process = facts.pop("process", {})
        context: dict[str, Any] = artifact | facts
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


def to_json(found: DeviceResults, target: str) -> str:
    """Returns all results as JSON text, with the times of single runs."""
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
            "void": void_reasons(found),
            "results": results,
        },
        indent=1,
    )
