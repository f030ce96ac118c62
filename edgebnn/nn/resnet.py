"""Real-valued ResNet-18, 34 and 50 (He et al., CVPR 2016), as teachers and as students for comparison.

The blocks are torchvision's. So parameters have the same names as in torchvision, except for the classifier, which is
`head`. The stride of a bottleneck is in its 3x3 convolution, as in torchvision.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from edgebnn.errors import UserError
from edgebnn.graph.shapes import MAX_RESOLUTION, RESNET_CHANNELS, scale_channels
from edgebnn.nn.config import check_choices, check_head
from edgebnn.nn.network import Network, linear_layers

if TYPE_CHECKING:
    from torchvision.models.resnet import BasicBlock, Bottleneck

ResNetArch = Literal["resnet-18", "resnet-34", "resnet-50"]

BLOCKS: dict[str, tuple[int, ...]] = {
    "resnet-18": (2, 2, 2, 2),
    "resnet-34": (3, 4, 6, 3),
    "resnet-50": (3, 4, 6, 3),
}
"""Number of blocks in each of the four stages."""

EXPANSION = {"resnet-18": 1, "resnet-34": 1, "resnet-50": 4}
"""Output channels of a block per channel inside it."""

FEWEST_CHANNELS = 8
"""With fewer input channels, oneDNN writes outside its memory in the weight gradient of a strided 1x1 convolution."""


@dataclass(frozen=True)
class ResNetConfig:
    """The configuration of a ResNet.

    Attributes:
        arch: resnet-18, resnet-34 or resnet-50.
        width: factor on all channels, also inside bottlenecks. SwAV's RN50-w2, w4 and w5 have 2, 4 and 5.
        stem_stride: 2 for the published 7x7 convolution and max pool. 1, for small images, is a 3x3 convolution of
            stride 1 without a pool.
        head: widths of the linear layers after pooling, with a ReLU between two layers.
        head_relu: whether a ReLU follows the last layer too.
        swav_head: whether a head of two layers or more is SwAV's, with BatchNorm before each ReLU and outputs of
            length 1. A head of one layer is a classifier, and returns its logits unchanged.
    """

    arch: ResNetArch = "resnet-50"
    width: float = 1.0
    stem_stride: int = 2
    head: tuple[int, ...] = (1000,)
    head_relu: bool = False
    swav_head: bool = False

    def __post_init__(self) -> None:
        check_choices(
            self, arch=get_args(ResNetArch), stem_stride=(1, 2), head_relu=(True, False), swav_head=(True, False)
        )
        check_head(self.head)
        scale_channels(RESNET_CHANNELS, self.width)

    @property
    def num_features(self) -> int:
        """Width of the pooled features."""
        return scale_channels(RESNET_CHANNELS, self.width)[-1] * EXPANSION[self.arch]

    def build(self) -> "ResNet":
        """Returns a new network."""
        return ResNet(self)


class ResNet(Network):
    """ResNet-18, 34 or 50 of any width."""

    def __init__(self, config: ResNetConfig) -> None:
        # Imported here, because torchvision imports torch's compiler. Its LLVM crashes a process that has TensorFlow's
        # LLVM too, and every program that reads a checkpoint imports this module.
        from torchvision.models.resnet import BasicBlock, Bottleneck

        super().__init__()
        self.config = config
        self.num_features = config.num_features
        block = BasicBlock if EXPANSION[config.arch] == 1 else Bottleneck
        channels, *stages = scale_channels(RESNET_CHANNELS, config.width)
        small = config.stem_stride == 1
        kernel = 3 if small else 7
        self.conv1 = nn.Conv2d(3, channels, kernel, stride=config.stem_stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        for number, (planes, count) in enumerate(zip(stages, BLOCKS[config.arch]), start=1):
            stage = _stage(block, channels, planes, count, stride=1 if number == 1 else 2)
            self.add_module(f"layer{number}", stage)
            channels = planes * block.expansion
        self._projects = config.swav_head and len(config.head) > 1
        self.head = linear_layers(channels, config.head, relu_last=config.head_relu, norm=self._projects)
        for module in self.modules():
            # On the meta device torch would import its compiler (see BinaryConv2d).
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, images: Tensor) -> Tensor:
        for side in images.shape[2:]:
            self.check_resolution(side)
        x = self.maxpool(F.relu(self.bn1(self.conv1(images))))
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
        return x.mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        outputs = super().forward(images)
        return F.normalize(outputs, dim=1) if self._projects else outputs

    def check_resolution(self, resolution: int) -> None:
        least = 8 if self.config.stem_stride == 1 else 32
        if not least <= resolution <= MAX_RESOLUTION:
            raise UserError(
                f"resolution {resolution} does not suit a {self.config.arch} with stem_stride "
                f"{self.config.stem_stride}; use {least} to {MAX_RESOLUTION}"
            )


def _stage(
    block: "type[BasicBlock | Bottleneck]", inputs: int, planes: int, count: int, *, stride: int
) -> nn.Sequential:
    """Returns `count` blocks with `planes` channels inside. The first block changes the shape of the map.

    Its shortcut is then a 1x1 convolution.
    """
    outputs = planes * block.expansion
    downsample = None
    if stride != 1 or inputs != outputs:
        kind = _NarrowProjection if inputs < FEWEST_CHANNELS else nn.Conv2d
        downsample = nn.Sequential(kind(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    return nn.Sequential(block(inputs, planes, stride, downsample), *(block(outputs, planes) for _ in range(count - 1)))


class _NarrowProjection(nn.Conv2d):
    """A strided 1x1 convolution that drops the unused pixels before the convolution.

    In the weight gradient with stride 2, channels last and 2 to 7 input channels, oneDNN 3.13 on AVX2 writes past the
    end of a buffer. The process may crash later.
    """

    def forward(self, x: Tensor) -> Tensor:
        down, across = self.stride
        return F.conv2d(x[:, :, ::down, ::across], self.weight)
