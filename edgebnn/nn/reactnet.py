"""ReActNet-A (Liu et al., ECCV 2020) as a stem, a list of identical units, and a head.

The published code writes a block out as two different halves, the second of them with two 1x1
convolutions side by side where the channels double. Both halves are the same unit: RSign, binary
convolution, BatchNorm, shortcut, RPReLU. Two convolutions side by side are one with twice the outputs,
since alpha and BatchNorm act a channel. `edgebnn.checkpoint` translates the published names.
"""

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgebnn.errors import check
from edgebnn.graph.shapes import Padding, UnitShape, check_resolution, reactnet_channels, reactnet_units
from edgebnn.nn.estimators import Gradient
from edgebnn.nn.layers import BinaryConv2d, RPReLU, RSign
from edgebnn.nn.network import Network, linear_layers

MAX_OUTPUTS = 1 << 20


@dataclass(frozen=True)
class ReActNetConfig:
    """What a ReActNet is made from.

    Attributes:
        width: factor on all channels; 1 is ReActNet-A, whose stem has 32.
        stem_stride: 2 as published; 1 suits small images.
        padding: what the 3x3 binary convolutions see beyond the border: zero (as published) or one.
        head: widths of the linear layers after pooling, ReLU between them: () gives features,
            (1000,) a classifier, (1024, 128) MoCo v2's projection.
        head_relu: whether a ReLU follows the last of them too (BURN's backbone).
        binary_activations: whether convolutions see signs; step 1 binarises these alone.
        binary_weights: whether convolutions hold signs; step 2 binarises both.
        activation_gradient: pseudo-gradient of the activations' sign.
        weight_gradient: pseudo-gradient of the weights' sign.
    """

    width: float = 1.0
    stem_stride: int = 2
    padding: Padding = "zero"
    head: tuple[int, ...] = (1000,)
    head_relu: bool = False
    binary_activations: bool = True
    binary_weights: bool = True
    activation_gradient: Gradient = "polynomial"
    weight_gradient: Gradient = "clipped"

    def __post_init__(self) -> None:
        # A configuration may come from anyone's file.
        reactnet_channels(self.width)
        choices = {
            "stem_stride": (1, 2),
            "padding": get_args(Padding),
            "head_relu": (True, False),
            "binary_activations": (True, False),
            "binary_weights": (True, False),
            "activation_gradient": get_args(Gradient),
            "weight_gradient": get_args(Gradient),
        }
        for name, valid in choices.items():
            value = getattr(self, name)
            check(
                any(value == choice and type(value) is type(choice) for choice in valid),
                f"Unknown {name} '{value}'. Valid values are {', '.join(map(str, valid))}",
            )
        sound = all(type(width) is int and 1 <= width <= MAX_OUTPUTS for width in self.head)
        check(sound, f"head widths {self.head} are not whole numbers from 1 to {MAX_OUTPUTS}")


class BinaryUnit(nn.Module):
    """RPReLU(BatchNorm(BinaryConv2d(RSign(x))) + shortcut(x))."""

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
        out = self.norm(self.conv(self.sign(x), signs=self.sign.binary))
        if self.shortcut == "pool":
            x = F.avg_pool2d(x, 2)
        elif self.shortcut == "repeat":
            x = torch.cat([x, x], dim=1)
        return self.act(out, x)


class ReActNet(Network):
    """ReActNet-A of any width, its step-1 form and its real-valued twin."""

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
