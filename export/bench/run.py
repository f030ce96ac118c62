"""`make bench`: times a random packed ReActNet-A beside the networks that a user could deploy instead.

    python -m export.bench [--out runs/bench] [--threads 1 2] [--quick]

The benchmark writes all files and prints three tables:

1. All files, timed in turns (`edgebnn.runtime.measure_latency`) on each number of threads.
2. The nodes of the packed model, beside the ceiling of XOR and popcount.
3. The packed model on each path of the kernels.

OUT gets the files, bench.json with all figures, and records. docs/design/kernels.md explains the tables.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgebnn import records
from edgebnn.errors import UserError, check, exit_on_user_error
from edgebnn.files import write_bytes
from edgebnn.graph import InferenceGraph, ModelInfo, ops
from edgebnn.graph.ops import NetworkShape
from edgebnn.nn import ReActNetConfig
from edgebnn.optional import LCE_PACKAGE
from edgebnn.progress import progress_bar
from edgebnn.runtime import Latency, kernels, load_model, measure_latency, measure_runs
from edgebnn.runtime.system import machine

from ..baselines import onnx as baselines
from ..baselines.random_networks import reactnet
from ..fold import fold
from ..onnx import packed, portable
from ..tflite import lce
from .node_profile import profile_nodes
from .report import ALONE, PACKED, PathRow, Row, to_records, to_tables

MAX_DIFFERENCE = 1e-4
"""The largest difference of packed and portable logits, as a share of the largest logit. Their heads add in different
orders."""

INT8_HEAD = "packed, int8 head"
PORTABLE = "portable"
NAIVE = "naive float export"
TWIN = "float twin"
LCE = "LCE interpreter"
BASELINES = {"resnet18": "ResNet-18", "mobilenet_v2": "MobileNetV2", "mobilenet_v3_small": "MobileNetV3-small"}
BESIDE_PATHS = (PACKED, NAIVE, BASELINES["resnet18"], BASELINES["mobilenet_v2"])
"""The files that are timed on each path of the kernels."""


@dataclass(frozen=True)
class BenchSetting:
    """The network that is timed, and the duration of the measurements.

    Attributes:
        config: the binary network.
        resolution: side of the image in pixels.
        runs: number of rounds of each measurement.
        seconds: no round starts after this time.
    """

    config: ReActNetConfig
    resolution: int
    runs: int
    seconds: float


FULL = BenchSetting(ReActNetConfig(), 224, runs=50, seconds=180)
QUICK = BenchSetting(ReActNetConfig(width=0.25, head=(10,)), 32, runs=3, seconds=5)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command. A user error ends it with code 2."""
    parser = argparse.ArgumentParser(prog="python -m export.bench", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--out", type=Path, help="folder to write to (default: runs/bench, or build/bench-quick with --quick)"
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default 1 2)")
    parser.add_argument("--runs", type=int, help=f"measured runs of each file (default {FULL.runs})")
    parser.add_argument(
        "--quick", action="store_true", help="time a small network in few runs, to see that the benchmark works"
    )
    args = parser.parse_args(arguments)
    with exit_on_user_error():
        setting = QUICK if args.quick else FULL
        runs = setting.runs if args.runs is None else args.runs
        check(runs >= 1, f"{runs} runs cannot be measured; give 1 or more")
        check(min(args.threads) >= 1, f"{min(args.threads)} threads cannot run a model; give 1 or more")
        out = args.out or Path("build/bench-quick" if args.quick else "runs/bench")
        run_benchmark(BenchSetting(setting.config, setting.resolution, runs, setting.seconds), args.threads, out)


def run_benchmark(setting: BenchSetting, threads: Sequence[int], out: Path) -> None:
    """Writes the files into `out`, times them, prints the tables and writes the records.

    Raises:
        UserError: the kernels cannot run, or the packed and the portable file are different networks.
    """
    kernels.isa()  # reports a fault of the kernels now, and not minutes later
    described = machine.describe()
    isas = kernels.isas()
    without_lce = LCE_PACKAGE.missing()
    # 5 files of ReActNet and its twin, the LCE file, the baselines as float and int8. Then the measurements.
    stages = 5 + (not without_lce) + 2 * len(BASELINES) + len(threads) + 1 + len(isas)
    with progress_bar(stages, "bench", "step", beat=True) as bar:

        def say(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update()

        graph = fold(reactnet(setting.config, setting.resolution), _info("reactnet-a-random", setting))
        files = dict(_write_files(graph, setting, out, say))
        check_same(files)
        rows = _time_files(files, setting, threads, say)
        say("nodes of the packed model")
        nodes = profile_nodes(
            files[PACKED], graph.shape, setting.resolution, runs=setting.runs, seconds=setting.seconds
        )
        paths = [_time_path(isa, files, setting, graph.shape, say) for isa in isas]
    print(to_tables(rows, nodes, paths))
    if without_lce:
        print(f"left out: {LCE}, because {without_lce}")
    print(f"{setting.resolution}x{setting.resolution}, batch 1, on {machine.one_line(described)}")
    figures = {
        "machine": described,
        "resolution": setting.resolution,
        "results": [asdict(row) | {"path": row.path.name, "bytes": row.path.stat().st_size} for row in rows],
        "nodes": asdict(nodes),
        "paths": [asdict(path) for path in paths],
    }
    write_bytes(out / "bench.json", json.dumps(figures, indent=1).encode())
    for record in to_records(rows, nodes, paths, described):
        records.write_record(record, out)


def _info(name: str, setting: BenchSetting) -> ModelInfo:
    return ModelInfo(name=name, resolution=setting.resolution)


def _write_files(
    graph: InferenceGraph, setting: BenchSetting, out: Path, say: Callable[[str], None]
) -> Iterator[tuple[str, Path]]:
    """Writes every file for which this environment has the packages. Yields their labels and paths."""

    def twin() -> bytes:
        real = replace(setting.config, binary_activations=False, binary_weights=False)
        return portable.convert_to_onnx(
            fold(reactnet(real, setting.resolution), _info("reactnet-a-random-real", setting))
        )

    makers: list[tuple[str, str, Callable[[], bytes]]] = [
        (PACKED, "packed.onnx", lambda: packed.convert_to_packed_onnx(graph)),
        (INT8_HEAD, "packed-int8-head.onnx", lambda: packed.convert_to_packed_onnx(graph, int8_head=True)),
        (PORTABLE, "portable.onnx", lambda: portable.convert_to_onnx(graph)),
        (NAIVE, "floats.onnx", lambda: portable.convert_to_onnx(graph, floats=True)),
        (TWIN, "real.onnx", twin),
    ]
    for label, name, convert in makers:
        say(f"writing {name}")
        write_bytes(out / name, convert())
        yield label, out / name
    for name, label in BASELINES.items():
        say(f"writing {name}.onnx")
        yield label, baselines.write_onnx(name, out, setting.resolution)
        say(f"writing {name}-int8.onnx")
        yield f"{label} int8", baselines.write_int8(name, out, setting.resolution)
    if not LCE_PACKAGE.missing():
        say("writing lce.tflite")
        write_bytes(out / "lce.tflite", lce.convert_to_lce(graph))
        yield LCE, out / "lce.tflite"


def check_same(files: dict[str, Path]) -> None:
    """Raises `UserError` if the packed and the portable file compute different logits."""
    models = [load_model(files[label]) for label in (PACKED, PORTABLE)]
    image = np.random.default_rng(1).standard_normal((1, *models[0].image_shape), np.float32)
    found, wanted = (model.run(image) for model in models)
    difference = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    check(
        difference <= MAX_DIFFERENCE,
        f"packed and portable logits differ by {difference:.2g} of the largest; report this",
    )


def _time_files(
    files: dict[str, Path], setting: BenchSetting, threads: Sequence[int], say: Callable[[str], None]
) -> list[Row]:
    found: dict[str, dict[int, Latency]] = {label: {} for label in (*files, ALONE)}
    rounds: dict[str, dict[int, dict[str, Any]]] = {label: {} for label in (*files, ALONE)}
    for count in threads:
        say(f"timing on {count} thread{'s' * (count > 1)}, up to {setting.seconds:.0f} s")
        models = [load_model(path, threads=count) for path in files.values()]
        session = records.new_session()
        for label, times in zip(files, measure_runs(models, runs=setting.runs, seconds=setting.seconds)):
            found[label][count] = Latency.from_runs(times)
            rounds[label][count] = {"session": session, "rounds_ms": [round(time, 4) for time in times]}
        own = models[list(files).index(PACKED)]
        (found[ALONE][count],) = measure_latency([own], runs=setting.runs, seconds=setting.seconds)
    return [
        Row(
            label,
            model.info.name,
            model.path,
            model.format,
            model.runtime,
            model.runtime_version,
            model.isa,
            found[label],
            rounds[label],
        )
        for label, model in [*zip(files, models), (ALONE, own)]
    ]


def _time_path(
    isa: str, files: dict[str, Path], setting: BenchSetting, network: NetworkShape, say: Callable[[str], None]
) -> PathRow:
    """Times files on one path, in a process of its own, because a process chooses its path only once."""
    say(f"timing the path {isa}")
    limits = ["--runs", str(setting.runs), "--seconds", str(max(1, int(setting.seconds / 3)))]
    paths = [str(files[label]) for label in BESIDE_PATHS]
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "edgebnn", "bench", *paths, *limits, "--json"],
        env=os.environ | {"EDGEBNN_ISA": isa},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise UserError(f"the path {isa} could not be timed ({done.stderr.strip()[-300:]})")
    results = json.loads(done.stdout)["results"]
    latencies = [Latency(**{field.name: result[field.name] for field in fields(Latency)}) for result in results]
    rate = float(np.median([kernels.popcount_ceiling(isa) for _ in range(setting.runs)]))
    macs = sum(layer.bops for layer in ops.count(network, setting.resolution))
    return PathRow(isa, dict(zip(BESIDE_PATHS, latencies)), rate / 1e9, 1e3 * macs / rate)
