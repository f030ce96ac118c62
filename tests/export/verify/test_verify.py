"""Verification passes a true file and catches each way a file can be wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgebnn.errors import UserError
from edgebnn.export.fold import fold
from edgebnn.export.onnx.portable import convert_to_onnx
from edgebnn.export.tflite import lce
from edgebnn.export.verify.parity import Limits, Parity, verify
from edgebnn.graph import InferenceGraph, ModelInfo
from edgebnn.nn import ReActNet, ReActNetConfig
from tests.export.edit import with_initializer
from tests.needs import needs_lce
from tests.networks import noise, random_network

LIMITS = Limits()


@pytest.fixture(scope="module")
def network() -> tuple[ReActNet, InferenceGraph]:
    model = random_network(11, ReActNetConfig(width=0.125, head=(10,)))
    return model, fold(model, ModelInfo(resolution=32))


def check(network: tuple[ReActNet, InferenceGraph], path: Path, data: bytes, images: int = 20) -> Parity:
    path.write_bytes(data)
    return verify(*network, path, noise(0, images, 32), batch=7)


@pytest.mark.parametrize("suffix", [".onnx", pytest.param(".tflite", marks=needs_lce)])
def test_a_true_file_passes(network: tuple[ReActNet, InferenceGraph], tmp_path: Path, suffix: str) -> None:
    data = convert_to_onnx(network[1]) if suffix == ".onnx" else lce.convert_to_lce(network[1])
    found = check(network, tmp_path / f"model{suffix}", data)
    assert found.failures(LIMITS) == []
    assert (found.units, found.units_exact, found.images) == (26, 26, 20)
    if suffix == ".onnx":
        # ONNX Runtime gives the reference's very floats, but for the order of the 4 pooled shortcuts' sums in some
        # versions. LCE has an arithmetic of its own; tests/export/tflite/test_lce.py holds it to every bit.
        assert found.units_identical >= 22


def test_one_wrong_weight_bit_is_found(network: tuple[ReActNet, InferenceGraph], tmp_path: Path) -> None:
    def flip(weight: np.ndarray) -> None:
        weight.flat[0] *= -1

    found = check(
        network, tmp_path / "model.onnx", with_initializer(convert_to_onnx(network[1]), "unit_08.weight", flip)
    )
    assert found.units_exact == 25
    assert "1 of 26 units differ from the reference" in found.failures(LIMITS)[0]


def test_nan_is_found(network: tuple[ReActNet, InferenceGraph], tmp_path: Path) -> None:
    def spoil(bias: np.ndarray) -> None:
        bias[0] = np.nan

    found = check(
        network, tmp_path / "model.onnx", with_initializer(convert_to_onnx(network[1]), "unit_25.bias", spoil)
    )
    assert found.units_exact == 25


@pytest.mark.parametrize(
    ("name", "factor", "part"),
    [("stem.weight", 1.003, "stem"), ("head.0.weight", 1.01, "head"), ("head.0.bias", np.nan, "head")],
)
def test_a_wrong_stem_or_head_is_found(
    network: tuple[ReActNet, InferenceGraph], tmp_path: Path, name: str, factor: float, part: str
) -> None:
    def scale(value: np.ndarray) -> None:
        value *= factor

    found = check(network, tmp_path / "model.onnx", with_initializer(convert_to_onnx(network[1]), name, scale))
    # Each unit is right given its input, so nothing but the part itself tells.
    assert found.units_exact == 26
    assert (found.stem_error > 1, found.head_error > 1) == (part == "stem", part == "head")
    assert f"the {part} differs from the reference" in found.failures(LIMITS)[0]


def test_a_real_valued_twin_passes_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    config = ReActNetConfig(width=0.125, head=(10,), binary_activations=False, binary_weights=False)
    model = random_network(12, config)
    graph = fold(model, ModelInfo(resolution=32))
    found = check((model, graph), tmp_path / "model.onnx", convert_to_onnx(graph))
    assert found.failures(LIMITS) == []
    assert found.units_exact == 26

    def scale(weight: np.ndarray) -> None:
        weight *= 1.001

    wrong = check(
        (model, graph), tmp_path / "wrong.onnx", with_initializer(convert_to_onnx(graph), "unit_09.weight", scale)
    )
    assert wrong.units_exact == 25


def test_a_network_that_gives_nothing_but_zeros_passes(tmp_path: Path) -> None:
    # Nothing rounds there, so the bounds are 0 and so must the differences be.
    model = random_network(13, ReActNetConfig(width=0.125, head=(4,)))
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.zero_()
    graph = fold(model, ModelInfo(resolution=32))
    assert check((model, graph), tmp_path / "model.onnx", convert_to_onnx(graph)).failures(LIMITS) == []


def test_a_shifted_stem_flips_bits(network: tuple[ReActNet, InferenceGraph], tmp_path: Path) -> None:
    def shift(bias: np.ndarray) -> None:
        bias += 0.2

    found = check(network, tmp_path / "model.onnx", with_initializer(convert_to_onnx(network[1]), "stem.bias", shift))
    assert found.bits_differing > LIMITS.bits_differing
    assert any("of the bits differ" in failure for failure in found.failures(LIMITS))


def test_a_file_that_says_something_else_is_refused(network: tuple[ReActNet, InferenceGraph], tmp_path: Path) -> None:
    graph = network[1]
    for field, value in {"mean": (0.0,) * 3, "std": (9.0,) * 3, "labels": tuple("abcdefghij")}.items():
        other = replace(graph, info=replace(graph.info, **{field: value}))
        with pytest.raises(UserError, match=rf"model.onnx says {field} "):
            check(network, tmp_path / "model.onnx", convert_to_onnx(other))
    # The name is for people; a file may be called what one likes.
    renamed = replace(graph, info=replace(graph.info, name="another name"))
    assert check(network, tmp_path / "model.onnx", convert_to_onnx(renamed)).failures(LIMITS) == []


def test_another_head_is_found_by_its_answers(network: tuple[ReActNet, InferenceGraph], tmp_path: Path) -> None:
    def swap(weight: np.ndarray) -> None:
        weight[:] = weight[::-1].copy()

    found = check(
        network, tmp_path / "model.onnx", with_initializer(convert_to_onnx(network[1]), "head.0.weight", swap)
    )
    assert found.top1_agreement < LIMITS.top1_agreement
    assert any("top-1 agrees" in failure for failure in found.failures(LIMITS))


def test_files_that_cannot_be_verified_are_named(network: tuple[ReActNet, InferenceGraph], tmp_path: Path) -> None:
    data = convert_to_onnx(network[1])
    other = fold(random_network(1, ReActNetConfig(width=0.25, head=(10,))), ModelInfo(resolution=32))
    head = replace(network[1].head, offset=np.zeros(8, np.float32), layers=())
    fewer = replace(network[1], units=network[1].units[:2], head=head)
    cases = {
        "cut.onnx": (data[: len(data) // 2], "cut.onnx is damaged"),
        "other.onnx": (convert_to_onnx(other), "made from another network"),
        "fewer.onnx": (convert_to_onnx(fewer), "made from another network"),
        "model.bin": (data, r"model.bin is neither \.onnx nor \.tflite"),
    }
    for name, (content, message) in cases.items():
        with pytest.raises(UserError, match=message):
            check(network, tmp_path / name, content, images=2)
    with pytest.raises(UserError, match="does not exist"):
        verify(*network, tmp_path / "absent.onnx", noise(0, 1, 32))


@needs_lce
def test_a_tflite_file_that_was_cut_off_is_named(network: tuple[ReActNet, InferenceGraph], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cut\.tflite is cut off or damaged"):
        check(network, tmp_path / "cut.tflite", lce.convert_to_lce(network[1])[:1000], images=2)
