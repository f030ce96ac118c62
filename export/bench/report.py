"""Formats the results of `make bench` as tables and records."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgebnn.files import sha256
from edgebnn.records import Record
from edgebnn.runtime import Latency
from edgebnn.text import columns

from .node_profile import Profile

PACKED = "packed"
ALONE = "packed, back to back"
"""The packed file, run without other models between its runs. Only `PACKED` goes into the records."""


@dataclass(frozen=True)
class Row:
    """A file, its description from `edgebnn.runtime.Model`, and its latency and rounds by number of threads."""

    label: str
    model: str
    path: Path
    format: str
    runtime: str
    runtime_version: str
    isa: str | None
    latencies: dict[int, Latency]
    rounds: dict[int, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class PathRow:
    """The packed model on one path of the kernels, and the models that were timed beside it, on one thread.

    Attributes:
        isa: the path.
        latencies: the latencies by label, the packed model first.
        gmacs: the path's ceiling in 10^9 binary multiply-accumulates per second.
        ceiling_ms: milliseconds that the network's multiply-accumulates would take at the ceiling.
    """

    isa: str
    latencies: dict[str, Latency]
    gmacs: float
    ceiling_ms: float


def to_tables(rows: Sequence[Row], nodes: Profile, paths: Sequence[PathRow]) -> str:
    """Returns three tables as text: the models, the nodes of the packed model, and the paths."""
    return "\n\n".join([_models_table(rows), _nodes_table(nodes), _paths_table(paths)])


def _models_table(rows: Sequence[Row]) -> str:
    """Returns the table of all files.

    "x packed" is the median over the packed model's, on the same number of threads.
    """
    packed_row = next(row for row in rows if row.label == PACKED)
    counts = list(packed_row.latencies)
    header = ["model", "MB"]
    for count in counts:
        header += [f"{count} thread{'s' * (count > 1)} ms", "p10-p90", "min", "x packed"]
    faster = len(counts) > 1
    cells = []
    for row in rows:
        line = [row.label, f"{row.path.stat().st_size / 1e6:.2f}"]
        for count in counts:
            latency = row.latencies[count]
            line += [
                f"{latency.median_ms:.2f}",
                f"{latency.p10_ms:.2f}-{latency.p90_ms:.2f}",
                f"{latency.min_ms:.2f}",
                f"{ratio(latency, packed_row.latencies[count]):.2f}",
            ]
        if faster:
            line.append(f"{ratio(row.latencies[counts[0]], row.latencies[counts[-1]]):.2f}")
        cells.append(line)
    header += [f"{counts[0]} / {counts[-1]} threads"] * faster
    return columns([header, *cells], "l" + "r" * (len(header) - 1))


def ratio(latency: Latency, other: Latency) -> float:
    """Returns the median of `latency` over the median of `other`."""
    return latency.median_ms / other.median_ms


def _nodes_table(nodes: Profile) -> str:
    header = ["node of the packed model", "", "binary Mmac", "ms", "p10-p90", "ceiling ms", "share"]
    cells = []
    for layer in nodes.layers:
        line = [layer.name, layer.kind, "", f"{layer.latency.median_ms:.3f}"]
        line += [f"{layer.latency.p10_ms:.3f}-{layer.latency.p90_ms:.3f}", "", ""]
        if layer.macs:
            line[2], line[5:] = f"{layer.macs / 1e6:,.1f}", [f"{layer.ceiling_ms:.3f}", f"{layer.share:.0%}"]
        cells.append(line)
    macs = f"{sum(layer.macs for layer in nodes.units) / 1e6:,.1f}"
    for name, each in (("all units", nodes.units_ms), ("all nodes", nodes.nodes_ms), ("run", nodes.run.median_ms)):
        cells.append([name, "", macs, f"{each:.3f}", "", f"{nodes.ceiling_ms:.3f}", f"{nodes.ceiling_ms / each:.0%}"])
    cells[-1][4] = f"{nodes.run.p10_ms:.3f}-{nodes.run.p90_ms:.3f}"
    ceiling = f"ceiling ({nodes.isa}): {nodes.gmacs:.0f} G binary mac/s ({nodes.gmacs_p10:.0f}-{nodes.gmacs_p90:.0f})"
    return columns([header, *cells], "llrrrrr") + f"\n{ceiling}, one core, in registers"


def _paths_table(paths: Sequence[PathRow]) -> str:
    beside = [label for label in paths[0].latencies if label != PACKED]
    header = ["path", "packed ms", "p10-p90", *(f"{label} / packed" for label in beside)]
    header += ["ceiling G mac/s", "ceiling ms", "share"]
    cells = []
    for path in paths:
        own = path.latencies[PACKED]
        cells.append(
            [
                path.isa,
                f"{own.median_ms:.2f}",
                f"{own.p10_ms:.2f}-{own.p90_ms:.2f}",
                *(f"{ratio(path.latencies[label], own):.2f}" for label in beside),
                f"{path.gmacs:.0f}",
                f"{path.ceiling_ms:.2f}",
                f"{path.ceiling_ms / own.median_ms:.0%}",
            ]
        )
    return columns([header, *cells], "l" + "r" * (len(header) - 1))


def to_records(
    rows: Sequence[Row], nodes: Profile, paths: Sequence[PathRow], machine: dict[str, Any]
) -> Iterator[Record]:
    """Yields a size and latency record of every file, and for each path a record of its share of the ceiling."""
    for row in rows:
        if row.label == ALONE:
            continue
        artifact = {"artifact": row.path.name, "sha256": sha256(row.path)}
        yield Record("size", row.model, {"bytes": row.path.stat().st_size}, artifact | {"format": row.format})
        for threads, latency in row.latencies.items():
            values = asdict(latency)
            context = {"runs": values.pop("runs"), "threads": threads, "batch": 1, "machine": machine}
            context |= {"runtime": row.runtime, "runtime_version": row.runtime_version}
            context |= ({"isa": row.isa} if row.isa else {}) | row.rounds.get(threads, {})
            yield Record("latency", row.model, values, artifact | context)
    own = next(row for row in rows if row.label == PACKED)
    for path in paths:
        median = path.latencies[PACKED].median_ms
        values = {"median_ms": median, "ceiling_ms": path.ceiling_ms, "ceiling_gmacs": path.gmacs}
        context = {"artifact": own.path.name, "sha256": sha256(own.path), "isa": path.isa, "threads": 1}
        if path.isa == nodes.isa:
            values["units_ms"] = nodes.units_ms
            context["nodes"] = {node.name: node.latency.median_ms for node in nodes.layers}
        yield Record("kernels", own.model, values, context | {"machine": machine})
