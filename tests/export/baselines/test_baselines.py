from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from edgebnn.errors import UserError
from edgebnn.export.baselines import onnx as baselines
from edgebnn.export.baselines.random_networks import reactnet
from edgebnn.nn import ReActNetConfig, RSign
from edgebnn.runtime import load_model
from tests.networks import noise

SIDE = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("baselines")
    for name in baselines.NETWORKS:
        baselines.write_onnx(name, folder, SIDE)
        baselines.write_int8(name, folder, SIDE)
    return folder


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def executed(path: Path, tmp_path: Path) -> Counter[str]:
    """The operators ONNX Runtime makes of a file."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return operators(tmp_path / "optimised.onnx")


@pytest.mark.parametrize("name", baselines.NETWORKS)
def test_float_file_is_the_torch_network(folder: Path, name: str) -> None:
    images = noise(5, 3, SIDE)
    with torch.inference_mode():
        wanted = baselines.build_network(name, SIDE)(torch.from_numpy(images)).numpy()
    model = load_model(folder / f"{name}.onnx")
    assert (model.info.name, model.described, model.batch) == (name, False, None)
    np.testing.assert_allclose(model.run(images), wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
    found = operators(model.path)
    assert found["BatchNormalization"] == 0
    assert {opset.version for opset in onnx.load(model.path).opset_import} == {17}


@pytest.mark.parametrize(
    # Measured 0.12 and 0.03, 0.51 and 0.15, 0.62 and 0.02. A random network at 64 pixels amplifies the noise of 8 bits;
    # a rounding that differs by one step is such noise too.
    ("name", "bound", "emulated_bound"),
    [("resnet18", 0.2, 0.06), ("mobilenet_v2", 0.8, 0.3), ("mobilenet_v3_small", 0.8, 0.06)],
)
def test_int8_file_approximates_the_float_one(folder: Path, name: str, bound: float, emulated_bound: float) -> None:
    images = noise(6, 8, SIDE)
    wanted = load_model(folder / f"{name}.onnx").run(images)
    path = folder / f"{name}-int8.onnx"
    found = load_model(path).run(images)
    with torch.inference_mode():
        unlike = baselines.build_network(name, SIDE, seed=1)(torch.from_numpy(images)).numpy()
    assert 1e-4 < distance(found, wanted) < bound
    # The bound tells networks apart.
    assert distance(unlike, wanted) > 1.0
    # Its int8 kernels compute what the file says: the same file with its floats quantised and dequantised in place.
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    assert distance(found, session.run(None, {"image": images})[0]) < emulated_bound


def distance(found: np.ndarray, wanted: np.ndarray) -> float:
    """Norm of the difference over the norm of what was wanted."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize(("name", "convolutions"), [("resnet18", 20), ("mobilenet_v2", 52), ("mobilenet_v3_small", 52)])
def test_int8_file_runs_on_int8_operators(folder: Path, tmp_path: Path, name: str, convolutions: int) -> None:
    assert operators(folder / f"{name}.onnx")["Conv"] == convolutions
    path = folder / f"{name}-int8.onnx"
    weights = [tensor for tensor in onnx.load(path).graph.initializer if len(tensor.dims) == 4]
    assert len(weights) == convolutions
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.INT8}
    # 7 bits, so that sums of two products fit 16 (see baselines.py).
    assert max(np.abs(onnx.numpy_helper.to_array(tensor).astype(int)).max() for tensor in weights) <= 64
    ran = executed(path, tmp_path)
    assert ran["QLinearConv"] == convolutions
    assert ran["Conv"] == ran["FusedConv"] == 0
    assert path.stat().st_size < 0.3 * (folder / f"{name}.onnx").stat().st_size


def denormal_share(x: torch.Tensor) -> float:
    tiny = torch.finfo(torch.float32).tiny
    return float(((x != 0) & (x.abs() < tiny)).float().mean())


def spreads(model: nn.Module, images: torch.Tensor) -> list[tuple[float, float]]:
    """Of each layer's output the standard deviation and the share of denormal floats."""
    found: list[tuple[float, float]] = []
    for module in model.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda _m, _i, out: found.append((float(out.std()), denormal_share(out))))
    with torch.no_grad():
        model(images)
    return found


@pytest.mark.parametrize("name", baselines.NETWORKS)
def test_no_activation_is_on_its_way_to_zero(name: str) -> None:
    images = torch.from_numpy(noise(7, 2, SIDE))
    found = spreads(baselines.build_network(name, SIDE), images)
    assert len(found) > 50
    assert max(share for _, share in found) == 0
    assert min(spread for spread, _ in found) > 1e-3


def test_that_check_can_fail() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        raw = baselines.NETWORKS["mobilenet_v2"](weights=None).eval()
    images = torch.from_numpy(noise(7, 2, SIDE))
    assert min(spread for spread, _ in spreads(raw, images)) < 1e-6
    assert denormal_share(torch.tensor([0.0, 1e-40, 1.0, -1e-39])) == 0.5


@pytest.mark.parametrize("binary", [True, False])
def test_a_random_reactnets_bits_are_of_both_signs(binary: bool) -> None:
    model = reactnet(ReActNetConfig(width=0.25, binary_activations=binary, binary_weights=binary), SIDE)
    shares = []
    for module in model.modules():
        if isinstance(module, RSign):
            module.register_forward_pre_hook(
                lambda sign, inputs: shares.append(float((inputs[0] + sign.shift[:, None, None] >= 0).float().mean()))
            )
    found = spreads(model, torch.from_numpy(noise(8, 2, SIDE)))
    assert len(shares) == 26
    assert 0.3 < min(shares) < max(shares) < 0.7
    assert max(share for _, share in found) == 0
    assert 0.1 < min(spread for spread, _ in found) < max(spread for spread, _ in found) < 100


def test_drawing_leaves_torchs_random_numbers_alone() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    baselines.build_network("mobilenet_v3_small", 32)
    reactnet(ReActNetConfig(width=0.25), 32)
    assert torch.equal(torch.rand(4), wanted)


def test_an_unknown_baseline_is_named() -> None:
    with pytest.raises(UserError, match="Unknown baseline 'vgg'"):
        baselines.build_network("vgg", 32)
