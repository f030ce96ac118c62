"""The layers of ReActNet (Liu et al., ECCV 2020): RSign, binary convolution, RPReLU."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgebnn.graph.shapes import Padding
from edgebnn.nn.estimators import Gradient, binarize


class RSign(nn.Module):
    """sign(x + shift) with a learnt shift a channel (section 4.2, equation 4, with shift = -alpha).

    With `binary` false it gives `x + shift` itself: the real-valued twin.
    """

    def __init__(self, channels: int, *, binary: bool = True, gradient: Gradient = "polynomial") -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels))
        self.binary = binary
        self.gradient = gradient

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.shift[:, None, None]
        return binarize(x, self.gradient) if self.binary else x


class RPReLU(nn.Module):
    """PReLU(x + shift_in) + shift_out, everything learnt a channel (section 4.2, equation 5)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift_in = nn.Parameter(torch.zeros(channels))
        self.slope = nn.Parameter(torch.full((channels,), 0.25))
        self.shift_out = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.prelu(x + self.shift_in[:, None, None], self.slope) + self.shift_out[:, None, None]


class BinaryConv2d(nn.Module):
    """A 1x1 or 3x3 convolution whose weights are alpha * sign(W), alpha = mean |W| of an output channel.

    Alpha is XNOR-Net's scale (ECCV 2016, equation 6) and takes no part in the gradient, which reaches
    W as it would reach alpha * sign(W), through the pseudo-gradient of the sign: not multiplied by
    alpha (ReActNet's public code). With `binary` false the convolution uses W itself.

    A 3x3 convolution pads its input by one pixel of 0 or of +1: `padding`. Bits know no 0, so +1 is
    what some kernels run fastest; as published it is 0.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: Padding = "zero",
        binary: bool = True,
        gradient: Gradient = "clipped",
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel, kernel))
        if not self.weight.is_meta:
            # On the meta device torch would import its compiler, whose LLVM cannot live beside TensorFlow's.
            nn.init.kaiming_normal_(self.weight)
        self.stride = stride
        self.padding = padding
        self.binary = binary
        self.gradient = gradient

    def scale(self) -> Tensor:
        """Alpha, (outputs, 1, 1, 1); ones where the weights are real-valued."""
        if self.binary:
            return self.weight.detach().abs().mean(dim=(1, 2, 3), keepdim=True)
        return self.weight.detach().new_ones(len(self.weight), 1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        border = self.weight.shape[2] // 2
        if border and self.padding == "one":
            x = F.pad(x, (border,) * 4, value=1.0)
            border = 0
        weight = self.weight
        if self.binary:
            weight = _Scale.apply(binarize(weight, self.gradient), self.scale())
        return F.conv2d(x, weight, stride=self.stride, padding=border)


class _Scale(torch.autograd.Function):
    """signs * scale, with the gradient handed through unscaled."""

    @staticmethod
    def forward(ctx: Any, signs: Tensor, scale: Tensor) -> Tensor:
        return signs * scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None
