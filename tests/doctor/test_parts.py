"""The doctor's parts on their own: flexbuffers, values a tensor may take, the machine."""

from typing import Any

import numpy as np
import pytest
from flatbuffers import flexbuffers
from hypothesis import given, settings
from hypothesis import strategies as st

from edgebnn import cli
from edgebnn.doctor import environment, findings, speed
from edgebnn.doctor.analysis.convolutions import Convolution, find_convolutions
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


def test_every_core_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["doctor", "--help"])
    told = capsys.readouterr().out
    assert [name for name in speed.CORES if name.removeprefix("cortex") not in told] == []
    assert {"cortex-a53", "cortex-a55", "cortex-a57", "cortex-a78", "cortex-a78ae", "cortex-x1"} <= speed.CORES.keys()
    for core in speed.CORES.values():
        assert core.binary > 8 * core.floats > 0


def lce_graph(between: list[str], quantiser: str = "SELECT_V2") -> FileGraph:
    """A float convolution of bits and binary weights in an LCE file, behind the given operators."""
    rng = np.random.default_rng(0)
    constants = {"plus": np.float32(1), "minus": np.float32(-1), "w": rng.choice((-1.0, 1.0), (32, 3, 3, 32))}
    tensors = {name: Tensor(name, np.shape(value), np.array(value), 4, name) for name, value in constants.items()}
    nodes = [
        Node("GREATER_EQUAL", "test", ("x", "plus"), ("t",)),
        Node(quantiser, "quantiser", ("t", "plus", "minus"), ("b0",)),
        *(Node(kind, f"n{n}", (f"b{n}",), (f"b{n + 1}",)) for n, kind in enumerate(between)),
        Node("CONV_2D", "conv", (f"b{len(between)}", "w", "bias"), ("y",), {"same": True, "stride": 1}),
    ]
    for key in ["x", "t", "y", "bias", *(f"b{n}" for n in range(len(between) + 1))]:
        tensors[key] = Tensor(key, (1, 8, 8, 32))
    return FileGraph("lce", 1000, tuple(nodes), tensors, ("x",))


@pytest.mark.parametrize("between", [["MAX_POOL_2D"], ["TRANSPOSE"], ["RESHAPE", "TRANSPOSE"], ["MAX_POOL_2D", "PAD"]])
def test_operators_behind_the_quantiser_are_named(between: list[str]) -> None:
    graph = lce_graph(between)
    (layer,) = find_convolutions(graph)
    moves = [kind for kind in between if kind != "PAD"]
    assert (layer.fell_back, layer.between) == ("between", ", ".join(moves))
    (finding,) = findings.find_convolution_problems(graph, [layer], trained_in=None)
    assert finding.where == (f"conv (after {', '.join(moves)})",)
    assert "before the quantiser" in finding.remedy


def test_without_operators_behind_the_quantiser_the_pad_is_the_cause() -> None:
    for between in ([], ["PAD"]):
        (layer,) = find_convolutions(lce_graph(between))
        assert (layer.fell_back, layer.between) == ("explicit zero pad", "")
