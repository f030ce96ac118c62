"""ReActNet-A (Liu et al., ECCV 2020) as a stem, a list of identical units, and a head.

The published code writes each block as two halves. If the channels double, the second half has two 1x1 convolutions
side by side. Here both halves are the same unit: RSign, binary convolution, BatchNorm, shortcut, RPReLU. Two
convolutions side by side equal one convolution with twice the outputs, because alpha and BatchNorm act per channel.
`edgebnn.checkpoint` translates the published names.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgebnn.graph.shapes import UnitShape, check_resolution, reactnet_channels, reactnet_units
from edgebnn.nn.config import BinaryConfig
from edgebnn.nn.layers import BinaryConv2d, RPReLU, RSign
from edgebnn.nn.network import Network, linear_layers


@dataclass(frozen=True)
class ReActNetConfig(BinaryConfig):
    """The configuration of a ReActNet-A. With width 1 its stem has 32 channels, and it has 1024 features."""

    def __post_init__(self) -> None:
        super().__post_init__()
        reactnet_channels(self.width)

    @property
    def num_features(self) -> int:
        """Width of the pooled features."""
        return reactnet_channels(self.width)[-1]

    def build(self) -> "ReActNet":
        """Returns a new network."""
        return ReActNet(self)


class BinaryUnit(nn.Module):
    """One unit: RPReLU(BatchNorm(BinaryConv2d(RSign(x))) + shortcut(x))."""

    def __init__(self, shape: UnitShape, config: ReActNetConfig) -> None:
        super().__init__()
        self.shortcut = shape.shortcut
        self.sign = RSign(shape.in_channels, binary=config.binary_activations, gradient=config.activation_gradient)
        self.conv = BinaryConv2d(
            shape.in_channels,
            shape.out_channels,
            shape.kernel,
            stride=shape.stride,
            padding=config.padding,
            binary=config.binary_weights,
            gradient=config.weight_gradient,
        )
        self.norm = nn.BatchNorm2d(shape.out_channels)
        self.act = RPReLU(shape.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the unit's output (N, outputs, H / stride, W / stride) for x (N, inputs, H, W)."""
        out = self.norm(self.conv(self.sign(x), signs=self.sign.binary))
        if self.shortcut == "pool":
            x = F.avg_pool2d(x, 2)
        elif self.shortcut == "repeat":
            x = torch.cat([x, x], dim=1)
        return self.act(out, x)


class ReActNet(Network):
    """ReActNet-A of any width. The configuration also makes its stage-1 form and its real-valued twin."""

    def __init__(self, config: ReActNetConfig) -> None:
        super().__init__()
        self.config = config
        stem_channels, *_, self.num_features = reactnet_channels(config.width)
        self.shapes = reactnet_units(config.width)
        self.stem = nn.Conv2d(3, stem_channels, 3, stride=config.stem_stride, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(stem_channels)
        self.units = nn.ModuleList(BinaryUnit(shape, config) for shape in self.shapes)
        self.head = linear_layers(self.num_features, config.head, relu_last=config.head_relu)

    def features(self, images: Tensor) -> Tensor:
        for side in images.shape[2:]:
            self.check_resolution(side)
        x = self.stem_norm(self.stem(images))
        for unit in self.units:
            x = unit(x)
        return x.mean(dim=(2, 3))

    def check_resolution(self, resolution: int) -> None:
        check_resolution(resolution, self.config.stem_stride, self.shapes)
