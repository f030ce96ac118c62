"""The portable ONNX file, run by ONNX Runtime, against the reference."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from edgebnn.export.fold import fold
from edgebnn.export.onnx.portable import convert_to_onnx
from edgebnn.graph import InferenceGraph, ModelInfo, reference
from edgebnn.graph.info import METADATA_KEY
from edgebnn.graph.shapes import UnitShape
from edgebnn.nn import BiRealConfig, ReActNetConfig
from tests.export.random_graph import graph_of
from tests.networks import noise, random_network

FLOAT_OPERATORS = {
    "Add", "AveragePool", "Concat", "Conv", "Flatten", "Gemm", "GlobalAveragePool", "GreaterOrEqual", "Mul", "PRelu",
    "Pad", "Where",
}  # fmt: skip
INTEGER_OPERATORS = {
    "Add", "Cast", "Concat", "Conv", "Flatten", "Gemm", "GreaterOrEqual", "MatMul", "MatMulInteger", "Max", "Mul",
    "Pad", "Reshape", "Slice", "Transpose", "Where",
}  # fmt: skip
STEEP_OPERATORS = {"Min", "Relu"}
"""Where a slope is above 1."""


def make_graph(seed: int, resolution: int, **config: object) -> InferenceGraph:
    model = random_network(seed, ReActNetConfig(**{"width": 0.25, "head": (10,), **config}))  # type: ignore[arg-type]
    return fold(model, ModelInfo("a model", resolution, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))


def run_with_units(data: bytes, units: int, images: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Logits, and the outputs of the stem and of every unit, channels first, as ONNX Runtime computes them."""
    model = onnx.load_from_string(data)
    names = ["stem", *(f"unit_{number:02d}" for number in range(units))]
    model.graph.output.extend(helper.make_tensor_value_info(name, 1, None) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits, *outputs = session.run(None, {"image": images})
    if any(node.op_type == "Transpose" for node in model.graph.node):
        outputs = [output.transpose(0, 3, 1, 2) for output in outputs]
    return logits, outputs


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("padding", ["zero", "one"])
@pytest.mark.parametrize(("resolution", "stem_stride"), [(32, 1), (32, 2), (96, 2)])
def test_every_unit_equals_the_reference_bit_for_bit(
    padding: str, resolution: int, stem_stride: int, floats: bool
) -> None:
    graph = make_graph(resolution + stem_stride, resolution, padding=padding, stem_stride=stem_stride)
    logits, outputs = run_with_units(convert_to_onnx(graph, floats=floats), len(graph.units), noise(1, 3, resolution))
    for unit, x, y in zip(graph.units, outputs, outputs[1:]):
        expected = reference.unit(unit, x)
        if floats and unit.shortcut == "pool":
            # The order in which ONNX Runtime adds the four pixels depends on its version: a rounding apart.
            np.testing.assert_allclose(y, expected, rtol=0, atol=4e-7 * np.abs(expected).max())
        else:
            np.testing.assert_array_equal(y, expected)
    np.testing.assert_allclose(logits, reference.head(graph.head, outputs[-1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        {"binary_weights": False, "binary_activations": False},
        {"binary_weights": False, "padding": "one"},
        {"head": ()},
        {"head": (16, 8)},
        {"head": (16,), "head_relu": True},
    ],
    ids=str,
)
def test_the_twin_step_1_and_every_head_export_too(config: dict[str, object]) -> None:
    graph = make_graph(7, 32, **config)
    logits, outputs = run_with_units(convert_to_onnx(graph), len(graph.units), noise(2, 2, 32))
    for unit, x, y in zip(graph.units, outputs, outputs[1:]):
        expected = reference.unit(unit, x)
        np.testing.assert_allclose(y, expected, rtol=0, atol=2e-6 * np.abs(expected).max())
    np.testing.assert_allclose(logits, reference.head(graph.head, outputs[-1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("arch", ["birealnet-18", "reactnet-18"])
@pytest.mark.parametrize(("resolution", "stem_stride", "padding"), [(32, 1, "one"), (96, 2, "zero")])
def test_binary_resnets_equal_the_reference(
    arch: str, resolution: int, stem_stride: int, padding: str, floats: bool
) -> None:
    config = BiRealConfig(arch=arch, width=1 / 8, stem_stride=stem_stride, padding=padding, head=(10,))  # type: ignore[arg-type]
    graph = fold(random_network(resolution, config), ModelInfo("a model", resolution))
    images = noise(1, 3, resolution)
    logits, outputs = run_with_units(convert_to_onnx(graph, floats=floats), len(graph.units), images)
    stem = reference.stem(graph.stem, images)
    np.testing.assert_allclose(outputs[0], stem, rtol=0, atol=1e-6 * np.abs(stem).max())
    for unit, x, y in zip(graph.units, outputs, outputs[1:]):
        expected = reference.unit(unit, x)
        if unit.shortcut == "downsample":
            # The shortcut is a sum of floats, in whatever order: a few roundings apart.
            np.testing.assert_allclose(y, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
        else:
            np.testing.assert_array_equal(y, expected)
    np.testing.assert_allclose(logits, reference.head(graph.head, outputs[-1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("slope", [0.3, 1.0])
def test_units_without_a_shortcut_equal_the_reference(floats: bool, slope: float) -> None:
    shapes = (UnitShape(5, 9, 3, 2, "none"), UnitShape(9, 4, 1, 1, "none"))
    graph = graph_of(np.random.default_rng(5), shapes, channels=5, resolution=8)
    graph = replace(graph, units=tuple(replace(unit, slope=np.full_like(unit.slope, slope)) for unit in graph.units))
    _, outputs = run_with_units(convert_to_onnx(graph, floats=floats), 2, noise(3, 2, 8))
    for unit, x, y in zip(graph.units, outputs, outputs[1:]):
        np.testing.assert_array_equal(y, reference.unit(unit, x))


def test_slopes_above_and_below_1_are_exact() -> None:
    rng = np.random.default_rng(4)
    shapes = (UnitShape(9, 9, 3, 1, "identity"), UnitShape(9, 9, 1, 2, "pool"), UnitShape(9, 18, 1, 1, "repeat"))
    graph = graph_of(rng, shapes, channels=9, resolution=8)
    steep = tuple(replace(unit, slope=rng.uniform(-3, 3, unit.slope.shape).astype(np.float32)) for unit in graph.units)
    graph = replace(graph, units=steep)
    assert all((unit.slope > 1).any() and (unit.slope < 0).any() for unit in graph.units)
    data = convert_to_onnx(graph)
    assert {node.op_type for node in onnx.load_from_string(data).graph.node} >= STEEP_OPERATORS
    _, outputs = run_with_units(data, 3, noise(3, 2, 8))
    for unit, x, y in zip(graph.units, outputs, outputs[1:]):
        np.testing.assert_array_equal(y, reference.unit(unit, x))


@pytest.mark.parametrize("floats", [False, True])
def test_the_file_speaks_for_itself(floats: bool) -> None:
    graph = make_graph(3, 64)
    model = onnx.load_from_string(convert_to_onnx(graph, floats=floats))
    allowed = FLOAT_OPERATORS if floats else INTEGER_OPERATORS | STEEP_OPERATORS
    assert {node.op_type for node in model.graph.node} <= allowed
    assert {entry.domain for entry in model.opset_import} == {""}
    assert ModelInfo.from_json({p.key: p.value for p in model.metadata_props}[METADATA_KEY]) == graph.info
    # The binary weights are kept as +1 and -1 themselves, the scales apart from them.
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    kept, meant = weights["unit_04.weight"], graph.units[4].weight
    if not floats:
        assert kept.dtype == np.int8
        kept = kept.reshape(3, 3, *meant.shape[1::-1]).transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(kept, meant)
    # Any batch size runs in one session.
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    images = noise(4, 5, 64)
    whole = session.run(["logits"], {"image": images})[0]
    single = np.concatenate([session.run(["logits"], {"image": image[None]})[0] for image in images])
    np.testing.assert_allclose(whole, single, rtol=1e-5, atol=1e-5)
