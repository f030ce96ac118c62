"""The doctor on ONNX files as others write them: torch.onnx, ONNX Runtime's quantiser, by hand; and on none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from torch import Tensor, nn

from edgebnn.doctor import examine
from edgebnn.doctor.analysis.levels import infer_levels
from edgebnn.doctor.file_graph import FileGraph, Node
from edgebnn.doctor.file_graph import Tensor as Laid
from edgebnn.doctor.readers import onnx_tensors
from edgebnn.errors import UserError
from edgebnn.export.baselines import onnx as baselines

SIDE, CHANNELS = 8, 16


class Naive(nn.Module):
    """A binary convolution as published codes write it, the gradient's way around both signs left in."""

    def __init__(self, *, groups: int = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.weight = nn.Parameter(torch.randn(CHANNELS, CHANNELS // groups, 3, 3))
        self.groups = groups

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        around = torch.clamp(x, -1, 1)
        bits = torch.sign(x) - around + around
        return nn.functional.conv2d(bits, self.weight.sign() * 0.5, padding=1, groups=self.groups).mean((2, 3))


def exported(model: nn.Module, path: Path) -> Path:
    path.write_bytes(baselines.convert_module_to_onnx(model.eval(), SIDE))
    return path


def frozen(path: Path, weight: Tensor) -> Path:
    """The file with the binary convolution's weights stored, as an optimiser leaves them."""
    model = onnx.load(path)
    convolution = [node for node in model.graph.node if node.op_type == "Conv"][-1]
    model.graph.initializer.append(numpy_helper.from_array(weight.sign().numpy() / 2, "frozen"))
    convolution.input[1] = "frozen"
    onnx.save(model, path)
    return path


def test_a_sign_behind_its_gradients_way_around_is_seen(tmp_path: Path) -> None:
    model = Naive()
    path = exported(model, tmp_path / "naive.onnx")
    (finding,) = examine(path, core="cortex-a72").findings
    assert (finding.code, len(finding.where)) == ("weights not constant", 1)
    (finding,) = examine(frozen(path, model.weight.detach()), core="cortex-a72").findings
    assert (finding.code, len(finding.where)) == ("floats", 1)


def test_grouped_binary_convolutions_are_told_of_their_groups(tmp_path: Path) -> None:
    model = Naive(groups=2)
    path = frozen(exported(model, tmp_path / "grouped.onnx"), model.weight.detach())
    assert [finding.code for finding in examine(path, core="cortex-a72").findings] == ["channels"]


@pytest.mark.parametrize("formula", ["s-y+y", "y+s-y", "y-(y-s)", "(s+y)-y", "y+(s-y)"])
def test_a_straight_through_sign_in_any_order(formula: str) -> None:
    sums = {
        "s-y+y": [("Sub", "s", "y"), ("Add", "0", "y")],
        "y+s-y": [("Add", "y", "s"), ("Sub", "0", "y")],
        "y-(y-s)": [("Sub", "y", "s"), ("Sub", "y", "0")],
        "(s+y)-y": [("Add", "s", "y"), ("Sub", "0", "y")],
        "y+(s-y)": [("Sub", "s", "y"), ("Add", "y", "0")],
    }
    nodes = [Node("Sign", "s", ("x",), ("s",)), Node("Clip", "y", ("x",), ("y",))]
    nodes += [Node(kind, str(i), tuple(keys), (str(i),)) for i, (kind, *keys) in enumerate(sums[formula])]
    levels = infer_levels(FileGraph("onnx", 0, tuple(nodes), {"x": Laid("x", (1, 4))}, ("x",)))
    assert levels["1"] == frozenset((-1, 0, 1))
    assert "0" not in levels


def test_sums_that_only_look_alike_are_no_bits() -> None:
    nodes = [Node("Sign", "s", ("x",), ("s",)), Node("Clip", "y", ("x",), ("y",))]
    nodes += [
        Node("Sub", "d", ("s", "y"), ("d",)),
        Node("Sub", "e", ("d", "y"), ("e",)),
        Node("Add", "f", ("y", "y"), ("f",)),
    ]
    levels = infer_levels(FileGraph("onnx", 0, tuple(nodes), {"x": Laid("x", (1, 4))}, ("x",)))
    assert levels.keys() == {"s"}


def test_weights_in_a_file_beside_the_model_are_counted_and_looked_at(tmp_path: Path) -> None:
    model = Naive()
    path = frozen(exported(model, tmp_path / "whole.onnx"), model.weight.detach())
    split = tmp_path / "split" / "model.onnx"
    split.parent.mkdir()
    onnx.save(onnx.load(path), split, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    whole, beside = (examine(each, core="cortex-a72") for each in (path, split))
    assert beside.findings == whole.findings
    assert beside.convolutions == whole.convolutions
    sizes = [{part.name: part.bytes for part in report.parts} for report in (whole, beside)]
    assert sizes[0]["binary weights as floats"] == sizes[1]["binary weights as floats"] == 4 * CHANNELS**2 * 9
    assert sum(sizes[1].values()) == beside.bytes
    # With the alignment that lies between the constants left out.
    assert (
        split.stat().st_size < beside.bytes <= split.stat().st_size + (split.parent / "model.onnx.data").stat().st_size
    )
    (split.parent / "model.onnx.data").unlink()
    with pytest.raises(UserError, match=r"model\.onnx"):
        examine(split, core="cortex-a72")


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "absent"])
def test_no_file_but_those_beside_the_model_is_read(location: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "secret").write_bytes(bytes(64))
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    with pytest.raises((ValueError, OSError)):
        onnx_tensors.read_tensor(tensor.SerializeToString(), tmp_path / "model")
    assert onnx_tensors.read_tensor(tensor.SerializeToString(), None).stored == 0


@pytest.mark.parametrize("quant_format", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_int8_networks_are_integers_and_no_fault(quant_format: QuantFormat, tmp_path: Path) -> None:
    class Plain(nn.Sequential):
        def __init__(self) -> None:
            torch.manual_seed(0)
            pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 4))
            super().__init__(nn.Conv2d(3, CHANNELS, 3, padding=1), nn.ReLU(), nn.Conv2d(CHANNELS, CHANNELS, 3), *pool)

    path = exported(Plain(), tmp_path / "plain.onnx")
    images = np.random.default_rng(0).standard_normal((2, 3, SIDE, SIDE), dtype=np.float32)
    out = tmp_path / "int8.onnx"
    quantize_static(
        str(path), str(out), baselines._Images(images), quant_format=quant_format, weight_type=QuantType.QInt8
    )
    report = examine(out, core="cortex-a72")
    assert report.findings == ()
    macs = [(each.kind, each.kernel, each.macs) for each in report.convolutions]
    assert macs[:2] == [("integer", 3, 64 * 27 * CHANNELS), ("integer", 3, 36 * 9 * CHANNELS**2)]
    assert macs[2][2] == CHANNELS * 4
    parts = {part.name: part.bytes for part in report.parts}
    assert parts["int8 layers"] >= 27 * CHANNELS + 9 * CHANNELS**2
    assert not {"Conv", "QLinearConv"} & {each.kind for each in report.uncounted}


def test_constants_in_every_form_do_not_shift_the_nodes(tmp_path: Path) -> None:
    """Nodes without names are told apart by their number, from which ONNX Runtime leaves out Constants."""
    forms: list[dict[str, Any]] = [
        {"value_float": -1.0},
        {"value_floats": [1.0]},
        {"value_int": 3},
        {"value_ints": [1]},
    ]
    nodes = [helper.make_node("Constant", [], [f"c{i}"], **form) for i, form in enumerate(forms)]
    nodes += [
        helper.make_node("GreaterOrEqual", ["x", "zero"], ["at_least"]),
        helper.make_node("Where", ["at_least", "c1", "c0"], ["bits"]),
        helper.make_node("Conv", ["bits", "w"], ["y"], kernel_shape=[3, 3]),
    ]
    weight = np.random.default_rng(0).choice((-1, 1), (8, 8, 3, 3)).astype(np.float32)
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "constants",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 8, 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            # An empty constant is sound: torch.onnx writes them for Resize.
            [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
             numpy_helper.from_array(np.zeros(0, np.float32), "none")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )  # fmt: skip
    onnx.save(model, tmp_path / "m.onnx")
    report = examine(tmp_path / "m.onnx", core="cortex-a72")
    assert [finding.code for finding in report.findings] == ["floats"]
    assert [each.macs for each in report.convolutions] == [36 * 9 * 64]


@pytest.fixture
def huge(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def make(name: str, head: bytes) -> Path:
        path = tmp_path / name
        with path.open("wb") as file:
            file.write(head)
            file.truncate(1 << 31)
        return path

    return make


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["zeros.onnx", "zeros.tflite"])
def test_two_gigabytes_of_nothing_are_refused_at_once(name: str, huge: Callable[[str, bytes], Path]) -> None:
    with pytest.raises(UserError, match=name):
        examine(huge(name, b""), core="cortex-a72")
