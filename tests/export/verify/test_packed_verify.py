"""Verification of packed files: true ones pass, and each way to be wrong is found."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from edgebnn.errors import UserError
from edgebnn.export.fold import fold
from edgebnn.export.onnx.packed import convert_to_packed_onnx
from edgebnn.export.verify.parity import Limits, Parity, verify
from edgebnn.graph import InferenceGraph, ModelInfo
from edgebnn.nn import ReActNet, ReActNetConfig
from tests.export.edit import with_initializer
from tests.networks import noise, random_network

LIMITS = Limits()


@pytest.fixture(scope="module")
def network() -> tuple[ReActNet, InferenceGraph]:
    model = random_network(11, ReActNetConfig(width=0.125, head=(10,)))
    return model, fold(model, ModelInfo(resolution=32))


def check(network: tuple[ReActNet, InferenceGraph], path: Path, data: bytes) -> Parity:
    path.write_bytes(data)
    return verify(*network, path, noise(0, 20, 32), batch=7)


@pytest.mark.parametrize("int8_head", [False, True])
def test_a_true_file_passes(network: tuple[ReActNet, InferenceGraph], tmp_path: Path, int8_head: bool) -> None:
    found = check(network, tmp_path / "model.onnx", convert_to_packed_onnx(network[1], int8_head=int8_head))
    assert found.failures(LIMITS) == []
    assert (found.format, found.int8_head, found.images) == ("onnx-packed", int8_head, 20)
    assert (found.units_identical, found.units_exact, found.packed_wrong) == (26, 26, 0)
    assert (found.max_head_rounding > 1e-4) == int8_head
    assert found.max_head_rounding < 0.01 * found.max_logit


def test_one_wrong_weight_bit_is_found(network: tuple[ReActNet, InferenceGraph], tmp_path: Path) -> None:
    def flip(weight: np.ndarray) -> None:
        weight.flat[0] ^= 1

    found = check(
        network, tmp_path / "model.onnx", with_initializer(convert_to_packed_onnx(network[1]), "unit_08.weight", flip)
    )
    assert (found.units_exact, found.packed_wrong) == (25, 0)
    assert "1 of 26 units differ from the reference" in found.failures(LIMITS)[0]


def test_the_least_change_of_the_stem_is_found(network: tuple[ReActNet, InferenceGraph], tmp_path: Path) -> None:
    def nudge(bias: np.ndarray) -> None:
        bias[:] = np.nextafter(bias, np.float32(9))

    found = check(
        network, tmp_path / "model.onnx", with_initializer(convert_to_packed_onnx(network[1]), "stem.bias", nudge)
    )
    assert (found.units_exact, found.stem_error > 1, found.packed_wrong) == (26, True, 0)
    assert "the stem differs from the reference" in found.failures(LIMITS)[0]


def test_a_changed_threshold_of_the_first_unit_is_found(
    network: tuple[ReActNet, InferenceGraph], tmp_path: Path
) -> None:
    def shift(threshold: np.ndarray) -> None:
        threshold += 0.3

    found = check(
        network,
        tmp_path / "model.onnx",
        with_initializer(convert_to_packed_onnx(network[1]), "unit_00.threshold", shift),
    )
    assert (found.units_exact, found.packed_wrong, found.stem_error) == (25, 1, 0)


def test_a_packed_file_with_a_stem_of_standard_operators_passes(
    network: tuple[ReActNet, InferenceGraph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As version 1 of the operators had it: the first unit compares, and the stem may round."""
    monkeypatch.setattr("edgebnn.export.onnx.packed.has_own_operator", lambda stem: False)
    found = check(network, tmp_path / "model.onnx", convert_to_packed_onnx(network[1]))
    assert found.failures(LIMITS) == []
    assert 0 < found.stem_error < 1


def test_the_least_change_of_a_scale_is_found(network: tuple[ReActNet, InferenceGraph], tmp_path: Path) -> None:
    def nudge(scale: np.ndarray) -> None:
        scale[:] = np.nextafter(scale, np.float32(9))

    # Within what rounding explains, and a packed unit may not round.
    found = check(
        network, tmp_path / "model.onnx", with_initializer(convert_to_packed_onnx(network[1]), "unit_05.scale", nudge)
    )
    assert found.units_exact == 25
    assert found.failures(LIMITS)


def test_a_changed_threshold_is_found(network: tuple[ReActNet, InferenceGraph], tmp_path: Path) -> None:
    def shift(threshold: np.ndarray) -> None:
        threshold += 0.3

    # Unit 7 packs by it and hands on other bits than those of its output; unit 8 computes with them.
    found = check(
        network,
        tmp_path / "model.onnx",
        with_initializer(convert_to_packed_onnx(network[1]), "unit_08.threshold", shift),
    )
    assert (found.units_exact, found.packed_wrong) == (25, 1)
    assert any("1 parts pass on bits" in failure for failure in found.failures(LIMITS))


def test_a_wrong_average_is_found(network: tuple[ReActNet, InferenceGraph], tmp_path: Path) -> None:
    """Unit 5 gives an average, and unit 6 is given another."""
    model = onnx.load_from_string(convert_to_packed_onnx(network[1]))
    nodes = model.graph.node
    place = next(number for number, node in enumerate(nodes) if node.name == "unit_05")
    nodes[place].output[:] = ["unit_05", "unit_05.bits", "unit_05.true"]
    nodes.insert(place + 1, helper.make_node("Neg", ["unit_05.true"], ["unit_05.average"], "wrong"))
    found = check(network, tmp_path / "model.onnx", model.SerializeToString())
    assert (found.units_exact, found.packed_wrong) == (25, 1)
    assert any("or an average that do not match" in failure for failure in found.failures(LIMITS))


@pytest.mark.parametrize("name", ["head.0.weight.scale", "head.0.weight.int8", "head.0.bias"])
def test_a_wrong_head_is_found(network: tuple[ReActNet, InferenceGraph], tmp_path: Path, name: str) -> None:
    def change(value: np.ndarray) -> None:
        if value.dtype == np.int8:
            value[3] = -value[3]
        else:
            value *= np.float32(1.02)

    data = with_initializer(convert_to_packed_onnx(network[1], int8_head=True), name, change)
    found = check(network, tmp_path / "model.onnx", data)
    assert (found.units_exact, found.head_error > 1) == (26, True)
    assert "the head differs from the reference" in found.failures(LIMITS)[0]


def test_another_packed_network_is_refused(network: tuple[ReActNet, InferenceGraph], tmp_path: Path) -> None:
    other = fold(random_network(1, ReActNetConfig(width=0.25, head=(10,))), ModelInfo(resolution=32))
    with pytest.raises(UserError, match=r"model\.onnx was made from another network"):
        check(network, tmp_path / "model.onnx", convert_to_packed_onnx(other))
