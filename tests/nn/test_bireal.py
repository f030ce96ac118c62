import pytest
import torch
from torch.nn import functional as F

from edgebnn.errors import UserError
from edgebnn.nn import BiRealConfig

ARCHS = ["birealnet-18", "reactnet-18"]
SMALL = {"width": 1 / 16, "stem_stride": 1, "head": (8, 4)}


@pytest.mark.parametrize(("arch", "extra"), [("birealnet-18", 0), ("reactnet-18", 14_912)])
def test_parameters_are_those_of_resnet_18_and_the_shifts_and_slopes(arch: str, extra: int) -> None:
    # ResNet-18 has as many convolutions and BatchNorms of the same shapes: 11,689,512 parameters (torchvision).
    # ReActNet-18: a shift an input and two shifts and a slope an output, four units of 64, 128, 256, 512 channels.
    inputs = 4 * 64 + (64 + 3 * 128) + (128 + 3 * 256) + (256 + 3 * 512)
    assert inputs + 3 * 4 * (64 + 128 + 256 + 512) == 14_912
    with torch.device("meta"):
        model = BiRealConfig(arch=arch).build()  # type: ignore[arg-type]
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_689_512 + extra


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(("activations", "weights"), [(True, True), (True, False), (False, False)])
def test_every_parameter_learns(arch: str, activations: bool, weights: bool) -> None:
    torch.manual_seed(2)
    model = BiRealConfig(arch=arch, binary_activations=activations, binary_weights=weights, **SMALL).build()  # type: ignore[arg-type]
    model(torch.randn(4, 3, 16, 16)).square().sum().backward()
    still = [name for name, parameter in model.named_parameters() if not parameter.grad.any()]  # type: ignore[union-attr]
    assert still == []


@pytest.mark.parametrize("padding", ["zero", "one"])
def test_a_unit_that_halves_is_its_formula(padding: str) -> None:
    torch.manual_seed(3)
    model = BiRealConfig(arch="reactnet-18", padding=padding, **SMALL).build().double().eval()  # type: ignore[arg-type]
    unit = model.units[4]
    for tensor in unit.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.1)
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    unit.sign.shift.data.normal_()
    unit.conv.weight.data.normal_()

    def norm(module: torch.nn.BatchNorm2d, y: torch.Tensor) -> torch.Tensor:
        mean, var = module.running_mean, module.running_var
        gain = module.weight / (var + 1e-5).sqrt()  # type: ignore[operator]
        return gain.view(-1, 1, 1) * (y - mean.view(-1, 1, 1)) + module.bias.view(-1, 1, 1)  # type: ignore[union-attr]

    bits = torch.where(x + unit.sign.shift.view(4, 1, 1) >= 0, 1.0, -1.0).double()
    bits = F.pad(bits, (1, 1, 1, 1), value={"zero": 0.0, "one": 1.0}[padding])
    alpha = unit.conv.weight.abs().mean((1, 2, 3))
    out = F.conv2d(bits, unit.conv.weight.sign(), stride=2) * alpha.view(-1, 1, 1)
    pooled = (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4
    projected = torch.einsum("nchw,oc->nohw", pooled, unit.downsample[1].weight[:, :, 0, 0])
    z = norm(unit.norm, out) + norm(unit.downsample[2], projected) + unit.act.shift_in.view(-1, 1, 1)
    expected = torch.where(z >= 0, z, unit.act.slope.view(-1, 1, 1) * z) + unit.act.shift_out.view(-1, 1, 1)
    torch.testing.assert_close(unit(x), expected, rtol=1e-12, atol=1e-12)


def test_the_real_valued_twin_of_bi_real_net_clips() -> None:
    config = BiRealConfig(arch="birealnet-18", binary_activations=False, binary_weights=False, **SMALL)  # type: ignore[arg-type]
    sign = config.build().units[0].sign
    assert sign(torch.tensor([-3.0, -1.0, 0.25, 7.0])).tolist() == [-1.0, -1.0, 0.25, 1.0]


@pytest.mark.parametrize(("stem_stride", "wrong", "right"), [(2, 48, 64), (1, 12, 16)])
def test_a_resolution_the_network_cannot_take_is_refused(stem_stride: int, wrong: int, right: int) -> None:
    model = BiRealConfig(arch="birealnet-18", width=1 / 16, stem_stride=stem_stride, head=(3,)).build().eval()
    with pytest.raises(UserError, match=f"resolution {wrong} does not divide"):
        model(torch.zeros(1, 3, wrong, wrong))
    assert model(torch.zeros(1, 3, right, right)).isfinite().all()


def test_what_makes_no_network_is_refused() -> None:
    with pytest.raises(UserError, match="Unknown arch 'birealnet-34'"):
        BiRealConfig(arch="birealnet-34")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="multiple of 1/64"):
        BiRealConfig(width=0.3)
