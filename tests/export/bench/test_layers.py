"""The cost of layers, against the graph that the file was made of."""

import subprocess
import sys
from pathlib import Path

import pytest

from edgebnn.doctor.analysis.convolutions import Convolution
from edgebnn.doctor.speed import Core
from edgebnn.errors import UserError
from edgebnn.export.bench.layers import costs, measure
from edgebnn.export.fold import fold
from edgebnn.export.onnx import packed, portable
from edgebnn.graph import ModelInfo, ops
from edgebnn.nn import ReActNetConfig
from tests.networks import random_network

CONFIG = ReActNetConfig(width=0.25, head=(10,))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("layers")
    graph = fold(random_network(0, CONFIG), ModelInfo(name="m", resolution=32))
    found = {"packed": packed.convert_to_packed_onnx(graph), "floats": portable.convert_to_onnx(graph, floats=True)}
    for name, data in found.items():
        (folder / f"{name}.onnx").write_bytes(data)
    return {name: folder / f"{name}.onnx" for name in found}


def test_every_layer_is_counted_as_the_network_says(files: dict[str, Path]) -> None:
    counted = {layer.name: layer for layer in ops.count(ops.reactnet_a(width=0.25, classes=10), 32)}
    record = measure(files["packed"], runs=3)
    found = {layer["name"]: layer for layer in record.context["layers"]}
    units = [name for name in counted if name.startswith("unit")]
    assert len(units) == 26
    for name in ["stem", *units]:
        assert found[name]["ops"] == counted[name].ops
    for name in units:
        assert (found[name]["kind"], found[name]["bytes"]) == ("binary", counted[name].binary_weights // 8)
    assert all(layer["ms"] > 0 for layer in found.values())
    assert record.values["units_ms"] == pytest.approx(sum(found[name]["ms"] for name in units))
    assert (record.model, record.context["isa"] is not None) == ("m", True)


def test_a_file_of_standard_operators_has_layers_too(files: dict[str, Path]) -> None:
    found = {layer["name"]: layer for layer in measure(files["floats"], runs=2).context["layers"]}
    assert len([name for name in found if name.startswith("unit")]) == 26
    assert found["unit_03"]["kind"] == "float"


def test_nodes_of_a_layer_add_up_and_the_roofline_is_the_work_over_the_rate() -> None:
    runs = [
        [("unit_00.bits", "Where", 1.0), ("unit_00", "Conv", time), ("pool", "Mean", 0.5)] for time in (2.0, 4.0, 3.0)
    ]
    unit = Convolution("unit_00.acc", "binary", 3, 1, 16, 32, "none", 64_000, "w")
    first, second = costs(runs, [unit], Core("c", binary=1e6, floats=1e3))
    assert (first.name, first.ms, first.ops, first.bytes, first.least_ms) == ("unit_00", 4.0, 1000.0, 576, 64.0)
    assert (second.kind, second.ms, second.ops) == ("Mean", 0.5, 0.0)


def test_the_command_names_what_it_cannot_time(tmp_path: Path) -> None:
    (tmp_path / "a.tflite").write_bytes(b"x")
    with pytest.raises(UserError, match=r"is no \.onnx file"):
        measure(tmp_path / "a.tflite")
    command = [sys.executable, "-m", "edgebnn.export.bench.layers", str(tmp_path / "none.onnx")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, "does not exist" in done.stderr) == (2, True)
