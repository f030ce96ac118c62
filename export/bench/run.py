"""`make bench`: a random ReActNet-A packed, beside everything a user would pick instead.

    python -m export.bench [--out runs/bench] [--threads 1 2] [--quick]

Writes the files, times them in turns (`edgebnn.runtime.measure`) on each number of threads, then the packed model's
nodes against the XOR-popcount ceiling, then the packed model on each path of the kernels, and prints three tables.
OUT holds the files, bench.json with every figure, and records. docs/design/kernels.md says how to read it.
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
from tqdm import tqdm

from edgebnn import records
from edgebnn.errors import UserError, check, exit_on_user_error
from edgebnn.files import write_bytes
from edgebnn.graph import InferenceGraph, ModelInfo, ops
from edgebnn.graph.ops import NetworkShape
from edgebnn.nn import ReActNetConfig
from edgebnn.optional import LCE_PACKAGE
from edgebnn.runtime import Latency, kernels, load, measure, single_runs
from edgebnn.runtime.system import machine

from ..baselines import onnx as baselines
from ..baselines.random_networks import reactnet
from ..fold import fold
from ..onnx import packed, portable
from ..tflite import lce
from .node_profile import profile
from .report import ALONE, PACKED, PathRow, Row, report, to_records

SAME = 1e-4
"""Share of the largest logit that packed and portable may differ by: their heads add in different orders."""

INT8_HEAD = "packed, int8 head"
PORTABLE = "portable"
NAIVE = "naive float export"
TWIN = "float twin"
LCE = "LCE interpreter"
BASELINES = {"resnet18": "ResNet-18", "mobilenet_v2": "MobileNetV2", "mobilenet_v3_small": "MobileNetV3-small"}
BESIDE_PATHS = (PACKED, NAIVE, BASELINES["resnet18"], BASELINES["mobilenet_v2"])
"""What is timed on each path of the kernels."""


@dataclass(frozen=True)
class Setting:
    """What is timed and for how long.

    Attributes:
        config: the binary network.
        resolution: side of the image in pixels.
        runs: rounds of each measurement.
        seconds: no round begins after this time.
    """

    config: ReActNetConfig
    resolution: int
    runs: int
    seconds: float


FULL = Setting(ReActNetConfig(), 224, runs=50, seconds=180)
QUICK = Setting(ReActNetConfig(width=0.25, head=(10,)), 32, runs=3, seconds=5)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark. Exits with code 2 on a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m export.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="folder to write (default runs/bench; --quick: build/bench-quick)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default 1 2)")
    parser.add_argument("--runs", type=int, help=f"measured runs of each (default {FULL.runs})")
    parser.add_argument("--quick", action="store_true", help="a small network, few runs: to see that it works")
    args = parser.parse_args(arguments)
    with exit_on_user_error():
        setting = QUICK if args.quick else FULL
        runs = setting.runs if args.runs is None else args.runs
        check(runs >= 1, f"{runs} runs cannot be measured; give 1 or more")
        check(min(args.threads) >= 1, f"{min(args.threads)} threads cannot run a model; give 1 or more")
        out = args.out or Path("build/bench-quick" if args.quick else "runs/bench")
        run(Setting(setting.config, setting.resolution, runs, setting.seconds), args.threads, out)


def run(setting: Setting, threads: Sequence[int], out: Path) -> None:
    """Measures, prints, and writes `out`."""
    kernels.isa()  # what is amiss with the kernels is said before minutes pass
    described = machine.describe()
    isas = kernels.isas()
    without_lce = LCE_PACKAGE.missing()
    # 5 files of ReActNet and its twin, LCE's, the baselines twice; then the measurements.
    stages = 5 + (not without_lce) + 2 * len(BASELINES) + len(threads) + 1 + len(isas)
    with tqdm(total=stages, desc="bench", unit="step", disable=None, file=sys.stderr) as bar:

        def say(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update()

        graph = fold(reactnet(setting.config, setting.resolution), _info("reactnet-a-random", setting))
        files = dict(_write(graph, setting, out, say))
        check_same(files)
        rows = _time(files, setting, threads, say)
        say("nodes of the packed model")
        nodes = profile(files[PACKED], graph.shape, setting.resolution, runs=setting.runs, seconds=setting.seconds)
        paths = [_time_path(isa, files, setting, graph.shape, say) for isa in isas]
    print(report(rows, nodes, paths))
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
        records.write(record, out)


def _info(name: str, setting: Setting) -> ModelInfo:
    return ModelInfo(name=name, resolution=setting.resolution)


def _write(
    graph: InferenceGraph, setting: Setting, out: Path, say: Callable[[str], None]
) -> Iterator[tuple[str, Path]]:
    """Writes every file that this environment has the packages for; gives labels and paths."""

    def twin() -> bytes:
        real = replace(setting.config, binary_activations=False, binary_weights=False)
        return portable.convert(fold(reactnet(real, setting.resolution), _info("reactnet-a-random-real", setting)))

    makers: list[tuple[str, str, Callable[[], bytes]]] = [
        (PACKED, "packed.onnx", lambda: packed.convert(graph)),
        (INT8_HEAD, "packed-int8-head.onnx", lambda: packed.convert(graph, int8_head=True)),
        (PORTABLE, "portable.onnx", lambda: portable.convert(graph)),
        (NAIVE, "floats.onnx", lambda: portable.convert(graph, floats=True)),
        (TWIN, "real.onnx", twin),
    ]
    for label, name, convert in makers:
        say(f"writing {name}")
        write_bytes(out / name, convert())
        yield label, out / name
    for name, label in BASELINES.items():
        say(f"writing {name}.onnx")
        yield label, baselines.write(name, out, setting.resolution)
        say(f"writing {name}-int8.onnx")
        yield f"{label} int8", baselines.write_int8(name, out, setting.resolution)
    if not LCE_PACKAGE.missing():
        say("writing lce.tflite")
        write_bytes(out / "lce.tflite", lce.convert(graph))
        yield LCE, out / "lce.tflite"


def check_same(files: dict[str, Path]) -> None:
    """Raises `UserError` unless the packed file and the portable one are the same network."""
    models = [load(files[label]) for label in (PACKED, PORTABLE)]
    image = np.random.default_rng(1).standard_normal((1, *models[0].image_shape), np.float32)
    found, wanted = (model.run(image) for model in models)
    difference = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    check(difference <= SAME, f"packed and portable logits differ by {difference:.2g} of the largest; report this")


def _time(files: dict[str, Path], setting: Setting, threads: Sequence[int], say: Callable[[str], None]) -> list[Row]:
    found: dict[str, dict[int, Latency]] = {label: {} for label in (*files, ALONE)}
    rounds: dict[str, dict[int, dict[str, Any]]] = {label: {} for label in (*files, ALONE)}
    for count in threads:
        say(f"timing on {count} thread{'s' * (count > 1)}, up to {setting.seconds:.0f} s")
        models = [load(path, threads=count) for path in files.values()]
        session = records.session()
        for label, times in zip(files, single_runs(models, runs=setting.runs, seconds=setting.seconds)):
            found[label][count] = Latency.of(times)
            rounds[label][count] = {"session": session, "rounds_ms": [round(time, 4) for time in times]}
        own = models[list(files).index(PACKED)]
        (found[ALONE][count],) = measure([own], runs=setting.runs, seconds=setting.seconds)
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
    isa: str, files: dict[str, Path], setting: Setting, network: NetworkShape, say: Callable[[str], None]
) -> PathRow:
    """In a process of its own: a process chooses its path once."""
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
