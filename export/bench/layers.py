"""Where the time of an ONNX file goes: the cost of every layer, as a record.

    python -m edgebnn.export.bench.layers FILE.onnx [--record RUN] [--runs 50]

ONNX Runtime times each node of a run. The nodes whose names begin alike (`unit_03.acc`, `unit_03.z`) are one layer. The
work of a layer comes from the file itself, as the doctor reads it. The roofline is the least time that the work takes
on one core of this machine.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime

from edgebnn import records
from edgebnn.cli import positive
from edgebnn.doctor import examine
from edgebnn.doctor.analysis.convolutions import Convolution
from edgebnn.doctor.speed import INT8_FACTOR, Core, measure_this_machine
from edgebnn.errors import check, exit_on_user_error
from edgebnn.files import existing_file, sha256, temporary_folder
from edgebnn.graph.ops import BINARY_PER_FLOP
from edgebnn.records import Record
from edgebnn.runtime import kernels, load_model
from edgebnn.runtime.system import machine
from edgebnn.text import columns

from .node_profile import WARMUP, split_runs


@dataclass(frozen=True)
class LayerCost:
    """What one layer costs for one image.

    Attributes:
        name: the layer.
        kind: "binary", "float", "integer" or "linear" as the doctor says it; the operator of a layer without products.
        ms: median time of its nodes on one thread.
        ops: FLOPs + BOPs / 64.
        bytes: of its weights, as the kind of number that the layer multiplies.
        least_ms: the least time for its multiply-accumulates on one core.
    """

    name: str
    kind: str
    ms: float
    ops: float
    bytes: int
    least_ms: float


def measure(path: Path, *, runs: int = 50) -> Record:
    """Times the layers of an ONNX file on one thread and returns a record of kind `kernels`.

    Raises:
        UserError: the file is missing, damaged or no ONNX file.
    """
    existing_file(path, "model")
    check(path.suffix.lower() == ".onnx", f"model {path} is no .onnx file; only ONNX Runtime times single layers")
    model = load_model(path)
    report = examine(path)
    image = np.random.default_rng(0).standard_normal((model.batch or 1, *model.image_shape), np.float32)
    with temporary_folder() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        if model.isa:
            options.register_custom_ops_library(str(kernels.library_path()))
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for _ in range(WARMUP + runs):
            session.run(None, {session.get_inputs()[0].name: image})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    nodes, totals = split_runs(events)
    layers = costs(nodes[WARMUP:], report.convolutions, measure_this_machine())
    binary = [layer for layer in layers if layer.kind == "binary"]
    values = {"median_ms": median(totals[WARMUP:]), "ceiling_ms": sum(layer.least_ms for layer in binary)}
    values["units_ms"] = sum(layer.ms for layer in binary)
    context = {"artifact": path.name, "sha256": sha256(path), "threads": 1, "runs": runs}
    context |= {"isa": model.isa} if model.isa else {}
    context |= {"layers": [asdict(layer) for layer in layers], "machine": machine.describe()}
    return Record("kernels", model.info.name, values, context)


def costs(
    runs: Sequence[Sequence[tuple[str, str, float]]], convolutions: Sequence[Convolution], core: Core
) -> list[LayerCost]:
    """Returns the layers in the order they run.

    Args:
        runs: of each run the nodes' names, operators and milliseconds.
        convolutions: of the same file.
        core: what the least times are computed for.
    """
    times: dict[str, list[float]] = {}
    operators: dict[str, str] = {}
    for number, run in enumerate(runs):
        for name, operator, milliseconds in run:
            layer = _layer(name)
            operators.setdefault(layer, operator)
            times.setdefault(layer, [0.0] * len(runs))[number] += milliseconds
    work = {_layer(each.name): each for each in convolutions}
    rates = {"binary": core.binary, "integer": INT8_FACTOR * core.floats}
    found = []
    for layer, each in times.items():
        one = work.get(layer)
        if one is None:
            found.append(LayerCost(layer, operators[layer], median(each), 0.0, 0, 0.0))
            continue
        weights = one.inputs * one.outputs * max(one.kernel, 1) ** 2
        bytes = {"binary": weights // 8, "integer": weights}.get(one.kind, 4 * weights)
        ops = one.macs / (BINARY_PER_FLOP if one.kind == "binary" else 1)
        rate = rates.get(one.kind, core.floats)
        found.append(LayerCost(layer, one.kind, median(each), ops, bytes, 1e3 * one.macs / rate if rate else 0.0))
    return found


def _layer(name: str) -> str:
    return name.split(".")[0].split("/")[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the layers, the most expensive first. Exits with code 2 on a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m edgebnn.export.bench.layers", description="Times single layers.")
    parser.add_argument("file", type=Path, help="an .onnx file")
    parser.add_argument("--runs", type=positive, default=50, help="measured runs (default 50)")
    parser.add_argument("--record", metavar="RUN", type=Path, help="folder to write the record to")
    given = parser.parse_args(arguments)
    with exit_on_user_error():
        record = measure(given.file, runs=given.runs)
        if given.record:
            records.write_record(record, given.record)
        layers = sorted((LayerCost(**each) for each in record.context["layers"]), key=lambda layer: -layer.ms)
        whole = sum(layer.ms for layer in layers)
        rows = [
            (
                each.name,
                each.kind,
                f"{each.ms:.4f}",
                f"{each.ms / whole:.1%}",
                f"{each.ops / 1e6:.3f}",
                f"{each.bytes:,}",
            )
            for each in layers
        ]
        print(columns([("layer", "kind", "ms", "share", "million OPs", "bytes"), *rows], "llrrrr"))


if __name__ == "__main__":
    main()
