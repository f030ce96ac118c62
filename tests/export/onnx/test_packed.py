"""The packed ONNX file, run by ONNX Runtime with the kernels, against the reference."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgebnn import checkpoint, records, runtime
from edgebnn.errors import UserError
from edgebnn.export.cli import main
from edgebnn.export.fold import fold
from edgebnn.export.onnx import portable
from edgebnn.export.onnx.builder import quantise_weight, with_int8_weights
from edgebnn.export.onnx.packed import average_output_name, convert_to_packed_onnx, has_own_operator
from edgebnn.export.verify.parity import Limits, verify
from edgebnn.graph import Head, InferenceGraph, Linear, ModelInfo, bits, reference
from edgebnn.graph.info import METADATA_KEY
from edgebnn.graph.shapes import Padding, UnitShape
from edgebnn.nn import BiRealConfig, ReActNetConfig
from edgebnn.nn.bireal import BiRealArch
from tests.export.random_graph import graph_of, random_graph
from tests.networks import noise, random_network

LIMITS = Limits()


def run_laid_open(data: bytes, images: np.ndarray) -> dict[str, np.ndarray]:
    """Every tensor the units of a packed file pass on, and the logits, as a plain user of ONNX Runtime gets them."""
    model = onnx.load_from_string(data)
    passed = re.compile(r"(stem|unit_\d+)(\.bits|\.average)?")
    named = [name for node in model.graph.node for name in node.output if passed.fullmatch(name)]
    kinds = {True: onnx.TensorProto.UINT8, False: onnx.TensorProto.FLOAT}
    model.graph.output.extend(
        helper.make_tensor_value_info(name, kinds[name.endswith(".bits")], None) for name in named
    )
    return run(model.SerializeToString(), images, ["logits", *named])


def run(data: bytes, images: np.ndarray, outputs: list[str]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(runtime.library_path()))
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return dict(zip(outputs, session.run(outputs, {"image": images})))


def assert_equals_the_reference(graph: InferenceGraph, images: np.ndarray) -> None:
    found = run_laid_open(convert_to_packed_onnx(graph), images)
    # What a caller is given is never written over; unseen, units write over their inputs.
    np.testing.assert_array_equal(run(convert_to_packed_onnx(graph), images, ["logits"])["logits"], found["logits"])
    names = ["stem", *(f"unit_{number:02d}" for number in range(len(graph.units)))]
    outputs = [found["stem"].transpose(0, 3, 1, 2)]
    for number, (unit, name) in enumerate(zip(graph.units, names[1:])):
        wanted = reference.unit(unit, outputs[-1])
        if average_output_name(number) in found:  # the unit that follows pools, and no one is given the output itself
            assert graph.units[number + 1].shortcut == "pool"
            average = found[average_output_name(number)].transpose(0, 3, 1, 2)
            np.testing.assert_array_equal(average, reference.pool(wanted))
            assert name not in found
            outputs.append(wanted)
            continue
        outputs.append(found[name].transpose(0, 3, 1, 2))
        if unit.downsample is None:
            np.testing.assert_array_equal(outputs[-1], wanted)
        else:  # the shortcut is a sum of floats, in whatever order: a few roundings apart
            np.testing.assert_allclose(outputs[-1], wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())
    for following, name, output in zip(graph.units, names, outputs):
        if f"{name}.bits" not in found:  # what standard operators give, the next unit compares itself
            continue
        packed = bits.pack_activations(output.transpose(0, 2, 3, 1), following.threshold)
        np.testing.assert_array_equal(found[f"{name}.bits"], packed, strict=True)
    if has_own_operator(graph.stem):
        np.testing.assert_array_equal(outputs[0], reference.stem(graph.stem, images))
        assert not graph.units or "stem.bits" in found
    else:
        np.testing.assert_allclose(outputs[0], reference.stem(graph.stem, images), atol=1e-5)
    np.testing.assert_allclose(found["logits"], reference.head(graph.head, outputs[-1]), rtol=1e-4, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.sampled_from([1, 3, 7, 8, 9, 31, 33, 64, 100]),
    forms=st.lists(
        st.sampled_from(
            [(3, "identity"), (1, "identity"), (3, "pool"), (1, "pool"), (1, "repeat"), (3, "repeat"), (3, "none")]
        ),
        min_size=1,
        max_size=5,
    ),
    padding=st.sampled_from(["zero", "one"]),
    stem_stride=st.sampled_from([1, 2]),
    odd=st.sampled_from([1, 3]),
    batch=st.sampled_from([1, 3]),
)
def test_any_chain_of_units_equals_the_reference_bit_for_bit(
    seed: int, channels: int, forms: list, padding: Padding, stem_stride: int, odd: int, batch: int
) -> None:
    shapes, width, side = [], channels, odd * stem_stride
    for kernel, shortcut in forms:
        outputs = 2 * width if shortcut == "repeat" else width
        shapes.append(UnitShape(width, outputs, kernel, 2 if shortcut == "pool" else 1, shortcut))
        width, side = outputs, side * shapes[-1].stride
    rng = np.random.default_rng(seed)
    graph = graph_of(rng, tuple(shapes), channels=channels, resolution=side, stem_stride=stem_stride, padding=padding)
    assert_equals_the_reference(graph, noise(seed, batch, side))


@pytest.mark.parametrize("padding", ["zero", "one"])
@pytest.mark.parametrize(("width", "resolution"), [(0.25, 32), (0.5, 96), (1.0, 64)])
def test_a_whole_reactnet_equals_the_reference_bit_for_bit(padding: Padding, width: float, resolution: int) -> None:
    graph = random_graph(np.random.default_rng(8), width=width, resolution=resolution, padding=padding)
    assert_equals_the_reference(graph, noise(9, 2, resolution))


@pytest.mark.parametrize("arch", ["birealnet-18", "reactnet-18"])
@pytest.mark.parametrize(("resolution", "stem_stride", "padding"), [(32, 1, "one"), (96, 2, "zero")])
def test_binary_resnets_equal_the_reference(
    arch: BiRealArch, resolution: int, stem_stride: int, padding: Padding, tmp_path: Path
) -> None:
    config = BiRealConfig(arch=arch, width=1 / 8, stem_stride=stem_stride, padding=padding, head=(10,))
    model = random_network(resolution, config)
    graph = fold(model, ModelInfo("a model", resolution))
    assert_equals_the_reference(graph, noise(1, 2, resolution))
    (tmp_path / "model.onnx").write_bytes(convert_to_packed_onnx(graph))
    found = verify(model, graph, tmp_path / "model.onnx", noise(2, 4, resolution))
    assert found.failures(LIMITS) == []


def test_sizes_of_reactnet_a() -> None:
    graph = random_graph(np.random.default_rng(5), width=1, resolution=224, classes=1000)
    assert len(convert_to_packed_onnx(graph)) <= 8.3e6
    assert len(convert_to_packed_onnx(graph, int8_head=True)) <= 5.2e6


def test_the_file_speaks_for_itself(tmp_path: Path) -> None:
    graph = random_graph(np.random.default_rng(3), width=0.125, resolution=32)
    path = tmp_path / "model.onnx"
    path.write_bytes(convert_to_packed_onnx(graph))
    model = onnx.load(path)
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": 17, "ai.edgebnn": 2}
    assert Counter(node.op_type for node in model.graph.node if node.domain) == {"BinaryUnit": 26, "ImageConv": 1}
    assert {node.op_type for node in model.graph.node if not node.domain} == {*("Reshape", "MatMul", "Flatten", "Gemm")}
    assert ModelInfo.from_json({p.key: p.value for p in model.metadata_props}[METADATA_KEY]) == graph.info
    kept = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for number, unit in enumerate(graph.units):
        np.testing.assert_array_equal(
            bits.unpack_weight(kept[f"unit_{number:02d}.weight"], unit.shape.in_channels), unit.weight
        )
    # What an application sees, of any number of images, is what the portable file gives.
    path.with_name("portable.onnx").write_bytes(portable.convert_to_onnx(graph))
    files = [runtime.load_model(each) for each in (path, path.with_name("portable.onnx"))]
    for count in (1, 3):
        logits = [file.run(noise(4, count, 32)) for file in files]
        np.testing.assert_allclose(logits[0], logits[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("binary_activations", [False, True])
def test_a_network_with_floats_is_refused_and_told_where_to_go(binary_activations: bool) -> None:
    config = ReActNetConfig(width=0.125, head=(3,), binary_weights=False, binary_activations=binary_activations)
    graph = fold(random_network(2, config), ModelInfo(resolution=32))
    floats = "weights" if binary_activations else "activations and weights"
    with pytest.raises(UserError, match=rf"unit 0 has float {floats}, .* portable file .*train stage 2"):
        convert_to_packed_onnx(graph)


# ---- the int8 head


def test_int8_weights_round_to_the_nearest_of_255_steps_an_output() -> None:
    rng = np.random.default_rng(6)
    weight = rng.normal(size=(5, 300)).astype(np.float32) * np.array([[1e-3], [1], [50], [0], [1]], np.float32)
    weight[4, 7] = -9  # the largest is negative
    int8, scale = quantise_weight(Linear(weight, np.zeros(5, np.float32)))
    assert (int8.dtype, scale.dtype) == (np.int8, np.float32)
    assert np.abs(int8).max(axis=1).tolist() == [127, 127, 127, 0, 127]
    assert int8[4, 7] == -127
    step = np.abs(weight).max(axis=1, keepdims=True) / 127
    # Half a step, and the roundings of the scale and of the product.
    assert (np.abs(int8 * scale[:, None].astype(np.float64) - weight) <= step / 2 + 2**-22 * np.abs(weight)).all()


@pytest.mark.parametrize("make", [convert_to_packed_onnx, portable.convert_to_onnx])
def test_int8_weights_move_the_logits_by_no_more_than_their_rounding(make: object) -> None:
    graph = random_graph(np.random.default_rng(7), width=0.5, resolution=32, classes=50)
    features = len(graph.head.offset)
    images = noise(5, 4, 32)
    data = make(graph, int8_head=True)  # type: ignore[operator]
    assert len(make(graph)) - len(data) > 2.9 * 50 * features  # type: ignore[operator]
    pooled = reference.run(
        replace(graph, head=Head(graph.head.offset, ()), info=replace(graph.info, labels=())), images
    )
    session_options = onnxruntime.SessionOptions()
    session_options.register_custom_ops_library(str(runtime.library_path()))
    session = onnxruntime.InferenceSession(data, session_options, providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"image": images})[0]
    layer = graph.head.layers[0]
    exact = pooled.astype(np.float64) @ layer.weight.T.astype(np.float64) + layer.bias
    half_step = np.abs(layer.weight).max(axis=1) / 254
    # At most half a step a weight, times the features it meets; what floats round is a hundredth of that.
    bound = np.abs(pooled).sum(axis=1, keepdims=True) * half_step * 1.01
    assert (np.abs(logits - exact) <= bound).all()
    # And they do move: it is not the float head.
    assert np.abs(logits - exact).max() > 0.02 * bound.max()
    rounded = with_int8_weights(graph.head).layers[0].weight
    np.testing.assert_allclose(logits, pooled @ rounded.T + layer.bias, rtol=1e-4, atol=1e-5)


def test_a_head_of_two_layers_and_a_head_of_none_take_the_flag_too() -> None:
    for config in (ReActNetConfig(width=0.125, head=(16, 8), head_relu=True), ReActNetConfig(width=0.125, head=())):
        graph = fold(random_network(3, config), ModelInfo(resolution=32))
        images = noise(6, 2, 32)
        found = run_laid_open(convert_to_packed_onnx(graph, int8_head=True), images)
        expected = reference.head(with_int8_weights(graph.head), found["unit_25"].transpose(0, 3, 1, 2))
        np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-5)


# ---- the commands


def test_export_verify_and_bench_as_the_demo_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained, out, run = tmp_path / "model.safetensors", tmp_path / "binary-packed.onnx", str(tmp_path / "run")
    info = ModelInfo("demo-binary", 32, (0.1,) * 3, (0.3,) * 3, tuple("0123456789"))
    checkpoint.save_checkpoint(trained, random_network(2, ReActNetConfig(width=0.25, head=(10,))), info)
    main(["onnx", str(trained), str(out), "--packed", "--int8-head", "--record", run])
    main(["verify", str(trained), str(out), "--data", "mnist5k", "--images", "30", "--record", run])
    said = capsys.readouterr().out
    assert "26 of 26 (26 bit for bit" in said
    assert "int8 weights move a logit by" in said
    assert said.endswith("verified\n")
    found = {record.kind: record for record in records.read_records(run)}
    assert found["size"].context["format"] == found["parity"].context["format"] == "onnx-packed"
    assert found["parity"].context["int8_head"] is True
    assert found["parity"].values["units_identical"] == 26

    with pytest.raises(SystemExit) as stopped:
        main(["onnx", str(trained), str(out), "--packed", "--floats"])
    assert stopped.value.code == 2


def test_a_network_of_floats_gets_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = tmp_path / "step1.safetensors"
    config = ReActNetConfig(width=0.125, head=(3,), binary_weights=False)
    checkpoint.save_checkpoint(trained, random_network(2, config), ModelInfo(resolution=32))
    with pytest.raises(SystemExit) as stopped:
        main(["onnx", str(trained), str(tmp_path / "out.onnx"), "--packed"])
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "without --packed" in lines[0]
    assert not (tmp_path / "out.onnx").exists()
