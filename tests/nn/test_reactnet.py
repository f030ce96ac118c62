import pytest
import torch
from torch.nn import functional as F

from edgebnn.errors import UserError
from edgebnn.graph import ops
from edgebnn.nn import BinaryConv2d, ReActNet, ReActNetConfig, RPReLU, RSign


@pytest.mark.parametrize("padding", ["zero", "one"])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2)])
def test_binary_convolution_is_alpha_times_sign(padding: str, kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    conv = BinaryConv2d(5, 7, kernel, stride=stride, padding=padding).double()  # type: ignore[arg-type]
    x = torch.randn(2, 5, 6, 6, dtype=torch.float64)
    border = kernel // 2
    padded = F.pad(x, (border,) * 4, value={"zero": 0.0, "one": 1.0}[padding])
    out = conv(x)
    for o in range(7):
        weight = conv.weight[o]
        alpha = weight.abs().sum() / weight.numel()
        signs = torch.where(weight >= 0, 1.0, -1.0).double()
        expected = alpha * F.conv2d(padded, signs[None], stride=stride)[:, 0]
        torch.testing.assert_close(out[:, o], expected, rtol=1e-12, atol=1e-12)


def test_weight_gradient_is_the_clipped_one_without_alpha() -> None:
    # d out / d W as published: alpha takes no part, and nothing passes beyond |W| = 1.
    conv = BinaryConv2d(1, 1, 1).double()
    for value, expected in ((0.5, 3.0), (-1.0, 3.0), (1.5, 0.0)):
        conv.weight.data.fill_(value)
        conv.weight.grad = None
        conv(torch.full((1, 1, 1, 1), 3.0, dtype=torch.float64)).sum().backward()
        assert conv.weight.grad is not None
        assert conv.weight.grad.item() == expected


def test_rsign_and_rprelu_equal_their_formulas() -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 3, 4, 4)
    sign, act = RSign(3), RPReLU(3)
    for parameter in [*sign.parameters(), *act.parameters()]:
        parameter.data.normal_()
    shifted = x + sign.shift.view(1, 3, 1, 1)
    assert torch.equal(sign(x), torch.where(shifted >= 0, 1.0, -1.0))
    moved = x + act.shift_in.view(1, 3, 1, 1)
    expected = torch.where(moved >= 0, moved, act.slope.view(1, 3, 1, 1) * moved) + act.shift_out.view(1, 3, 1, 1)
    torch.testing.assert_close(act(x), expected, rtol=0, atol=0)


def test_parameters_of_reactnet_a_equal_the_count() -> None:
    with torch.device("meta"):
        model = ReActNet(ReActNetConfig())
    weights = sum(unit.conv.weight.numel() for unit in model.units)  # type: ignore[union-attr]
    assert weights == 28_253_184 == ops.totals(ops.count(ops.reactnet_a(), 224))["binary_weights"]


@pytest.mark.parametrize(("activations", "weights"), [(True, True), (True, False), (False, False)])
def test_every_parameter_learns(activations: bool, weights: bool) -> None:
    torch.manual_seed(2)
    config = ReActNetConfig(width=0.125, head=(8, 4), binary_activations=activations, binary_weights=weights)
    model = ReActNet(config)
    model(torch.randn(4, 3, 32, 32)).square().sum().backward()
    still = [name for name, parameter in model.named_parameters() if not parameter.grad.any()]  # type: ignore[union-attr]
    assert still == []


def test_a_resolution_the_network_cannot_take_is_refused() -> None:
    model = ReActNet(ReActNetConfig(width=0.125, stem_stride=1))
    with pytest.raises(UserError, match="resolution 28 .* total stride 16"):
        model(torch.zeros(1, 3, 28, 28))
