"""Bi-Real-Net-18 (Liu et al., ECCV 2018) and ReActNet-18 (Liu et al., ECCV 2020), which are binary ResNet-18s.

Both are ResNet-18 with a shortcut around every 3x3 convolution. They have 16 units:

    Bi-Real-Net-18    BatchNorm(BinaryConv2d(sign(x))) + shortcut(x)
    ReActNet-18       RPReLU(BatchNorm(BinaryConv2d(RSign(x))) + shortcut(x))

The stem is ResNet's 7x7 convolution, BatchNorm and max pool, without a ReLU. In a unit that halves the resolution, the
shortcut is a 2x2 average pool, a real-valued 1x1 convolution and a BatchNorm. The structure is that of the papers'
figures. The missing ReLU and the downsampling shortcut follow the authors' public code.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from edgebnn.graph.shapes import RESNET_CHANNELS, UnitShape, check_resolution, resnet18_units, scale_channels
from edgebnn.nn.config import BinaryConfig, check_choices
from edgebnn.nn.estimators import Gradient, binarize
from edgebnn.nn.layers import BinaryConv2d, RPReLU, RSign
from edgebnn.nn.network import Network, linear_layers

BiRealArch = Literal["birealnet-18", "reactnet-18"]


@dataclass(frozen=True)
class BiRealConfig(BinaryConfig):
    """The configuration of a binary ResNet-18. With width 1 its stem has 64 channels, and it has 512 features.

    With `stem_stride` 1 the stem is a 3x3 convolution of stride 1, without a max pool.

    Attributes:
        arch: "birealnet-18" or "reactnet-18".
    """

    arch: BiRealArch = "reactnet-18"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, arch=get_args(BiRealArch))
        scale_channels(RESNET_CHANNELS, self.width)

    @property
    def num_features(self) -> int:
        """Width of the pooled features."""
        return scale_channels(RESNET_CHANNELS, self.width)[-1]

    def build(self) -> "BiRealNet":
        """Returns a new network."""
        return BiRealNet(self)


class Sign(nn.Module):
    """sign(x), without learnt values.

    With `binary` false it is clip(x, -1, 1), as in Bi-Real-Net's real-valued pretraining (section 3.3). Otherwise the
    network would have no non-linear part.
    """

    def __init__(self, *, binary: bool = True, gradient: Gradient = "polynomial") -> None:
        super().__init__()
        self.binary = binary
        self.gradient = gradient

    def forward(self, x: Tensor) -> Tensor:
        """Returns the signs of x, or x clipped to [-1, 1], in the shape of x."""
        return binarize(x, self.gradient) if self.binary else F.hardtanh(x)


class BiRealUnit(nn.Module):
    """One unit: act(BatchNorm(BinaryConv2d(sign(x))) + shortcut(x)), with the act and the sign of each network."""

    def __init__(self, shape: UnitShape, config: BiRealConfig) -> None:
        super().__init__()
        inputs, outputs = shape.in_channels, shape.out_channels
        self.shortcut = shape.shortcut
        reacts = config.arch == "reactnet-18"
        precision = {"binary": config.binary_activations, "gradient": config.activation_gradient}
        self.sign = RSign(inputs, **precision) if reacts else Sign(**precision)  # type: ignore[arg-type]
        self.conv = BinaryConv2d(
            inputs,
            outputs,
            shape.kernel,
            stride=shape.stride,
            padding=config.padding,
            binary=config.binary_weights,
            gradient=config.weight_gradient,
        )
        self.norm = nn.BatchNorm2d(outputs)
        self.downsample = nn.Sequential()
        if shape.shortcut == "downsample":
            self.downsample = nn.Sequential(
                nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            )
        self.act = RPReLU(outputs) if reacts else None

    def forward(self, x: Tensor) -> Tensor:
        """Returns the unit's output (N, outputs, H / stride, W / stride) for x (N, inputs, H, W)."""
        out, shortcut = self.norm(self.conv(self.sign(x), signs=self.sign.binary)), self.downsample(x)
        return out + shortcut if self.act is None else self.act(out, shortcut)


class BiRealNet(Network):
    """Bi-Real-Net-18 or ReActNet-18 of any width. The configuration also makes stage-1 forms and real-valued twins."""

    def __init__(self, config: BiRealConfig) -> None:
        super().__init__()
        self.config = config
        self.num_features = config.num_features
        self.shapes = resnet18_units(config.width)
        channels = self.shapes[0].in_channels
        small = config.stem_stride == 1
        kernel = 3 if small else 7
        self.stem = nn.Conv2d(3, channels, kernel, stride=config.stem_stride, padding=kernel // 2, bias=False)
        self.stem_norm = nn.BatchNorm2d(channels)
        self.pool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        self.units = nn.ModuleList(BiRealUnit(shape, config) for shape in self.shapes)
        self.head = linear_layers(self.num_features, config.head, relu_last=config.head_relu)

    def features(self, images: Tensor) -> Tensor:
        for side in images.shape[2:]:
            self.check_resolution(side)
        x = self.pool(self.stem_norm(self.stem(images)))
        for unit in self.units:
            x = unit(x)
        return x.mean(dim=(2, 3))

    def check_resolution(self, resolution: int) -> None:
        stem_stride = 1 if self.config.stem_stride == 1 else 4
        check_resolution(resolution, stem_stride, self.shapes)
