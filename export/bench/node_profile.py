"""Times every node of a packed model, and compares each unit with the ceiling of the processor.

ONNX Runtime's profile lists the time of each node in a run. The *ceiling* is the rate at which this machine's core does
XOR, popcount and add in registers, without memory access. It is measured in turns with the runs, because the clock of a
shared machine changes.
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
        name: the node's name. ONNX Runtime names the nodes that it adds or merges.
        kind: the kind of unit, or the operator.
        macs: number of binary multiply-accumulates; 0 if the node is no unit.
        latency: latency of the node's kernel.
        ceiling_ms: milliseconds that `macs` would take at the ceiling.
    """

    name: str
    kind: str
    macs: int
    latency: Latency
    ceiling_ms: float

    @property
    def share(self) -> float:
        """The share of the ceiling that the node reaches. It can exceed 1 on a path that does not use popcount."""
        return self.ceiling_ms / self.latency.median_ms


@dataclass(frozen=True)
class Profile:
    """The times of all nodes of a model.

    Attributes:
        isa: the path that the units ran on.
        layers: the nodes in the order in which they run.
        run: latency of whole runs, one after the other. It includes the cost of profiling.
        gmacs, gmacs_p10, gmacs_p90: the ceiling in 10^9 binary multiply-accumulates per second: median and percentiles.
    """

    isa: str
    layers: tuple[Layer, ...]
    run: Latency
    gmacs: float
    gmacs_p10: float
    gmacs_p90: float

    @property
    def units(self) -> list[Layer]:
        """The nodes that are units."""
        return [layer for layer in self.layers if layer.macs]

    @property
    def units_ms(self) -> float:
        """Sum of the units' median times."""
        return sum(layer.latency.median_ms for layer in self.units)

    @property
    def nodes_ms(self) -> float:
        """Sum of all nodes' median times."""
        return sum(layer.latency.median_ms for layer in self.layers)

    @property
    def ceiling_ms(self) -> float:
        """Milliseconds that all units would take at the ceiling."""
        return sum(layer.ceiling_ms for layer in self.layers)


def profile_nodes(
    path: Path, network: NetworkShape, resolution: int, *, runs: int = 50, seconds: float = 60
) -> Profile:
    """Times the nodes of a packed file on one thread, on the path that `kernels.isa()` returns.

    Args:
        path: the packed file.
        network: the shape of its network.
        resolution: side of the image in pixels.
        runs: number of measured runs.
        seconds: no run starts after this time, but at least one run is measured.

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
    return summarise_profile(events, ceilings[WARMUP:], network, resolution=resolution, isa=isa)


def summarise_profile(
    events: list[dict[str, Any]], ceilings: Sequence[float], network: NetworkShape, *, resolution: int, isa: str
) -> Profile:
    """Returns the profile of the last runs, one for each measured ceiling. Earlier runs are the warm-up.

    Args:
        events: the events of ONNX Runtime's profile.
        ceilings: the measured ceilings, in binary multiply-accumulates per second.
        network: the shape of the network.
        resolution: side of the image in pixels.
        isa: the path that the units ran on.

    Raises:
        UserError: the nodes are not those of the network.
    """
    runs, totals = split_runs(events)
    runs, totals = runs[-len(ceilings) :], totals[-len(ceilings) :]
    units = {layer.name: layer for layer in ops.count(network, resolution) if layer.bops}
    p10, ceiling, p90 = np.percentile(ceilings, [10, 50, 90])
    layers = []
    for index, (name, operator, _) in enumerate(runs[0]):
        unit = units.pop(name, None)
        macs = unit.bops if unit else 0
        latency = Latency.from_runs([run[index][2] for run in runs])
        layers.append(Layer(name, unit.kind if unit else operator, macs, latency, 1e3 * macs / ceiling))
    check(not units, lambda: f"the file has no node {next(iter(units))}; it is a packed file of another network")
    return Profile(isa, tuple(layers), Latency.from_runs(totals), ceiling / 1e9, p10 / 1e9, p90 / 1e9)


def split_runs(events: list[dict[str, Any]]) -> tuple[list[list[tuple[str, str, float]]], list[float]]:
    """Returns the nodes (name, operator, milliseconds) of each run, and the milliseconds of each run."""
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
