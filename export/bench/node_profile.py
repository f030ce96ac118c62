"""Where a packed model's time goes: every node's time, and what of it counting bits alone would take.

ONNX Runtime times each node of a run itself (its profile, microseconds). The ceiling is how fast this machine's core
does XOR, popcount and add on registers, with no memory touched. It is measured in turns with the runs, since
the clock of a shared machine moves.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edgebnn.errors import check
from edgebnn.files import temporary_folder
from edgebnn.graph import ops
from edgebnn.graph.ops import NetworkShape
from edgebnn.runtime import Latency, kernels

from ..onnx.portable import INPUT

KERNEL_TIME = "_kernel_time"
WARMUP = 5


@dataclass(frozen=True)
class Layer:
    """One node of the file.

    Attributes:
        name: the node's name; ONNX Runtime gives its own to nodes that it adds or merges.
        kind: the unit's kind in words, or the operator.
        macs: binary multiply-accumulates; 0 unless it is a unit.
        latency: of its kernel.
        ceiling_ms: milliseconds the ceiling alone would take for `macs`.
    """

    name: str
    kind: str
    macs: int
    latency: Latency
    ceiling_ms: float

    @property
    def share(self) -> float:
        """Share of the ceiling reached. A path that counts bits otherwise than by popcount may pass 1."""
        return self.ceiling_ms / self.latency.median_ms


@dataclass(frozen=True)
class Profile:
    """A model's layers in the order they run.

    Attributes:
        isa: the path the units ran on.
        layers: the nodes.
        run: of whole runs, one after the other, with the profile's own cost.
        gmacs, gmacs_p10, gmacs_p90: the ceiling in 10^9 binary multiply-accumulates a second.
    """

    isa: str
    layers: tuple[Layer, ...]
    run: Latency
    gmacs: float
    gmacs_p10: float
    gmacs_p90: float

    @property
    def units(self) -> list[Layer]:
        return [layer for layer in self.layers if layer.macs]

    @property
    def units_ms(self) -> float:
        return sum(layer.latency.median_ms for layer in self.units)

    @property
    def nodes_ms(self) -> float:
        return sum(layer.latency.median_ms for layer in self.layers)

    @property
    def ceiling_ms(self) -> float:
        return sum(layer.ceiling_ms for layer in self.layers)


def profile(path: Path, network: NetworkShape, resolution: int, *, runs: int = 50, seconds: float = 60) -> Profile:
    """Times the nodes of a packed file of `network` on one thread, on the path that `kernels.isa()` names.

    Raises:
        UserError: the file has other units than the network.
    """
    isa = kernels.isa()
    image = np.random.default_rng(0).standard_normal((1, network.image_channels, resolution, resolution), np.float32)
    ceilings = []
    with temporary_folder() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.register_custom_ops_library(str(kernels.library_path()))
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        end = time.perf_counter() + seconds
        for number in range(WARMUP + runs):
            if number > WARMUP and time.perf_counter() > end:
                break
            session.run(None, {INPUT: image})
            ceilings.append(kernels.popcount_ceiling(isa))
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return summarise(events, ceilings[WARMUP:], network, resolution, isa)


def summarise(
    events: list[dict[str, Any]], ceilings: Sequence[float], network: NetworkShape, resolution: int, isa: str
) -> Profile:
    """A profile's events and measured ceilings (multiply-accumulates a second), the first runs dropped.

    Raises:
        UserError: the nodes are not those of `network`.
    """
    runs, totals = split_runs(events)
    runs, totals = runs[-len(ceilings) :], totals[-len(ceilings) :]
    units = {layer.name: layer for layer in ops.count(network, resolution) if layer.bops}
    p10, ceiling, p90 = np.percentile(ceilings, [10, 50, 90])
    layers = []
    for place, (name, operator, _) in enumerate(runs[0]):
        unit = units.pop(name, None)
        macs = unit.bops if unit else 0
        latency = Latency.of([run[place][2] for run in runs])
        layers.append(Layer(name, unit.kind if unit else operator, macs, latency, 1e3 * macs / ceiling))
    check(not units, lambda: f"the file has no node {next(iter(units))}; it is a packed file of another network")
    return Profile(isa, tuple(layers), Latency.of(totals), ceiling / 1e9, p10 / 1e9, p90 / 1e9)


def split_runs(events: list[dict[str, Any]]) -> tuple[list[list[tuple[str, str, float]]], list[float]]:
    """Of each run its nodes' names, operators and milliseconds in the order they ran, and its own milliseconds."""
    runs, totals, nodes = [], [], []
    for event in sorted(events, key=lambda event: event["ts"] + event["dur"]):
        milliseconds = event["dur"] / 1e3
        if event["name"].endswith(KERNEL_TIME):
            nodes.append((event["name"].removesuffix(KERNEL_TIME), event["args"]["op_name"], milliseconds))
        elif event["name"] == "model_run":
            runs.append(nodes)
            totals.append(milliseconds)
            nodes = []
    return runs, totals
