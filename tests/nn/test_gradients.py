"""The units' own backward passes against plain formulas that autograd differentiates by itself.

A pseudo-gradient of sign is that of a smooth function f, so sign(x) is written f(x) + (sign(x) - f(x)) with the
bracket held constant: value and gradient are the definition's, and autograd knows nothing of ours.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from edgebnn.graph.shapes import UnitShape
from edgebnn.nn import BinaryConv2d, BinaryUnit, ReActNetConfig, RPReLU, RSign
from edgebnn.nn.convolution import convolve, weight_gradient_by_pixels, weight_gradient_by_rows
from edgebnn.nn.layers import _prelu_backward

GRADIENTS = ("polynomial", "clipped", "identity")
SHORTCUTS = {"identity": (5, 5, 3, 1), "pool": (5, 5, 3, 2), "repeat": (4, 8, 1, 1)}
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def antiderivative(x: Tensor, gradient: str) -> Tensor:
    """A function whose derivative is the pseudo-gradient."""
    if gradient == "polynomial":
        # Bi-Real-Net, equation 6.
        inner = torch.where(x < 0, 2 * x + x * x, 2 * x - x * x)
        return torch.where(x < -1, -torch.ones_like(x), torch.where(x < 1, inner, torch.ones_like(x)))
    return x.clamp(-1, 1) if gradient == "clipped" else x


def plain_sign(x: Tensor, gradient: str) -> Tensor:
    smooth = antiderivative(x, gradient)
    return smooth + (torch.where(x >= 0, 1.0, -1.0).to(x.dtype) - smooth).detach()


def plain_conv(conv: BinaryConv2d, x: Tensor) -> Tensor:
    weight, border = conv.weight, conv.weight.shape[2] // 2
    if conv.binary:
        alpha = weight.abs().mean(dim=(1, 2, 3), keepdim=True).detach()
        if conv.gradient == "scaled-identity":
            # BURN's code: signs with the identity as gradient, times a constant alpha.
            weight = alpha * plain_sign(weight, "identity")
        else:
            smooth = antiderivative(weight, conv.gradient)
            weight = smooth + (torch.where(weight >= 0, alpha, -alpha) - smooth).detach()
    x = F.pad(x, (border,) * 4, value={"zero": 0.0, "one": 1.0}[conv.padding])
    return F.conv2d(x, weight, stride=conv.stride)


def plain_unit(unit: BinaryUnit, x: Tensor) -> Tensor:
    shifted = x + unit.sign.shift.view(1, -1, 1, 1)
    out = plain_conv(unit.conv, plain_sign(shifted, unit.sign.gradient) if unit.sign.binary else shifted)
    if unit.shortcut == "pool":
        x = F.avg_pool2d(x, 2)
    elif unit.shortcut == "repeat":
        x = torch.cat([x, x], dim=1)
    seen = unit.norm(out) + x + unit.act.shift_in.view(1, -1, 1, 1)
    slope = unit.act.slope.view(1, -1, 1, 1)
    return torch.where(seen > 0, seen, slope * seen) + unit.act.shift_out.view(1, -1, 1, 1)


def random_unit(shortcut: str, **config: object) -> BinaryUnit:
    torch.manual_seed(3)
    unit = BinaryUnit(UnitShape(*SHORTCUTS[shortcut], shortcut), ReActNetConfig(**config)).double()  # type: ignore[arg-type]
    for parameter in unit.parameters():
        # Some weights lie beyond 1, some inputs too, and some slopes are negative.
        parameter.data.normal_(std=0.7)
    return unit


def gradients(module: nn.Module, out: Tensor, x: Tensor) -> dict[str, Tensor]:
    upstream = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5)).to(out.dtype)
    names, parameters = zip(*module.named_parameters())
    return dict(zip(("x", *names), torch.autograd.grad(out, (x, *parameters), upstream)))


def check_unit(unit: BinaryUnit, x: Tensor, **tolerance: float) -> None:
    expected = plain_unit(unit, x)
    wanted = gradients(unit, expected, x)
    out = unit(x)
    torch.testing.assert_close(out, expected, **tolerance)
    for name, gradient in gradients(unit, out, x).items():
        torch.testing.assert_close(gradient, wanted[name], **tolerance, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("padding", ["zero", "one"])
@pytest.mark.parametrize("shortcut", list(SHORTCUTS))
@pytest.mark.parametrize("binary", [(True, True), (True, False), (False, True), (False, False)])
def test_every_gradient_of_a_unit_is_the_plain_one(
    binary: tuple[bool, bool], shortcut: str, padding: str, gradient: str
) -> None:
    precision = {"binary_activations": binary[0], "binary_weights": binary[1]}
    kinds = {"activation_gradient": gradient, "weight_gradient": gradient}
    unit = random_unit(shortcut, padding=padding, **precision, **kinds)
    x = torch.randn(2, SHORTCUTS[shortcut][0], 6, 8, dtype=torch.float64, requires_grad=True)
    check_unit(unit, x, **EXACT)


@pytest.mark.parametrize("activations", [True, False])
@pytest.mark.parametrize("padding", ["zero", "one"])
@pytest.mark.parametrize("shortcut", list(SHORTCUTS))
def test_the_gradients_of_a_unit_of_burn_are_the_public_codes(shortcut: str, padding: str, activations: bool) -> None:
    kinds = {"activation_gradient": "clipped", "weight_gradient": "scaled-identity"}
    unit = random_unit(shortcut, padding=padding, binary_activations=activations, **kinds)
    x = torch.randn(2, SHORTCUTS[shortcut][0], 6, 8, dtype=torch.float64, requires_grad=True)
    check_unit(unit, x, **EXACT)


def test_the_fast_way_of_a_cpu_gives_the_same_in_float32() -> None:
    # Values and gradients of a few hundred terms: 1e-5 is a hundred roundings.
    unit = random_unit("identity").float()
    x = torch.randn(2, 5, 9, 7).contiguous(memory_format=torch.channels_last).requires_grad_()
    check_unit(unit, x, rtol=1e-5, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_weight_gradient_by_products_is_the_convolutions(data: st.DataObject) -> None:
    size = st.integers(1, 7)
    images, inputs, outputs = (data.draw(st.integers(1, 4)) for _ in range(3))
    kernel, stride = data.draw(st.sampled_from([1, 3, 5])), data.draw(st.integers(1, 3))
    border = data.draw(st.integers(0, kernel // 2))
    height, width = (max(data.draw(size), kernel - 2 * border) for _ in range(2))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    x = torch.randn(images, inputs, height, width, dtype=torch.float64, generator=generator)
    weight = torch.zeros(outputs, inputs, kernel, kernel, dtype=torch.float64, requires_grad=True)
    out = F.conv2d(x, weight, stride=stride, padding=border)
    upstream = torch.randn(out.shape, dtype=torch.float64, generator=generator)
    (expected,) = torch.autograd.grad(out, weight, upstream)
    for way in (weight_gradient_by_rows, weight_gradient_by_pixels):
        found = way(upstream, x, kernel=kernel, stride=stride, padding=border)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("side", "stride"), [(1, 1), (2, 2), (5, 1), (11, 1), (18, 2)])
@pytest.mark.parametrize("signs", [True, False])
def test_wide_convolutions_have_the_plain_gradients(side: int, stride: int, signs: bool) -> None:
    # 32 channels is where CPUs change to matrix products, and 8x8 outputs where one kind of them ends.
    conv = BinaryConv2d(32, 32, 3, stride=stride, binary=signs).double()
    x = plain_sign(torch.randn(2, 32, side, side, dtype=torch.float64), "identity").requires_grad_()
    out, expected = conv(x, signs=signs), plain_conv(conv, x)
    upstream = torch.randn_like(out)
    found, wanted = (torch.autograd.grad(y, (x, conv.weight), upstream) for y in (out, expected))
    torch.testing.assert_close(found, wanted, **EXACT)


def test_a_convolution_of_mixed_precision_is_torchs() -> None:
    x, weight = torch.randn(2, 32, 5, 5, requires_grad=True), torch.randn(32, 32, 3, 3, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, expected = convolve(x, weight, stride=1, padding=1), F.conv2d(x, weight, padding=1)
    assert out.dtype == torch.bfloat16
    found, wanted = (torch.autograd.grad(y.float().square().sum(), (x, weight)) for y in (out, expected))
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_the_prelus_backward_pass_is_torchs_bit_for_bit() -> None:
    x, upstream = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    x[0, 0, 0, :2] = torch.tensor([0.0, -0.0])
    slope = torch.tensor([0.25, -1.5, 3.0])[None, :, None, None]
    found = _prelu_backward(upstream, x, slope)
    expected = torch.ops.aten._prelu_kernel_backward(upstream, x, slope)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_gradients_are_the_plain_ones_rounded(dtype: torch.dtype) -> None:
    unit = random_unit("identity").float().eval()
    with torch.no_grad():
        # Outputs of every convolution are whole numbers of up to 45, which either type holds.
        unit.conv.weight.copy_(0.5 * torch.where(unit.conv.weight >= 0, 1.0, -1.0))
    x = torch.randn(2, 5, 6, 8, requires_grad=True)
    with torch.autocast("cpu", dtype):
        out = unit(x)
        expected = plain_unit(unit, x)
    assert unit.conv(unit.sign(x)).dtype == torch.float32
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)
    wanted = gradients(unit, expected, x)
    # Both round the same gradients, but add them up in different orders.
    step = 0.05 if dtype == torch.bfloat16 else 0.005
    for name, gradient in gradients(unit, out, x).items():
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, wanted[name], rtol=step, atol=step * wanted[name].abs().max().item())


def kept_bytes(unit: nn.Module, x: Tensor) -> int:
    """Bytes of the tensors that the graph of unit(x) keeps, x and the parameters aside."""
    known = {tensor.untyped_storage().data_ptr() for tensor in (x, *unit.parameters(), *unit.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = unit(x)
    total = sum(kept.values())
    del out
    return total


def test_a_unit_keeps_a_byte_and_two_floats_an_element() -> None:
    unit = random_unit("identity").float()
    x = torch.randn(4, 5, 32, 32, requires_grad=True)
    # The signs; the convolution's output, for BatchNorm; what the PReLU sees. BatchNorm's few statistics besides.
    assert kept_bytes(unit, x) == pytest.approx(x.numel() * (1 + 4 + 4), rel=0.02)
    with torch.no_grad():
        assert kept_bytes(unit, x) == 0


def test_channels_last_is_kept_and_gives_the_same() -> None:
    unit = random_unit("pool")
    x = torch.randn(2, 5, 6, 8, dtype=torch.float64, requires_grad=True)
    wanted, expected = gradients(unit, unit(x), x), unit(x)
    unit.to(memory_format=torch.channels_last)
    last = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    out = unit(last)
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, expected, **EXACT)
    found = gradients(unit, out, last)
    for name in ("x", "conv.weight"):
        assert found[name].is_contiguous(memory_format=torch.channels_last)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], **EXACT)


@pytest.mark.parametrize("frozen", ["sign.shift", "conv.weight", "act.slope", "x"])
def test_what_needs_no_gradient_gets_none_and_the_rest_is_the_same(frozen: str) -> None:
    unit = random_unit("identity")
    x = torch.randn(2, 5, 6, 8, dtype=torch.float64, requires_grad=True)
    tensors = {"x": x, **dict(unit.named_parameters())}
    wanted = dict(zip(tensors, torch.autograd.grad(unit(x).square().sum(), list(tensors.values()))))
    tensors[frozen].requires_grad_(False)
    trained = {name: tensor for name, tensor in tensors.items() if name != frozen}
    found = torch.autograd.grad(unit(x).square().sum(), list(trained.values()))
    for name, gradient in zip(trained, found):
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-10, atol=1e-8)


def test_the_compilers_graph_gives_the_same() -> None:
    unit = random_unit("pool").eval()
    x = torch.randn(2, 5, 6, 8, dtype=torch.float64, requires_grad=True)
    wanted = gradients(unit, unit(x), x)
    # aot_eager traces forward and backward as torch.compile does, and generates no code.
    compiled = torch.compile(unit, backend="aot_eager", fullgraph=True)
    for name, gradient in gradients(unit, compiled(x), x).items():
        torch.testing.assert_close(gradient, wanted[name], **EXACT)


def test_rprelu_and_rsign_by_themselves() -> None:
    torch.manual_seed(6)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    act = RPReLU(3).double()
    sign = RSign(3, gradient="clipped").double()
    for parameter in (*act.parameters(), *sign.parameters()):
        parameter.data.normal_()
    seen = x + act.shift_in.view(1, 3, 1, 1)
    expected = torch.where(seen > 0, seen, act.slope.view(1, 3, 1, 1) * seen) + act.shift_out.view(1, 3, 1, 1)
    torch.testing.assert_close(gradients(act, act(x), x), gradients(act, expected, x), **EXACT)
    expected = plain_sign(x + sign.shift.view(1, 3, 1, 1), "clipped")
    torch.testing.assert_close(gradients(sign, sign(x), x), gradients(sign, expected, x), **EXACT)
