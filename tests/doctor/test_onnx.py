"""The doctor on ONNX files, ours and as others write them, and the command itself."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgebnn import cli
from edgebnn.doctor import DoctorReport, examine
from edgebnn.doctor.examine import diagnose
from edgebnn.doctor.file_graph import Node
from edgebnn.doctor.readers import onnx as onnx_reader
from edgebnn.doctor.readers.onnx_functions import Function, write_out
from edgebnn.errors import UserError
from edgebnn.export.fold import fold
from edgebnn.export.onnx import packed, portable
from edgebnn.graph import InferenceGraph, ModelInfo, ops
from edgebnn.nn import BiRealConfig
from tests.export.random_graph import random_graph
from tests.networks import random_network


@cache
def graph() -> InferenceGraph:
    return random_graph(np.random.default_rng(0), width=0.25, resolution=32)


@pytest.fixture
def examined(tmp_path: Path) -> Callable[[bytes | onnx.ModelProto], DoctorReport]:
    def run(model: bytes | onnx.ModelProto) -> DoctorReport:
        path = tmp_path / "model.onnx"
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        return examine(path, core="cortex-a76")

    return run


def test_our_packed_file_is_good_and_adds_up(examined: Callable[..., DoctorReport]) -> None:
    data = packed.convert_to_packed_onnx(graph())
    report = examined(data)
    layers = ops.count(graph().shape, 32)
    assert (report.findings, report.format) == ((), "onnx-packed")
    assert [each.kind for each in report.convolutions] == ["float", *["binary"] * 26, "linear"]
    assert sum(each.macs for each in report.convolutions if each.kind == "binary") == ops.totals(layers)["bops"]
    assert sum(each.macs for each in report.convolutions if each.kind != "binary") == ops.totals(layers)["flops"]
    assert sum(part.bytes for part in report.parts) == len(data)
    assert {each.padding for each in report.convolutions if each.kernel == 3} == {"zero"}


def test_a_binary_network_as_floats_and_as_integers(examined: Callable[..., DoctorReport]) -> None:
    report = examined(portable.convert_to_onnx(graph(), floats=True))
    (finding,) = report.findings
    assert (finding.code, finding.severity, len(finding.where)) == ("floats", "problem", 26)
    assert "`python -m export onnx --packed`, or for ARM with `python -m export lce`" in finding.remedy
    parts = {part.name: part.bytes for part in report.parts}
    assert parts["binary weights as floats"] == 4 * ops.totals(ops.count(graph().shape, 32))["binary_weights"]
    report = examined(portable.convert_to_onnx(graph()))
    (finding,) = report.findings
    assert (finding.code, finding.severity, len(finding.where)) == ("int8", "note", 26)
    parts = {part.name: part.bytes for part in report.parts}
    assert parts["binary weights as int8"] == ops.totals(ops.count(graph().shape, 32))["binary_weights"]


def test_an_int8_head_is_a_linear_layer_and_no_work_beside(examined: Callable[..., DoctorReport]) -> None:
    """Its Cast and Mul are worked out once, when the file is loaded."""
    plain, small = (examined(packed.convert_to_packed_onnx(graph(), int8_head=flag)) for flag in (False, True))
    assert [each.macs for each in small.convolutions] == [each.macs for each in plain.convolutions]
    assert small.uncounted == plain.uncounted
    sizes = [{part.name: part.bytes for part in report.parts} for report in (plain, small)]
    assert sizes[0]["linear layers"] == 4 * sizes[1]["linear layers as int8"] == 4 * 10 * 256


def test_a_shortcuts_convolution_is_no_linear_layer(examined: Callable[..., DoctorReport]) -> None:
    """The portable file of an 18-layer network has it as a MatMul of a map."""
    config = BiRealConfig(arch="birealnet-18", width=1 / 8, head=(10,))
    network = fold(random_network(0, config), ModelInfo(resolution=32))
    report = examined(portable.convert_to_onnx(network))
    kinds = [each.kind for each in report.convolutions]
    assert (kinds.count("integer"), kinds.count("float"), kinds.count("linear")) == (16, 4, 1)
    layers = ops.count(network.shape, 32)
    assert sum(each.macs for each in report.convolutions) == ops.totals(layers)["bops"] + ops.totals(layers)["flops"]


def layer(weight: str = "w", pads: tuple[int, ...] = (1, 1, 1, 1), *, unnamed: bool = False) -> onnx.ModelProto:
    """sign, a convolution of stride 2, sign, another: as a PyTorch export might hold them."""
    rng = np.random.default_rng(0)
    nodes = [("Sign", ["x"], "bits", {}), ("Sign", ["w"], "computed", {}), ("Sign", ["y"], "more", {})]
    sizes: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": pads}
    convolutions = [("Conv", ["bits", weight], "y", sizes), ("Conv", ["more", "v"], "z", sizes)]
    order = [nodes[0], nodes[1], convolutions[0], nodes[2], convolutions[1]]
    made = [
        helper.make_node(kind, inputs, [output], "" if unnamed else f"node {output}", **attributes)
        for kind, inputs, output, attributes in order
    ]
    constants = {name: rng.choice((-0.5, 0.5), (8, 8, 3, 3)).astype(np.float32) for name in ("w", "v")}
    return helper.make_model(
        helper.make_graph(
            made,
            "layer",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, 8, 8])],
            [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


@pytest.mark.parametrize("unnamed", [False, True])
def test_shapes_of_nodes_with_names_and_without(unnamed: bool, examined: Callable[..., DoctorReport]) -> None:
    report = examined(layer(unnamed=unnamed))
    assert [finding.code for finding in report.findings] == ["floats"]
    assert [each.macs for each in report.convolutions] == [4 * 4 * 9 * 8 * 8, 2 * 2 * 9 * 8 * 8]


def test_weights_computed_in_every_run(examined: Callable[..., DoctorReport]) -> None:
    found = {finding.code: finding for finding in examined(layer("computed")).findings}
    assert found.keys() == {"weights not constant", "floats"}
    assert found["weights not constant"].where == ("node y",)
    assert found["weights not constant"].severity == "problem"


@pytest.mark.parametrize("kind", ["MatMul", "Gemm", "Gemm transB"])
def test_binary_linear_layers_in_floats_are_named(kind: str, examined: Callable[..., DoctorReport]) -> None:
    rng = np.random.default_rng(0)
    weight = (rng.choice((-1, 1), (64, 16)) * np.linspace(0.5, 2, 16)).astype(np.float32)
    attributes = {"transB": 1} if "transB" in kind else {}
    nodes = [
        helper.make_node("Sign", ["x"], ["bits"]),
        helper.make_node("Flatten", ["bits"], ["row"]),
        helper.make_node(kind.split()[0], ["row", "w"], ["y"], "dense", **attributes),
        helper.make_node("MatMul", ["y", "v"], ["z"], "head"),
    ]
    info = helper.make_tensor_value_info
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "dense",
            [info("x", TensorProto.FLOAT, [1, 4, 4, 4])],
            [info("z", TensorProto.FLOAT, [1, 3])],
            [
                numpy_helper.from_array(weight.T.copy() if attributes else weight, "w"),
                numpy_helper.from_array(rng.choice((-1, 1), (16, 3)).astype(np.float32), "v"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    report = examined(model)
    # The second layer's weights are binary too, and its input is not.
    (finding,) = report.findings
    assert (finding.code, finding.severity, finding.where) == ("dense", "problem", ("dense",))
    assert "take 32 times their bits" in finding.what
    assert {part.name: part.bytes for part in report.parts}["binary weights as floats"] == 4 * weight.size


def test_a_kernel_that_is_not_square_is_named(examined: Callable[..., DoctorReport]) -> None:
    model = layer(pads=(0, 0, 0, 0))
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:, :, :1], tensor.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "kernel_shape":
                attribute.ints[:] = [1, 3]
    report = examined(model)
    (finding,) = report.findings
    assert (finding.code, len(finding.where)) == ("kernel", 2)
    # 8x8 pixels at stride 2 make 4x3, which make 2x1.
    assert [each.macs for each in report.convolutions] == [4 * 3 * 3 * 8 * 8, 2 * 1 * 3 * 8 * 8]


@pytest.mark.parametrize("name", ["Quantise", "Sign"])
@pytest.mark.parametrize("nested", [False, True])
def test_signs_inside_functions_are_seen(name: str, nested: bool, examined: Callable[..., DoctorReport]) -> None:
    plain = layer()
    model = onnx.ModelProto()
    model.CopyFrom(plain)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    body = [helper.make_node("Sign", ["a"], ["s"]), helper.make_node("Identity", ["s"], ["b"])]
    functions = [helper.make_function("mine", name, ["a"], ["b"], body, opsets)]
    if nested:
        call = [helper.make_node(name, ["a"], ["b"], domain="mine")]
        functions.append(helper.make_function("mine", "Outer", ["a"], ["b"], call, opsets))
    for node in model.graph.node:
        if node.op_type == "Sign":
            node.op_type, node.domain = "Outer" if nested else name, "mine"
    model.functions.extend(functions)
    model.opset_import.append(opsets[1])
    found, expected = examined(model), examined(plain)
    assert found.findings == expected.findings
    assert [each.macs for each in found.convolutions] == [each.macs for each in expected.convolutions]


def test_functions_that_call_themselves_are_refused() -> None:
    nodes = [Node("F", "call", ("x",), ("y",))]
    functions = {("", "F"): Function(["a"], ["b"], [Node("F", "again", ("a",), ("b",))])}
    with pytest.raises(ValueError, match="without end"):
        write_out(nodes, functions)


def test_qonnxs_quantisers_are_known(examined: Callable[..., DoctorReport]) -> None:
    model = layer("computed")
    scale = numpy_helper.from_array(np.float32(0.5).reshape(()), "scale")
    model.graph.initializer.append(scale)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "w")
    latent = np.random.default_rng(1).standard_normal((8, 8, 3, 3)).astype(np.float32)
    weight.CopyFrom(numpy_helper.from_array(latent, "w"))
    for node in model.graph.node:
        if node.op_type == "Sign":
            node.op_type, node.domain = "BipolarQuant", "qonnx.custom_op.general"
            node.input.append("scale")
    model.opset_import.append(helper.make_opsetid("qonnx.custom_op.general", 1))
    found = {finding.code: finding for finding in examined(model).findings}
    assert found.keys() == {"floats", "QONNX"}
    assert found["floats"].where == ("node y", "node z")
    assert len(found["QONNX"].where) == 3


def test_one_sided_padding_is_noted(examined: Callable[..., DoctorReport]) -> None:
    found = {finding.code: finding for finding in examined(layer(pads=(0, 0, 1, 1))).findings}
    assert found["shifted stride 2"].severity == "note"
    assert len(found["shifted stride 2"].where) == 2


def test_weights_that_stand_in_the_file_twice(examined: Callable[..., DoctorReport]) -> None:
    model = layer()
    model.graph.initializer[1].raw_data = model.graph.initializer[0].raw_data
    found = {finding.code: finding for finding in examined(model).findings}
    assert found["duplicates"].where == ("v = w",)
    assert found["duplicates"].severity == "problem"
    assert f"{8 * 8 * 9 * 4:,} bytes" in found["duplicates"].what


def test_names_cannot_steer_the_terminal(examined: Callable[..., DoctorReport]) -> None:
    model = layer()
    model.graph.node[2].name = "\x1b[2Jnode"
    report = examined(model)
    assert report.findings[0].where[0] == "\x1b[2Jnode"
    assert r"\x1b[2Jnode" in report.to_text()
    assert "\x1b" not in report.to_text()


def test_damaged_files_are_refused_or_read_and_never_worse() -> None:
    """Past ONNX Runtime, which refuses most of them itself."""
    rng = np.random.default_rng(0)
    for whole in (
        layer().SerializeToString(),
        packed.convert_to_packed_onnx(random_graph(rng, width=0.0625, resolution=32)),
    ):
        for _ in range(400):
            data = bytearray(whole)
            for place in rng.integers(0, len(data), rng.integers(1, 12)):
                data[place] = rng.integers(256)
            try:
                network = onnx_reader.parse_onnx(bytes(data), {"node y": (1, 8, 4, 4), 1: (1, 8)}, "it")
            except UserError:
                continue
            diagnose(network, "it", core="cortex-a72", threads=1, trained_in="pytorch")


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    try:
        cli.main(["doctor", *arguments])
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_commands_exit_codes_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad, torn = (tmp_path / name for name in ("good.onnx", "bad file.onnx", "torn.tflite"))
    good.write_bytes(packed.convert_to_packed_onnx(graph()))
    bad.write_bytes(layer().SerializeToString())
    torn.write_bytes(b"\x1c\0\0\0TFL3\0\0")
    code, out, _ = run([str(good), "--core", "cortex-a76"], capsys)
    assert code == 0
    assert "nothing found" in out
    code, out, _ = run([str(bad), "--json"], capsys)
    report = json.loads(out)
    assert code == 1
    assert report["problems"] >= 1
    assert report["findings"][0]["code"] == "floats"
    assert report["speed"]["work"][0]["rate"] > 1e8
    code, out, _ = run([str(good), "--threads", "1024"], capsys)
    assert code == 1
    assert "1024 threads on" in out
    for arguments, message in (
        ([str(torn)], "torn.tflite is cut off or damaged"),
        ([str(tmp_path / "absent.onnx")], "does not exist"),
        ([str(good), "--core", "z80"], "Unknown core 'z80'. Valid cores are cortex-a53, cortex-a55"),
    ):
        code, _, error = run(arguments, capsys)
        assert code == 2
        assert message in error
    bad.write_bytes(bad.read_bytes()[:200])
    code, _, error = run([str(bad)], capsys)
    assert code == 2
    assert "bad file.onnx" in error
