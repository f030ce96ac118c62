"""Reading and rewriting a TFLite file: nothing but what was asked for may change."""

import os
import resource
from collections.abc import Callable

import numpy as np
import pytest

from edgebnn.errors import UserError
from edgebnn.export.tflite import converter, lce
from edgebnn.export.tflite import file as tflite_file
from edgebnn.graph import InferenceGraph
from edgebnn.graph.shapes import UnitShape
from tests.export.random_graph import graph_of
from tests.needs import needs_lce
from tests.runtime.models import tflite_bytes

pytestmark = needs_lce


@pytest.fixture(scope="module")
def data() -> bytes:
    shapes = (UnitShape(8, 8, 3, 2, "pool"), UnitShape(8, 16, 1, 1, "repeat"))
    graph = graph_of(np.random.default_rng(0), shapes, channels=8, resolution=8)
    return lce.convert_to_lce(graph)


def predict(data: bytes, image: np.ndarray) -> list[np.ndarray]:
    from larq_compute_engine.tflite.python.interpreter import Interpreter

    outputs = Interpreter(data).predict(image)
    return outputs if isinstance(outputs, list) else [outputs]


def test_operators_are_named_in_order_with_the_part_they_came_from(data: bytes) -> None:
    unit = ["ADD", "LceQuantize", "LceBconv2d", "ADD", "PRELU"]
    found = [(operator.scope, operator.kind) for operator in tflite_file.read_operators(data)]
    kinds = {scope: [kind for part, kind in found if part == scope] for scope, _ in found}
    assert kinds["stem"] == ["REVERSE_V2", "CONV_2D"]
    assert sorted(kinds["unit_00"]) == sorted([*unit, "AVERAGE_POOL_2D"])
    assert sorted(kinds["unit_01"]) == sorted([*unit, "CONCATENATION"])
    assert kinds[""] == ["MEAN", "FULLY_CONNECTED"]


@pytest.mark.parametrize(("error", "shown"), [(UserError, ""), (RuntimeError, "the converter's log")])
def test_the_converters_log_is_shown_if_its_failure_needs_explaining(
    error: type[Exception], shown: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def convert() -> None:
        os.write(2, b"the converter's log")
        raise error("any")

    with pytest.raises(error), tflite_file.quietly():
        convert()
    assert capfd.readouterr().err == shown


@pytest.mark.parametrize("convert", [converter.convert_with_lce, converter.convert_with_tensorflow])
def test_a_full_disk_is_told_in_one_line(
    convert: Callable[[InferenceGraph], bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    graph = graph_of(np.random.default_rng(0), (UnitShape(8, 8, 1, 1, "identity"),), channels=8, resolution=8)
    convert(graph)  # what else TensorFlow writes, it writes once
    capfd.readouterr()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(UserError, match="cannot write temporary files .*; set TMPDIR to a folder with free space"):
            convert(graph)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert capfd.readouterr().err == ""


def test_metadata_is_kept_replaced_and_asked_for_by_name(data: bytes) -> None:
    once = tflite_file.add_metadata(data, "note", "first")
    twice = tflite_file.add_metadata(once, "note", 'second: "é"')
    assert tflite_file.read_metadata(once, "note") == "first"
    assert tflite_file.read_metadata(twice, "note") == 'second: "é"'
    assert tflite_file.read_metadata(twice, "edgebnn") == tflite_file.read_metadata(data, "edgebnn")
    with pytest.raises(UserError, match="no metadata 'absent'"):
        tflite_file.read_metadata(data, "absent")


def test_rewriting_changes_no_output(data: bytes) -> None:
    image = np.random.default_rng(1).normal(size=(1, 8, 8, 3)).astype(np.float32)
    (before,) = predict(data, image)
    (with_note,) = predict(tflite_file.add_metadata(data, "note", "text"), image)
    tapped = predict(tflite_file.expose_units(data), image)
    assert np.array_equal(with_note, before)
    assert np.array_equal(tapped[0], before)
    assert [tap.shape for tap in tapped[1:]] == [(1, 8, 8, 8), (1, 4, 4, 8), (1, 4, 4, 16)]


def test_arrays_start_at_multiples_of_16_bytes(data: bytes) -> None:
    starts = [array.__array_interface__["data"][0] for array in arrays(data)]
    base = np.frombuffer(data, np.uint8).__array_interface__["data"][0]
    assert len(starts) > 10
    assert {(start - base) % 16 for start in starts} == {0}


@pytest.mark.parametrize("junk", [b"", b"TFL3", b"\0" * 64])
def test_another_file_is_refused(junk: bytes) -> None:
    with pytest.raises(UserError, match="not a TFLite file"):
        tflite_file.read_operators(junk)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.99])
def test_a_file_cut_off_is_refused(data: bytes, share: float) -> None:
    with pytest.raises(UserError, match="damaged or cut off"):
        tflite_file.read_operators(data[: int(share * len(data))])


def test_a_file_that_holds_nothing_is_refused() -> None:
    empty = tflite_bytes({})
    for read in (
        tflite_file.read_operators,
        tflite_file.expose_units,
        lambda data: tflite_file.add_metadata(data, "a", "b"),
    ):
        with pytest.raises(UserError, match="damaged or cut off"):
            read(empty)


def test_a_file_whose_parts_have_no_names_is_refused() -> None:
    import tensorflow as tf

    double = tf.function(lambda x: 2 * x, input_signature=[tf.TensorSpec((1, 4), tf.float32)])
    plain = tf.lite.TFLiteConverter.from_concrete_functions([double.get_concrete_function()]).convert()
    with pytest.raises(UserError, match="has no stem"):
        tflite_file.expose_units(plain)


def test_c_output_is_held_back_unless_the_block_fails(capfd: pytest.CaptureFixture[str]) -> None:
    def chatter(*, fails: bool) -> None:
        with tflite_file.quietly():
            os.write(2, b"the cause")
            if fails:
                raise RuntimeError

    chatter(fails=False)
    assert capfd.readouterr().err == ""
    with pytest.raises(RuntimeError):
        chatter(fails=True)
    assert capfd.readouterr().err == "the cause"


def arrays(data: bytes) -> list[np.ndarray]:
    """The file's non-empty arrays, as views into `data`."""
    from tensorflow.lite.python.schema_py_generated import Model

    model = Model.GetRootAs(data, 0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    return [buffer.DataAsNumpy() for buffer in buffers if buffer.DataLength()]
