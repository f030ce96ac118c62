"""The doctor's parts on their own: flexbuffers, values a tensor may take, the machine."""

from typing import Any

import numpy as np
import pytest
from flatbuffers import flexbuffers
from hypothesis import given, settings
from hypothesis import strategies as st

from edgebnn.doctor import environment, speed
from edgebnn.doctor.analysis.convolutions import Convolution
from edgebnn.doctor.analysis.levels import infer_levels
from edgebnn.doctor.file_graph import FileGraph, Node, Tensor
from edgebnn.doctor.readers.flexbuffer import read_map

names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=9)
whole = st.integers(-(1 << 63), (1 << 63) - 1)


@given(st.dictionaries(names, whole, max_size=12))
@settings(max_examples=150, deadline=None)
def test_a_flexbuffers_numbers_are_read_back(entries: dict[str, int]) -> None:
    assert read_map(bytes(flexbuffers.Dumps(entries))) == entries


@given(st.binary(max_size=80), st.dictionaries(names, whole, max_size=4), st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_flexbuffer_gives_nothing_worse_than_wrong_numbers(
    junk: bytes, entries: dict[str, int], data: st.DataObject
) -> None:
    read_map(junk)
    sound = bytearray(flexbuffers.Dumps(entries))
    sound[data.draw(st.integers(0, len(sound) - 1))] = data.draw(st.integers(0, 255))
    assert isinstance(read_map(bytes(sound)), dict)


def network(*nodes: tuple[str, list[str], str], **constants: Any) -> FileGraph:
    tensors = {name: Tensor(name, np.shape(value), np.array(value, np.float32), 4) for name, value in constants.items()}
    made = [Node(kind, output, tuple(inputs), (output,)) for kind, inputs, output in nodes]
    return FileGraph("tflite", 0, tuple(made), tensors | {"x": Tensor("x", (1, 4))}, ("x",))


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ([("SIGN", ["x"], "y")], {-1, 0, 1}),
        # sign(sign(x) + 0.5) is never 0: the plain TFLite files' bits.
        ([("SIGN", ["x"], "s"), ("ADD", ["s", "half"], "h"), ("SIGN", ["h"], "y")], {-1, 1}),
        ([("GREATER_EQUAL", ["x", "zero"], "b"), ("SELECT_V2", ["b", "one", "minus"], "y")], {-1, 1}),
        # 2 * float(x >= 0) - 1
        ([("GREATER_EQUAL", ["x", "zero"], "b"), ("CAST", ["b"], "c"), ("MUL", ["c", "two"], "d"),
          ("SUB", ["d", "one"], "y")], {-1, 1}),
        ([("LceDequantize", ["x"], "b"), ("PAD", ["b", "pads"], "y")], {-1, 0, 1}),
        ([("LceDequantize", ["x"], "b"), ("CONCATENATION", ["b", "b"], "c"), ("RESHAPE", ["c"], "y")], {-1, 1}),
        ([("LceDequantize", ["x"], "b"), ("ADD", ["b", "x"], "y")], None),
        ([("RELU", ["x"], "y")], None),
        ([("SIGN", ["x"], "s"), ("ADD", ["s", "many"], "y")], None),
    ],
)  # fmt: skip
def test_the_values_a_tensor_may_take(nodes: list[tuple[str, list[str], str]], found: set[float] | None) -> None:
    constants = {"half": 0.5, "one": 1, "minus": -1, "two": 2, "zero": 0, "many": [0.5, 1.5], "pads": [[1, 1]]}
    assert infer_levels(network(*nodes, **constants)).get("y") == (None if found is None else frozenset(found))


GOOD = {"architecture": "x86_64", "bits": 64, "features": ["avx2"], "cores": 4, "governor": "performance"}


@pytest.mark.parametrize(
    ("change", "format_", "threads", "code"),
    [
        ({}, "onnx-packed", 4, None),
        ({"architecture": "aarch64", "features": ["neon"], "governor": None}, "onnx-packed", 1, None),
        ({"features": []}, "lce", 1, None),
        ({}, "lce", 5, "threads"),
        ({"features": []}, "onnx-packed", 1, "instruction set"),
        ({"architecture": "armv8l", "bits": 32, "features": ["neon"]}, "lce", 1, "32-bit userland"),
        ({"architecture": "aarch64", "bits": 32, "features": []}, "onnx-packed", 1, "32-bit userland"),
        ({"architecture": "armv7l", "bits": 32, "features": ["neon"]}, "onnx-packed", 1, "32-bit"),
        ({"governor": "powersave"}, "onnx", 1, "governor"),
    ],
)
def test_what_of_a_machine_is_found(change: dict[str, Any], format_: str, threads: int, code: str | None) -> None:
    found = environment.find_machine_problems(GOOD | change, format_=format_, threads=threads, forced_isa=None)
    assert [finding.code for finding in found] == ([code] if code else [])


def test_a_forced_path_is_noted_where_it_matters() -> None:
    (finding,) = environment.find_machine_problems(GOOD, format_="onnx-packed", threads=1, forced_isa="scalar")
    assert "scalar" in finding.what
    assert environment.find_machine_problems(GOOD, format_="lce", threads=1, forced_isa="scalar") == []


def test_a_rate_that_is_not_known_is_not_taken_for_infinite() -> None:
    layers = [Convolution(kind, kind, 3, 1, 8, 8, "zero", 10**9, "") for kind in ("binary", "float")]
    found = speed.roofline(layers, speed.Core("a core", 0.0, 1e9))
    assert [(work.kind, work.milliseconds) for work in found.work] == [("binary", None), ("float", 1000.0)]
    assert found.milliseconds == 1000.0
