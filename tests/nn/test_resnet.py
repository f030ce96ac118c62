import pytest
import torch
from torch.nn import functional as F
from torchvision.models import ResNet18_Weights, ResNet34_Weights, ResNet50_Weights

from edgebnn.errors import UserError
from edgebnn.nn import ResNetConfig


@pytest.mark.parametrize(
    ("arch", "weights"),
    [("resnet-18", ResNet18_Weights), ("resnet-34", ResNet34_Weights), ("resnet-50", ResNet50_Weights)],
)
def test_as_many_parameters_as_torchvision_publishes(arch: str, weights: type[ResNet18_Weights]) -> None:
    with torch.device("meta"):
        model = ResNetConfig(arch=arch).build()  # type: ignore[arg-type]
    assert sum(parameter.numel() for parameter in model.parameters()) == weights.IMAGENET1K_V1.meta["num_params"]


@pytest.mark.parametrize(("width", "millions"), [(2, 94), (4, 375), (5, 586)])
def test_wide_networks_have_the_parameters_of_swavs(width: int, millions: int) -> None:
    # The sizes that papers on wide ResNet-50s give (BYOL's, SwAV's).
    config = ResNetConfig(width=width, head=())
    with torch.device("meta"):
        model = config.build()
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6) == millions
    assert model.num_features == config.num_features == 2048 * width


@pytest.mark.parametrize("arch", ["resnet-18", "resnet-34", "resnet-50"])
def test_every_parameter_learns(arch: str) -> None:
    torch.manual_seed(0)
    model = ResNetConfig(arch=arch, width=1 / 16, stem_stride=1, head=(8, 4), swav_head=True).build()  # type: ignore[arg-type]
    outputs = model(torch.randn(4, 3, 16, 16))
    torch.testing.assert_close(outputs.norm(dim=1), torch.ones(4), rtol=1e-5, atol=0)
    (outputs * torch.randn(4, 4)).sum().backward()
    still = [name for name, parameter in model.named_parameters() if not parameter.grad.any()]  # type: ignore[union-attr]
    assert still == []


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_narrow_networks_halve_images_as_convolutions_do(memory_format: torch.memory_format) -> None:
    # Of stride 2, with 4 inputs and channels last: torch's own convolution damages memory there.
    torch.manual_seed(0)
    model = ResNetConfig(arch="resnet-18", width=1 / 16, stem_stride=1).build().to(memory_format=memory_format)
    projection = model.layer2[0].downsample[0]
    assert (projection.stride, projection.in_channels) == ((2, 2), 4)
    images, grad = torch.randn(32, 4, 15, 16), torch.randn(32, 8, 8, 8)
    images = images.contiguous(memory_format=memory_format).requires_grad_()
    exact, weight = (x.detach().double().requires_grad_() for x in (images, projection.weight))
    outputs, expected = projection(images), F.conv2d(exact, weight, stride=2)
    assert outputs.grad_fn._saved_stride == (1, 1)
    torch.testing.assert_close(outputs.double(), expected, rtol=0, atol=1e-5)
    outputs.backward(grad)
    expected.backward(grad.double())
    torch.testing.assert_close(images.grad.double(), exact.grad, rtol=0, atol=1e-5)
    torch.testing.assert_close(projection.weight.grad.double(), weight.grad, rtol=0, atol=1e-3)


def test_one_layer_after_swavs_backbone_is_a_classifier() -> None:
    torch.manual_seed(0)
    model = ResNetConfig(arch="resnet-18", width=1 / 16, head=(5,), swav_head=True).build().eval()
    images = torch.randn(2, 3, 40, 56)
    logits = model(images)
    expected = model.features(images) @ model.head[0].weight.T + model.head[0].bias
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-6)


def test_what_makes_no_network_is_refused() -> None:
    for fields, message in (
        ({"arch": "resnet-101"}, "Unknown arch 'resnet-101'"),
        ({"width": 0.3}, "multiple of 1/64"),
        ({"stem_stride": 4}, "Unknown stem_stride '4'"),
        ({"swav_head": 1}, "Unknown swav_head '1'"),
        ({"head": (0,)}, "head widths"),
    ):
        with pytest.raises(UserError, match=message):
            ResNetConfig(**fields)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="resolution 28 .* use 32 to"):
        ResNetConfig(arch="resnet-18", width=1 / 16).build()(torch.zeros(1, 3, 28, 28))
