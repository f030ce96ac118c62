"""The doctor on TFLite files: each planted fault is found, in files of the real converters, and good ones pass."""

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgebnn.doctor import DoctorReport, examine
from edgebnn.doctor.examine import diagnose
from edgebnn.doctor.readers import tflite as tflite_reader
from edgebnn.errors import UserError
from edgebnn.export.tflite import file as tflite_file
from edgebnn.export.tflite import lce, plain
from edgebnn.export.tflite.file import load_triton
from edgebnn.graph import InferenceGraph, ops
from edgebnn.graph.shapes import UnitShape
from tests.doctor.planted import FAULTS, UNITS, lce_file
from tests.export.random_graph import graph_of
from tests.needs import needs_lce, needs_tensorflow

SHAPES = (
    UnitShape(32, 32, 3, 2, "pool"),
    UnitShape(32, 64, 1, 1, "repeat"),
    UnitShape(64, 64, 3, 1, "identity"),
    UnitShape(64, 64, 1, 1, "identity"),
)

FOUND = {
    "naive stride-2 export": ("shifted stride 2", UNITS + 1),
    "tf.sign": ("tf.sign", UNITS),
    "explicit zero pad": ("explicit zero pad", UNITS),
    "non-constant weights": ("weights not constant", UNITS),
    "real-valued weights": ("weights not binary", UNITS),
    "PReLU of rank 1": ("PReLU", UNITS),
    "map of 2x2": ("tiny map", UNITS),
}


@pytest.fixture(scope="module")
def graph() -> InferenceGraph:
    return graph_of(np.random.default_rng(0), SHAPES, channels=32, resolution=16, stem_stride=2)


@pytest.fixture
def examined(tmp_path: Path) -> Callable[[bytes], DoctorReport]:
    def run(data: bytes) -> DoctorReport:
        path = tmp_path / "model.tflite"
        path.write_bytes(data)
        return examine(path, core="cortex-a72")

    return run


@needs_lce
@pytest.mark.parametrize("fault", FOUND)
def test_a_planted_fault_is_found_and_nothing_else(fault: str, examined: Callable[[bytes], DoctorReport]) -> None:
    (finding,) = examined(lce_file(fault)).findings
    code, places = FOUND[fault]
    assert (finding.code, len(finding.where)) == (code, places)
    assert finding.severity == ("note" if fault == "PReLU of rank 1" else "problem")


@needs_lce
def test_an_explicit_zero_pad_at_stride_2_is_two_faults(examined: Callable[[bytes], DoctorReport]) -> None:
    """The units stay floats; and those of them that were merged into SAME are shifted as well."""
    codes = {finding.code for finding in examined(lce_file("explicit zero pad at stride 2")).findings}
    assert codes == {"explicit zero pad", "shifted stride 2"}


@needs_lce
def test_a_good_file_is_passed_over_in_silence(
    graph: InferenceGraph, examined: Callable[[bytes], DoctorReport]
) -> None:
    assert examined(lce_file("none")).findings == ()
    # Ours have strides of 2, too, and are right: the image is rotated first.
    report = examined(lce.convert_to_lce(graph))
    assert report.findings == ()
    assert sum(each.lopsided for each in report.convolutions) == 2
    real = examined(plain.convert_to_tflite(plain.real_valued(graph)))
    assert real.findings == ()
    assert {each.kind for each in real.convolutions} == {"float", "linear"}


@needs_tensorflow
@pytest.mark.parametrize("dtype", ["int8", "float16"])
def test_small_weights_are_known_for_what_they_are(dtype: str, examined: Callable[[bytes], DoctorReport]) -> None:
    """TensorFlow's own converter keeps weights small, and turns float16 into floats by an operator of the file."""
    load_triton()
    with tflite_file.quietly():
        import tensorflow as tf

        weight = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
        head = np.random.default_rng(1).normal(size=(32, 64)).astype(np.float32)

        def network(image: Any) -> Any:
            return tf.reduce_mean(tf.nn.conv2d(image, weight, 1, "SAME"), [1, 2]) @ head

        module = tf.Module()
        module.network = tf.function(network, input_signature=[tf.TensorSpec((1, 8, 8, 32), tf.float32)])
        converter = tf.lite.TFLiteConverter.from_concrete_functions([module.network.get_concrete_function()], module)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if dtype == "float16":
            converter.target_spec.supported_types = [tf.float16]
        report = examined(converter.convert())
    assert report.findings == ()
    assert [(each.kind, each.macs) for each in report.convolutions] == [
        ("integer" if dtype == "int8" else "float", 64 * 9 * 32**2),
        ("linear", 32 * 64),
    ]
    parts = {part.name: part.bytes for part in report.parts}
    names = ("int8 layers", "linear layers as int8") if dtype == "int8" else ("float convolutions", "linear layers")
    size = 1 if dtype == "int8" else 2
    assert [parts[name] for name in names] == [size * 9 * 32**2, size * 32 * 64]
    # What is done once, when the file is loaded, is no work for an image.
    assert {each.kind for each in report.uncounted} == {"MEAN"}


@needs_lce
def test_a_network_trained_in_tensorflow_may_pad_on_one_side(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(lce_file("naive stride-2 export"))
    assert examine(path, core="cortex-a72", trained_in="tensorflow").findings == ()


@needs_lce
def test_a_network_without_bits_is_taken_for_tensorflows_unless_told(tmp_path: Path) -> None:
    """As Keras's MobileNets are, whose padding is right."""
    path = tmp_path / "model.tflite"
    path.write_bytes(lce_file("no bits at stride 2"))
    (finding,) = examine(path, core="cortex-a72").findings
    assert (finding.code, finding.severity) == ("shifted stride 2", "note")
    (finding,) = examine(path, core="cortex-a72", trained_in="pytorch").findings
    assert (finding.code, finding.severity) == ("shifted stride 2", "problem")
    assert examine(path, core="cortex-a72", trained_in="tensorflow").findings == ()


@needs_tensorflow
def test_a_binary_network_without_lce_is_named(
    graph: InferenceGraph, examined: Callable[[bytes], DoctorReport]
) -> None:
    (finding,) = examined(plain.convert_to_tflite(graph)).findings
    assert (finding.code, len(finding.where)) == ("floats", len(SHAPES))
    assert "export lce" in finding.remedy


@needs_lce
def test_weights_that_stand_in_the_file_twice_are_found(examined: Callable[[bytes], DoctorReport]) -> None:
    """This converter keeps equal constants once, which older ones did not: each unit gets its own weights here."""
    data = lce_file("duplicate weights")
    assert examined(data).findings == ()
    model, schema = tflite_file.unpack(data), tflite_file.schema()
    graph = model.subgraphs[0]
    for number, operator in enumerate(tflite_file.read_operators(data)):
        if operator.kind == "LceBconv2d":
            tensor, buffer = copy(graph.tensors[graph.operators[number].inputs[1]]), schema.BufferT()
            buffer.data = model.buffers[tensor.buffer].data
            tensor.buffer = len(model.buffers)
            model.buffers.append(buffer)
            image, _, *constants = graph.operators[number].inputs
            graph.operators[number].inputs = [image, len(graph.tensors), *constants]
            graph.tensors.append(tensor)
    (finding,) = examined(tflite_file.pack(model)).findings
    assert (finding.code, finding.severity) == ("duplicates", "problem")
    # 32 outputs of 3x3 words of 32 bits, twice beside the converter's own, which no operator reads any more.
    assert f"{2 * 32 * 9 * 4:,} bytes" in finding.what


@needs_lce
def test_work_and_bytes_add_up(graph: InferenceGraph, examined: Callable[[bytes], DoctorReport]) -> None:
    data = lce.convert_to_lce(graph)
    report = examined(data)
    layers = ops.count(graph.shape, 16)
    macs = {kind: sum(each.macs for each in report.convolutions if each.kind == kind) for kind in ("binary", "float")}
    assert macs == {"binary": ops.totals(layers)["bops"], "float": layers[0].flops}
    parts = {part.name: part.bytes for part in report.parts}
    assert sum(parts.values()) == len(data)
    assert parts["binary weights"] == ops.totals(layers)["binary_weights"] // 8
    assert parts["linear layers"] == 10 * 64 * 4
    (work,) = (work for work in report.speed.work if work.kind == "binary")
    # 1.69 cycles a step of 128 at 1.5 GHz (docs/notes/kernels.md).
    assert work.milliseconds == pytest.approx(macs["binary"] / 128 * 1.69 / 1.5e9 * 1e3)


@needs_lce
def test_channels_that_fill_no_word_are_noted(examined: Callable[[bytes], DoctorReport]) -> None:
    shapes = (UnitShape(40, 40, 3, 1, "identity"),)
    narrow = graph_of(np.random.default_rng(0), shapes, channels=40, resolution=8)
    (finding,) = examined(lce.convert_to_lce(narrow)).findings
    assert (finding.code, finding.severity) == ("unaligned channels", "note")
    assert "(40)" in finding.where[0]


@needs_lce
def test_operators_without_ops_are_counted(graph: InferenceGraph, examined: Callable[[bytes], DoctorReport]) -> None:
    first = replace(graph.units[0], threshold=np.zeros(32, np.float32))
    report = examined(lce.convert_to_lce(replace(graph, units=(first, *graph.units[1:]))))
    counts = {each.kind: each.count for each in report.uncounted}
    # A threshold fewer: the first unit's is the stem's affair.
    assert counts["ADD"] == 2 * len(SHAPES) - 1
    assert counts["LceQuantize"] == counts["PRELU"] == len(SHAPES)
    prelus = next(each for each in report.uncounted if each.kind == "PRELU")
    # Each reads and writes its map: 4x4x32, then 4x4x64 three times.
    assert prelus.values == 2 * (16 * 32 + 3 * 16 * 64)


@needs_tensorflow
def test_operators_have_tensorflows_numbers() -> None:
    schema = vars(tflite_file.schema().BuiltinOperator)
    assert {name: schema[name] for name in tflite_reader.KINDS.values()} == {
        name: number for number, name in tflite_reader.KINDS.items()
    }


@needs_lce
@pytest.mark.parametrize("fault", ["none", "explicit zero pad"])
def test_damaged_files_are_refused_or_read_and_never_worse(fault: str) -> None:
    whole, rng = lce_file(fault), np.random.default_rng(0)
    refused = 0
    for _ in range(1500):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 8)):
            data[place] = rng.choice((0, 1, 127, 255, int(rng.integers(256))))
        if rng.random() < 0.1:
            del data[int(rng.integers(len(data))) :]
        try:
            diagnose(
                tflite_reader.parse_tflite(bytes(data), "it"), "it", core="cortex-a72", threads=1, trained_in="pytorch"
            )
        except UserError:
            refused += 1
    assert refused > 100


def test_every_fault_that_can_be_planted_is_looked_for() -> None:
    others = {"none", "duplicate weights", "explicit zero pad at stride 2", "no bits at stride 2"}
    assert set(FAULTS) == set(FOUND) | others
