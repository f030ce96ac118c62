"""Verification passes a true file and catches each way a file can be wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgebnn.errors import UserError
from edgebnn.graph import InferenceGraph, ModelInfo
from edgebnn.nn import ReActNet, ReActNetConfig
from export import lce
from export.fold import fold
from export.onnx import convert
from export.verify import Limits, Parity, verify
from tests.networks import noise, random_network

LIMITS = Limits()


@pytest.fixture(scope="module")
def network() -> tuple[ReActNet, InferenceGraph]:
    model = random_network(11, ReActNetConfig(width=0.125, head=(10,)))
    return model, fold(model, ModelInfo(resolution=32))


def check(network: tuple[ReActNet, InferenceGraph], path: Path, data: bytes, images: int = 20) -> Parity:
    path.write_bytes(data)
    return verify(*network, path, noise(0, images, 32), batch=7)


def with_initializer(data: bytes, name: str, change: object) -> bytes:
    """An ONNX file with one constant changed."""
    model = onnx.load_from_string(data)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            value = numpy_helper.to_array(tensor).copy()
            change(value)  # type: ignore[operator]
            tensor.CopyFrom(numpy_helper.from_array(value, name))
            return model.SerializeToString()
    raise AssertionError(name)


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_a_true_file_passes(network: tuple[ReActNet, InferenceGraph], tmp_path: Path, suffix: str) -> None:
    data = convert(network[1]) if suffix == ".onnx" else lce.convert(network[1])
    found = check(network, tmp_path / f"model{suffix}", data)
    assert found.failures(LIMITS) == []
    assert (found.units, found.units_exact, found.images) == (26, 26, 20)
    # ONNX Runtime gives the reference's very floats; LCE has an arithmetic of its own (see `rounding_bound`).
    assert found.units_identical >= {".onnx": 26, ".tflite": 0}[suffix]


def test_one_wrong_weight_bit_is_found(network: tuple[ReActNet, InferenceGraph], tmp_path: Path) -> None:
    def flip(weight: np.ndarray) -> None:
        weight[0, 0, 0, 0] *= -1

    found = check(network, tmp_path / "model.onnx", with_initializer(convert(network[1]), "unit_08.weight", flip))
    assert found.units_exact == 25
    assert "1 of 26 units differ from the reference" in found.failures(LIMITS)[0]


def test_nan_is_found(network: tuple[ReActNet, InferenceGraph], tmp_path: Path) -> None:
    def spoil(bias: np.ndarray) -> None:
        bias[0, 0] = np.nan

    found = check(network, tmp_path / "model.onnx", with_initializer(convert(network[1]), "unit_25.bias", spoil))
    assert found.units_exact == 25


def test_another_stem_is_found_by_its_bits(network: tuple[ReActNet, InferenceGraph], tmp_path: Path) -> None:
    # All units are right given their input, but the input is not PyTorch's.
    def shift(bias: np.ndarray) -> None:
        bias += 0.2

    found = check(network, tmp_path / "model.onnx", with_initializer(convert(network[1]), "stem.bias", shift))
    assert found.units_exact == 26
    assert found.bits_differing > LIMITS.bits_differing
    assert any("of the bits differ" in failure for failure in found.failures(LIMITS))


def test_another_head_is_found_by_its_answers(network: tuple[ReActNet, InferenceGraph], tmp_path: Path) -> None:
    def swap(weight: np.ndarray) -> None:
        weight[:] = weight[::-1].copy()

    found = check(network, tmp_path / "model.onnx", with_initializer(convert(network[1]), "head.0.weight", swap))
    assert found.top1_agreement < LIMITS.top1_agreement
    assert any("top-1 agrees" in failure for failure in found.failures(LIMITS))


def test_files_that_cannot_be_verified_are_named(network: tuple[ReActNet, InferenceGraph], tmp_path: Path) -> None:
    data = convert(network[1])
    other = fold(random_network(1, ReActNetConfig(width=0.25, head=(10,))), ModelInfo(resolution=32))
    head = replace(network[1].head, offset=np.zeros(8, np.float32), layers=())
    fewer = replace(network[1], units=network[1].units[:2], head=head)
    cases = {
        "cut.onnx": (data[: len(data) // 2], "no ONNX model that runs here"),
        "cut.tflite": (lce.convert(network[1])[:1000], "cut.tflite"),
        "other.onnx": (convert(other), "made from another network"),
        "fewer.onnx": (convert(fewer), "made from another network"),
        "model.bin": (data, r"neither \.onnx nor \.tflite"),
    }
    for name, (content, message) in cases.items():
        with pytest.raises(UserError, match=message):
            check(network, tmp_path / name, content, images=2)
    with pytest.raises(UserError, match="does not exist"):
        verify(*network, tmp_path / "absent.onnx", noise(0, 1, 32))
