"""`make bench`, small: that its figures add up. Nothing here asserts a time."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgebnn import records
from edgebnn.app.data.facts import subject
from edgebnn.errors import UserError
from edgebnn.export.baselines.random_networks import reactnet
from edgebnn.export.bench import report as bench_report
from edgebnn.export.bench import run as bench
from edgebnn.export.bench.node_profile import KERNEL_TIME, Profile, profile_nodes, summarise_profile
from edgebnn.export.bench.report import PACKED, PathRow, Row
from edgebnn.export.fold import fold
from edgebnn.export.onnx import packed, portable
from edgebnn.graph import ModelInfo, ops
from edgebnn.nn import ReActNetConfig
from edgebnn.optional import LCE_PACKAGE
from edgebnn.runtime import Latency, kernels

ROOT = Path(__file__).parents[3]
PUBLISHED_MACS = 4_816_896_000
LABELS = [
    *("packed", "packed, int8 head", "portable", "naive float export", "float twin"),
    *("ResNet-18", "ResNet-18 int8", "MobileNetV2", "MobileNetV2 int8", "MobileNetV3-small", "MobileNetV3-small int8"),
    *(() if LCE_PACKAGE.unpublished() else ("LCE interpreter",)),
    bench_report.ALONE,
]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, Any]]:
    """The folder a quick run leaves, what it prints, and its figures."""
    out = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "edgebnn.export.bench", "--quick", "--runs", "2", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return out, done.stdout, json.loads((out / "bench.json").read_text())


def latency(text: dict[str, Any]) -> Latency:
    return Latency(**text)


def test_every_model_is_timed_on_one_thread_and_on_two(ran: tuple[Path, str, dict[str, Any]]) -> None:
    out, printed, figures = ran
    assert [row["label"] for row in figures["results"]] == LABELS
    lines = split_lines(printed)
    own = figures["results"][0]
    for row in figures["results"]:
        assert (out / row["path"]).stat().st_size == row["bytes"]
        assert set(row["latencies"]) == {"1", "2"}
        cells = [f"{row['bytes'] / 1e6:.2f}"]
        for threads, found in row["latencies"].items():
            one = latency(found)
            assert 0 < one.min_ms <= one.p10_ms <= one.median_ms <= one.p90_ms
            assert one.runs == 2
            quotient = one.median_ms / own["latencies"][threads]["median_ms"]
            spread = f"{one.p10_ms:.2f}-{one.p90_ms:.2f}"
            cells += [f"{one.median_ms:.2f}", spread, f"{one.min_ms:.2f}", f"{quotient:.2f}"]
        cells.append(f"{row['latencies']['1']['median_ms'] / row['latencies']['2']['median_ms']:.2f}")
        assert lines[row["label"]] == cells


def split_lines(printed: str) -> dict[str, list[str]]:
    """Of each line its first cell, and the others; cells lie two spaces or more apart."""
    rows = [re.split(r"  +", line) for line in printed.splitlines()]
    return {first: rest for first, *rest in rows}


def test_the_nodes_are_those_of_the_network(ran: tuple[Path, str, dict[str, Any]]) -> None:
    _, printed, figures = ran
    config = bench.QUICK.config
    layers = ops.count(ops.reactnet_a(width=config.width, classes=config.head[0]), bench.QUICK.resolution)
    nodes = figures["nodes"]["layers"]
    units = [node for node in nodes if node["macs"]]
    assert [(node["name"], node["macs"], node["kind"]) for node in units] == [
        (layer.name, layer.bops, layer.kind) for layer in layers if layer.bops
    ]
    assert len(nodes) > len(units)
    rate = figures["nodes"]["gmacs"] * 1e9
    for node in units:
        assert node["ceiling_ms"] == pytest.approx(1e3 * node["macs"] / rate, rel=1e-9)
    assert figures["nodes"]["isa"] == kernels.isa()
    assert f"ceiling ({kernels.isa()})" in printed


def test_every_path_is_timed_against_its_own_ceiling(ran: tuple[Path, str, dict[str, Any]]) -> None:
    _, printed, figures = ran
    assert [path["isa"] for path in figures["paths"]] == list(kernels.isas())
    macs = sum(node["macs"] for node in figures["nodes"]["layers"])
    for path in figures["paths"]:
        assert list(path["latencies"]) == list(bench.BESIDE_PATHS)
        assert path["ceiling_ms"] == pytest.approx(macs / path["gmacs"] / 1e6, rel=1e-9)
        own = path["latencies"][PACKED]["median_ms"]
        quotients = [f"{each['median_ms'] / own:.2f}" for each in path["latencies"].values()][1:]
        assert split_lines(printed)[path["isa"]][2 : 2 + len(quotients)] == quotients


def test_records_say_the_same(ran: tuple[Path, str, dict[str, Any]]) -> None:
    out, _, figures = ran
    found = records.read_records(out)
    kinds = [record.kind for record in found]
    count = len(LABELS) - 1  # the packed file is timed twice
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "latency": 2 * count,
        "size": count,
        "kernels": len(kernels.isas()),
    }
    # Of no subject are there two.
    assert len({subject(record) for record in found}) == len(found)
    medians = {
        row["path"]: {int(t): v["median_ms"] for t, v in row["latencies"].items()} for row in figures["results"][:-1]
    }
    for record in found:
        if record.kind == "latency":
            assert record.values["median_ms"] == medians[record.context["artifact"]][record.context["threads"]]
            of_kernels = record.context["artifact"].startswith("packed")
            assert record.context.get("isa") == (kernels.isa() if of_kernels else None)
    formats = {record.context["artifact"]: record.context["format"] for record in found if record.kind == "size"}
    assert formats["packed.onnx"] == formats["packed-int8-head.onnx"] == "onnx-packed"
    assert formats["portable.onnx"] == "onnx"
    assert formats.get("lce.tflite") == (None if LCE_PACKAGE.unpublished() else "lce")
    (chosen,) = [record for record in found if record.kind == "kernels" and record.context["isa"] == kernels.isa()]
    units = [value for name, value in chosen.context["nodes"].items() if name.startswith("unit_")]
    assert chosen.values["units_ms"] == pytest.approx(sum(units), rel=1e-9)


def events(names: list[str], runs: int) -> list[dict[str, Any]]:
    """A profile as ONNX Runtime writes it: node i takes 100 * (i + 1) microseconds, 1 more in each later run."""
    found: list[dict[str, Any]] = [{"name": "session_initialization", "ts": 0, "dur": 5, "args": {}}]
    now = 10
    for run in range(runs):
        start = now
        for number, name in enumerate(names):
            duration = 100 * (number + 1) + run
            node = {"name": name + KERNEL_TIME, "ts": now, "dur": duration, "args": {"op_name": "BinaryUnit"}}
            found.append(node)
            now += duration
        found.append({"name": "model_run", "ts": start, "dur": now - start, "args": {}})
    return found


def test_a_profile_of_the_whole_network_adds_up() -> None:
    network = ops.reactnet_a()
    names = ["stem", *(f"unit_{number:02d}" for number in range(26)), "logits"]
    # Five runs of which the first two are dropped; ceilings 1, 2 and 3 T.
    found = summarise_profile(events(names, 5), [1e12, 3e12, 2e12], network, resolution=224, isa="avx2")
    assert [layer.name for layer in found.layers] == names
    assert sum(layer.macs for layer in found.layers) == PUBLISHED_MACS
    assert (found.gmacs, found.gmacs_p10, found.gmacs_p90) == pytest.approx((2000, 1200, 2800), rel=1e-12)
    assert found.ceiling_ms == pytest.approx(PUBLISHED_MACS / 2e12 * 1e3, rel=1e-12)
    first = found.units[0]
    assert first.latency == Latency.from_runs([0.202, 0.203, 0.204])
    assert first.share == pytest.approx(first.macs / 2e12 / 0.203e-3, rel=1e-12)
    assert found.units_ms == pytest.approx(sum(0.1 * (number + 2) + 0.003 for number in range(26)), rel=1e-12)
    assert found.nodes_ms == pytest.approx(found.units_ms + 0.103 + 2.803, rel=1e-12)
    assert found.run.median_ms == pytest.approx(found.nodes_ms, rel=1e-12)


def test_a_share_beyond_the_ceiling_is_shown_as_it_is() -> None:
    found = summarise_profile(
        events([f"unit_{number:02d}" for number in range(26)], 1), [1e12], ops.reactnet_a(), resolution=224, isa="avx2"
    )
    one = Latency(1.0, 1.0, 1.0, 1.0, 1)
    row = Row(PACKED, "m", Path(__file__), "onnx-packed", "onnxruntime", "1", "avx2", {1: one})
    table = bench_report.to_tables([row], found, [PathRow("avx2", {PACKED: one}, 1000.0, 4.8)])
    assert "116%" in split_lines(table)["unit_00"]
    assert split_lines(table)["avx2"][-1] == "480%"
    assert "4,816.9" in split_lines(table)["all units"]


def test_a_file_of_another_network_is_no_subject(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no node unit_25"):
        summarise_profile(
            events([f"unit_{number:02d}" for number in range(25)], 1),
            [1e12],
            ops.reactnet_a(),
            resolution=224,
            isa="avx2",
        )
    files = {}
    for seed, (label, convert) in enumerate(
        [(PACKED, packed.convert_to_packed_onnx), (bench.PORTABLE, portable.convert_to_onnx)]
    ):
        graph = fold(reactnet(ReActNetConfig(width=0.125), 32, seed=seed), ModelInfo(resolution=32))
        files[label] = tmp_path / f"{seed}.onnx"
        files[label].write_bytes(convert(graph))
    with pytest.raises(UserError, match="packed and portable logits differ"):
        bench.check_same(files)


def test_a_profile_runs_on_the_path_it_names(tmp_path: Path) -> None:
    graph = fold(reactnet(ReActNetConfig(width=0.125), 32), ModelInfo(resolution=32))
    path = tmp_path / "packed.onnx"
    path.write_bytes(packed.convert_to_packed_onnx(graph))
    found = profile_nodes(path, graph.shape, 32, runs=3)
    assert isinstance(found, Profile)
    assert (found.isa, len(found.units), found.run.runs) == (kernels.isa(), 26, 3)
    assert np.isfinite([found.gmacs, found.units_ms, found.nodes_ms]).all()
    assert 0 < found.gmacs_p10 <= found.gmacs <= found.gmacs_p90


@pytest.mark.parametrize("flags", [["--runs", "0"], ["--threads", "1", "0"]])
def test_no_runs_and_no_threads_are_a_users_mistake(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        bench.main(["--quick", *flags])
    assert stopped.value.code == 2
    assert "give 1 or more" in capsys.readouterr().err
