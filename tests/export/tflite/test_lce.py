"""LCE files against the reference, every unit on the very input it was given, in LCE's own interpreter.

LCE's bits are the reference's, and its floats are not: it folds the count of weights into the bias and
corrects zero padding afterwards. `lce_unit` writes that arithmetic out in NumPy and must be met bit for
bit, which leaves no room for a wrong weight, padding, pixel or bit; `export.verify.rounding` says how far it
lies from the reference.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

from edgebnn.errors import UserError
from edgebnn.export.tflite import converter, lce
from edgebnn.export.tflite import file as tflite_file
from edgebnn.export.tflite.interpreter import OpenedFile, open_interpreter
from edgebnn.export.tflite.numpy_model import NumpyModel
from edgebnn.export.verify import rounding
from edgebnn.graph import InferenceGraph, ModelInfo, Unit, reference
from edgebnn.graph.shapes import Padding, UnitShape
from tests.export.random_graph import graph_of, random_graph
from tests.needs import needs_lce

pytestmark = needs_lce

FLOAT_LAYERS = 1e-5
"""Tolerance of the stem and the head, sums of at most 1024 products near 1 in another order."""


class Case(NamedTuple):
    graph: InferenceGraph
    data: bytes
    images: np.ndarray
    taps: list[np.ndarray]
    logits: np.ndarray


def case_of(graph: InferenceGraph, *, images: int = 1) -> Case:
    side = graph.info.resolution
    batch = np.random.default_rng(7).normal(size=(images, 3, side, side)).astype(np.float32)
    data = lce.convert_to_lce(graph)
    return Case(graph, data, batch, *open_interpreter(data).run(batch))


NETWORKS: dict[str, dict[str, Any]] = {
    "full size": {"width": 1.0, "resolution": 224},
    "224, one": {"width": 0.25, "resolution": 224, "stem_stride": 1, "padding": "one"},
    "224, stride 2, one": {"width": 0.25, "resolution": 224, "padding": "one"},
    "32, maps down to 1x1": {"width": 0.25, "resolution": 32},
    "32, stride 1": {"width": 0.5, "resolution": 32, "stem_stride": 1},
    "32, one": {"width": 0.25, "resolution": 32, "stem_stride": 1, "padding": "one"},
    "32, maps down to 1x1, one": {"width": 0.25, "resolution": 32, "padding": "one"},
    "9 channels": {"width": 9 / 32, "resolution": 96},
    "1 channel": {"width": 1 / 32, "resolution": 64},
}


@pytest.fixture(scope="module", params=NETWORKS)
def case(request: pytest.FixtureRequest) -> Case:
    rng = np.random.default_rng(3)
    graph = random_graph(rng, **NETWORKS[request.param])
    return case_of(graph, images=1 if graph.info.resolution == 224 else 4)


def lce_unit(unit: Unit, x: np.ndarray) -> np.ndarray:
    """One unit as LCE computes it. Its padding bits are +1; zero padding takes the outer weights back."""
    weight, scale = unit.weight.astype(np.float32), unit.scale[:, None, None]
    bits = np.where(x >= unit.threshold[:, None, None], 1, -1).astype(np.float32)
    zero = unit.padding == "zero" and unit.border == 1
    dense = zero and x.shape[2] < 3
    weights = unit.weight[0].size // 9 * x.shape[2] ** 2 if dense else unit.weight[0].size
    acc = convolution(bits, weight, unit, pad=0 if dense else 1)
    bias = (unit.bias.astype(np.float64) + weights * unit.scale.astype(np.float64)).astype(np.float32)
    z = (weights - acc) * -scale + bias[:, None, None]
    if zero and not dense:
        ones = np.ones_like(bits[:1])
        z = z - scale * (convolution(ones, weight, unit, pad=1) - convolution(ones, weight, unit, pad=0))
    z = z + lce_shortcut(unit, x)
    return np.where(z >= 0, z, unit.slope[:, None, None] * z)


def lce_shortcut(unit: Unit, x: np.ndarray) -> np.ndarray:
    """The pool adds a window's pixels in reading order of the rotated map, so from the last backwards."""
    if unit.shortcut != "pool":
        return reference.shortcut(unit, x)
    above, below = x[:, :, 0::2], x[:, :, 1::2]
    backwards = ((below[..., 1::2] + below[..., 0::2]) + above[..., 1::2]) + above[..., 0::2]
    return backwards / np.float32(4)


def convolution(x: np.ndarray, weight: np.ndarray, unit: Unit, *, pad: int) -> np.ndarray:
    """Tap by tap; exact, as all its numbers are whole."""
    border, stride = unit.border, unit.stride
    x = np.pad(x, ((0, 0), (0, 0), (border, border), (border, border)), constant_values=pad)
    height, width = (side - 2 * border for side in x.shape[2:])
    acc = np.zeros((len(x), len(weight), height // stride * (width // stride)), np.float32)
    for i, j in np.ndindex(*weight.shape[2:]):
        seen = x[:, :, i : i + height : stride, j : j + width : stride]
        acc += np.ascontiguousarray(weight[:, :, i, j]) @ seen.reshape(*seen.shape[:2], -1)
    return acc.reshape(len(x), len(weight), height // stride, width // stride)


def test_every_unit_is_lces_arithmetic_bit_for_bit(case: Case) -> None:
    for number, (unit, x, y) in enumerate(zip(case.graph.units, case.taps, case.taps[1:])):
        assert np.array_equal(y, lce_unit(unit, x)), f"unit {number}: {unit.shape} on {x.shape}"


def test_the_numpy_model_runs_a_file_as_lces_interpreter_does(case: Case) -> None:
    """Every unit bit for bit from the same input; stem and head up to the order of their float sums."""
    model = NumpyModel(tflite_file.expose_units(case.data))
    taps, logits = OpenedFile("numpy", model.predict).run(case.images)
    assert np.allclose(taps[0], case.taps[0], rtol=0, atol=FLOAT_LAYERS)
    # Rounding in the stem may turn a bit, so each side is held to LCE's arithmetic on the input it had.
    for number, (unit, x, y) in enumerate(zip(case.graph.units, taps, taps[1:])):
        assert np.array_equal(y, lce_unit(unit, x)), f"unit {number}: {unit.shape} on {x.shape}"
    assert np.allclose(logits, reference.head(case.graph.head, taps[-1]), rtol=0, atol=FLOAT_LAYERS)


def test_every_unit_is_within_the_bound_and_the_bound_would_show_one_wrong_bit(case: Case) -> None:
    for number, (unit, x, y) in enumerate(zip(case.graph.units, case.taps, case.taps[1:])):
        bound = rounding.unit_bound(unit, x)
        assert (np.abs(y - reference.unit(unit, x)) <= bound).all(), f"unit {number}"
        assert (bound[:, 0, 0] < 0.02 * 2 * np.abs(unit.scale)).all(), f"unit {number}"


def test_stem_and_head_are_the_references(case: Case) -> None:
    stem = reference.stem(case.graph.stem, case.images)
    assert np.allclose(case.taps[0], stem, rtol=0, atol=FLOAT_LAYERS)
    assert np.allclose(case.logits, reference.head(case.graph.head, case.taps[-1]), rtol=0, atol=FLOAT_LAYERS)


def test_bits_are_of_both_signs(case: Case) -> None:
    """Else the tests above would prove little."""
    for unit, x in zip(case.graph.units, case.taps):
        ones = (x >= unit.threshold[:, None, None]).mean()
        assert 0.05 < ones < 0.95


def test_nothing_falls_back(case: Case) -> None:
    counts = tflite_file.count_operators(case.data)
    tiny = {"RESHAPE": counts["RESHAPE"]} if counts["RESHAPE"] else {}
    units = dict.fromkeys(("LceQuantize", "LceBconv2d", "PRELU"), 26)
    once = dict.fromkeys(("REVERSE_V2", "CONV_2D", "MEAN", "FULLY_CONNECTED"), 1)
    assert counts == {**units, **once, **tiny, "ADD": 52, "CONCATENATION": 5, "AVERAGE_POOL_2D": 4}
    # Two for each 3x3 unit with zero padding on a map of 2x2 or 1x1; none anywhere else.
    small_maps = sum(x.shape[2] < 3 and u.border == 1 for u, x in zip(case.graph.units, case.taps))
    assert counts["RESHAPE"] <= 2 * small_maps * (case.graph.units[0].padding == "zero")


@pytest.mark.parametrize("padding", ["zero", "one"])
@pytest.mark.parametrize("side", [1, 2, 3, 4, 6])
def test_borders_of_small_maps(side: int, padding: Padding) -> None:
    """Where a 3x3 kernel sticks out on several sides at once; 33 channels leave 31 bits of a word unused."""
    kinds: list[tuple[int, int, Any]] = [(3, 1, "identity")]
    if side % 2 == 0:
        kinds += [(3, 2, "pool"), (1, 2, "pool")]
    for kernel, stride, shortcut in kinds:
        shapes = (UnitShape(33, 33, kernel, stride, shortcut),)
        rng = np.random.default_rng(side)
        graph = graph_of(rng, shapes, channels=33, resolution=side, padding=padding)
        _, _, _, (x, y), _ = case_of(graph, images=8)
        assert np.array_equal(y, lce_unit(graph.units[0], x)), shapes


def naive(graph: InferenceGraph) -> Any:
    """The network of one 3x3 unit as one would write it: a border of 1 all around, then VALID."""
    import tensorflow as tf

    def convolve(x: Any, weight: np.ndarray, stride: int, fill: float) -> Any:
        padded = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=fill)
        return tf.nn.conv2d(padded, weight.transpose(2, 3, 1, 0).astype(np.float32), stride, "VALID")

    def network(image: Any) -> Any:
        unit, stem = graph.units[0], graph.stem
        with tf.name_scope("stem"):
            x = convolve(image, stem.weight, stem.stride, 0.0) + stem.bias
        with tf.name_scope("unit_00"):
            bits = tf.where(x >= unit.threshold, 1.0, -1.0)
            acc = convolve(bits, unit.weight, unit.stride, 0.0 if unit.padding == "zero" else 1.0)
            z = acc * unit.scale + unit.bias + tf.nn.avg_pool2d(x, 2, 2, "VALID")
            return tf.nn.relu(z) + -unit.slope[None, None] * tf.nn.relu(-z)

    side = graph.info.resolution
    module = tf.Module()
    module.network = tf.function(network, input_signature=[tf.TensorSpec((1, side, side, 3), tf.float32)])
    return module


@pytest.mark.parametrize("padding", ["zero", "one"])
def test_the_naive_export_is_shifted_and_ours_is_not(padding: Padding, tmp_path: Any) -> None:
    """Right in TensorFlow, wrong once LCE has turned its padding into SAME: this is what `convert` avoids."""
    import tensorflow as tf
    from larq_compute_engine import convert_saved_model
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    shapes = (UnitShape(32, 32, 3, 2, "pool"),)
    graph = graph_of(np.random.default_rng(1), shapes, channels=32, resolution=32, stem_stride=2, padding=padding)
    _, _, images, taps, _ = case_of(graph)
    module, image = naive(graph), images.transpose(0, 2, 3, 1)
    tf.saved_model.save(module, str(tmp_path), signatures=module.network)
    shifted = convert_saved_model(str(tmp_path))
    outputs = Interpreter(tflite_file.expose_units(shifted)).predict(image)
    stem, unit = (output.transpose(0, 3, 1, 2) for output in outputs[1:])

    right_stem = reference.stem(graph.stem, images)
    right = reference.unit(graph.units[0], right_stem)
    in_tensorflow = module.network(image).numpy().transpose(0, 3, 1, 2)
    assert np.allclose(in_tensorflow, right, rtol=0, atol=FLOAT_LAYERS)
    assert np.abs(stem - right_stem).mean() > 0.5 * right_stem.std()
    assert np.abs(unit - right).mean() > 0.5 * right.std()
    one_pixel_on = reference.stem(graph.stem, images[:, :, 1:, 1:])
    assert np.allclose(stem[:, :, 1:, 1:], one_pixel_on[:, :, 1:, 1:], rtol=0, atol=FLOAT_LAYERS)

    assert np.allclose(taps[0], right_stem, rtol=0, atol=FLOAT_LAYERS)
    assert np.array_equal(taps[1], lce_unit(graph.units[0], taps[0]))


def test_a_unit_that_fell_back_is_named(tmp_path: Any) -> None:
    """An explicit zero border does not fuse, and LCE's converter keeps the convolution in floats."""
    import tensorflow as tf
    from larq_compute_engine import convert_saved_model

    shapes = (UnitShape(32, 32, 3, 2, "pool"),)
    graph = graph_of(np.random.default_rng(1), shapes, channels=32, resolution=32)
    module = naive(graph)
    tf.saved_model.save(module, str(tmp_path), signatures=module.network)
    data = convert_saved_model(str(tmp_path))
    with pytest.raises(UserError, match=r"unit_00 fell back to .*CONV_2D.*; install"):
        converter.check_operators(data, 1)
    with pytest.raises(UserError, match="unit_00 fell back to no binary convolution"):
        converter.check_operators(lce.convert_to_lce(replace(graph, units=())), 1)
    with pytest.raises(UserError, match="2 float convolutions"):
        converter.check_operators(data, 0)


def small(**changes: Any) -> InferenceGraph:
    """Two units, every value of the given fields overwritten."""
    shapes = (UnitShape(32, 32, 3, 1, "identity"), UnitShape(32, 64, 1, 1, "repeat"))
    graph = graph_of(np.random.default_rng(2), shapes, channels=32, resolution=8)

    def overwrite(unit: Unit) -> Unit:
        return replace(unit, **{name: np.full_like(getattr(unit, name), value) for name, value in changes.items()})

    return replace(graph, units=tuple(overwrite(unit) for unit in graph.units))


@pytest.mark.parametrize(
    "values",
    [
        {"threshold": 0, "bias": 0, "scale": 1, "slope": 0.25},
        {"slope": 0},
        {"slope": 1},
        {"slope": -0.5},
        {"scale": 0},
        {"scale": -1},
        {"threshold": 1e9},
    ],
    ids=str,
)
def test_values_a_converter_might_simplify_away(values: dict[str, float]) -> None:
    graph, _, _, taps, _ = case_of(small(**values))
    for unit, x, y in zip(graph.units, taps, taps[1:]):
        assert np.array_equal(y, lce_unit(unit, x))


def test_minus_zero_at_threshold_zero_is_plus_one_on_arm_too() -> None:
    """LCE's ARM kernel reads the sign bit of x - threshold, so that must be +0.0 or more for x = -0.0."""
    graph = small(threshold=0)
    stem = replace(graph.stem, weight=np.zeros_like(graph.stem.weight), bias=np.full(32, -0.0, np.float32))
    case = case_of(replace(graph, stem=stem))
    # The first unit sees the stem's own output, which therefore must hold no -0.0.
    assert not np.signbit(case.taps[0]).any()
    model = tflite_file.unpack(case.data)
    subgraph = model.subgraphs[0]
    shifts = []
    for number, operator in enumerate(tflite_file.read_operators(case.data)):
        constant = subgraph.tensors[subgraph.operators[number].inputs[-1]]
        if operator.kind == "ADD" and model.buffers[constant.buffer].data is not None:
            assert operator.scope == "unit_01"
            shifts.append(model.buffers[constant.buffer].data.view(np.float32))
    assert len(shifts) == 1
    assert not np.signbit(np.float32(-0.0) + shifts[0]).any()


def test_the_head_may_have_an_offset_relus_several_layers_or_none() -> None:
    rng, graph = np.random.default_rng(4), small()
    (layer,) = graph.head.layers
    offset = rng.normal(size=64).astype(np.float32)
    second = replace(layer, weight=rng.normal(size=(5, 10)).astype(np.float32), bias=np.ones(5, np.float32), relu=True)
    info = ModelInfo(resolution=8)
    for layers in ((), (replace(layer, relu=True), second)):
        graph = replace(graph, head=replace(graph.head, offset=offset, layers=layers), info=info)
        _, _, _, taps, logits = case_of(graph, images=3)
        assert np.allclose(logits, reference.head(graph.head, taps[-1]), rtol=0, atol=FLOAT_LAYERS)


def test_the_file_says_what_it_is() -> None:
    graph = small()
    assert ModelInfo.from_json(tflite_file.read_metadata(lce.convert_to_lce(graph), "edgebnn")) == graph.info


@pytest.mark.parametrize(
    ("change", "what"),
    [({"binary_input": False}, "activations"), ({"weight": np.ones((64, 32, 1, 1), np.float32)}, "weights")],
)
def test_a_network_that_is_not_binary_is_refused(change: dict[str, Any], what: str) -> None:
    graph = small()
    graph = replace(graph, units=(graph.units[0], replace(graph.units[1], **change)))
    with pytest.raises(UserError, match=f"unit 1 has float {what}; .* train stage 2"):
        lce.convert_to_lce(graph)
