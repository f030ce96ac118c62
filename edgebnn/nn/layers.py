"""The layers of ReActNet (Liu et al., ECCV 2020): RSign, binary convolution, RPReLU."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgebnn.graph.shapes import Padding
from edgebnn.nn.convolution import binarize_weight, convolve, convolve_signs, mean_magnitude
from edgebnn.nn.estimators import Gradient, WeightGradient, binarize_shifted


class RSign(nn.Module):
    """sign(x + shift) with a learnt shift per channel (section 4.2, equation 4, with shift = -alpha).

    With `binary` false it returns `x + shift`, as the real-valued twin needs it.
    """

    def __init__(self, channels: int, *, binary: bool = True, gradient: Gradient = "polynomial") -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels))
        self.binary = binary
        self.gradient = gradient

    def forward(self, x: Tensor) -> Tensor:
        """Returns the signs (N, channels, H, W) of x + shift for x of the same shape."""
        return binarize_shifted(x, self.shift, self.gradient) if self.binary else x + self.shift[:, None, None]


class RPReLU(nn.Module):
    """PReLU(x + shift_in) + shift_out with learnt shifts and slopes per channel (section 4.2, equation 5)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift_in = nn.Parameter(torch.zeros(channels))
        self.slope = nn.Parameter(torch.full((channels,), 0.25))
        self.shift_out = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Returns RPReLU(x + shortcut) for x and shortcut (N, channels, H, W), with the sum in the same step."""
        return _RPReLU.apply(x, shortcut, self.shift_in, self.slope, self.shift_out)


class _RPReLU(torch.autograd.Function):
    """RPReLU that keeps only one tensor for the backward pass: the input of the PReLU."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, shortcut: Tensor | None, shift_in: Tensor, slope: Tensor, shift_out: Tensor
    ) -> Tensor:
        ctx.dtypes = x.dtype, None if shortcut is None else shortcut.dtype
        dtype = torch.promote_types(x.dtype, slope.dtype)
        shift_in, slope_, shift_out = (parameter[:, None, None] for parameter in (shift_in, slope, shift_out))
        if shortcut is None:
            seen = x + shift_in
        else:
            seen = x + shortcut
            seen = seen.add_(shift_in) if seen.dtype == dtype else seen + shift_in
        ctx.save_for_backward(seen, slope)
        # F.prelu's kernel is called directly, because autocast would round the input of F.prelu.
        return torch.ops.aten._prelu_kernel(seen, slope_[None].to(seen.dtype)).add_(shift_out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor]:
        seen, slope = ctx.saved_tensors
        prelu_backward = _prelu_backward if grad.device.type == "cpu" else torch.ops.aten._prelu_kernel_backward
        seen_grad, slope_grad = prelu_backward(grad, seen, slope[None, :, None, None].to(seen.dtype))
        dtype, shortcut_dtype = ctx.dtypes
        over = {"dim": (0, 2, 3), "dtype": slope.dtype}
        return (
            seen_grad.to(dtype),
            None if shortcut_dtype is None else seen_grad.to(shortcut_dtype),
            seen_grad.sum(**over),
            slope_grad.sum(**over),
            grad.sum(**over),
        )


def _prelu_backward(grad: Tensor, x: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the gradient of x, and the gradient of the slope before it is summed.

    The results equal torch's kernel bit for bit. On CPUs torch's kernel computes one element at a time. These five
    passes over vectors take a fifth of its time.
    """
    below = torch.le(x, 0, out=torch.empty_like(x)).mul_(grad)
    return torch.sub(grad, below).addcmul_(below, slope), below.mul_(x)


class BinaryConv2d(nn.Module):
    """A 1x1 or 3x3 convolution with weights alpha * sign(W). Alpha is the mean |W| of each output channel.

    Alpha is XNOR-Net's scale (ECCV 2016, equation 6), and is constant in the backward pass. `gradient` decides how the
    gradient of alpha * sign(W) becomes the gradient of W (`binarize_weight`): ReActNet's public code clips it, and
    BURN's multiplies it by alpha. With `binary` false the convolution uses W itself.

    A 3x3 convolution pads its input by one pixel. `padding` is the value: 0 as published, or +1. Some kernels run +1
    fastest, because a bit has no value 0.
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
        gradient: WeightGradient = "clipped",
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel, kernel))
        if not self.weight.is_meta:
            # On the meta device torch would import its compiler. Its LLVM crashes a process that has TensorFlow's LLVM
            # too.
            nn.init.kaiming_normal_(self.weight)
        self.stride = stride
        self.padding = padding
        self.binary = binary
        self.gradient = gradient

    def scale(self) -> Tensor:
        """Returns alpha, (outputs, 1, 1, 1). With real-valued weights it is 1."""
        if self.binary:
            return mean_magnitude(self.weight)
        return self.weight.detach().new_ones(len(self.weight), 1, 1, 1)

    def forward(self, x: Tensor, *, signs: bool = False) -> Tensor:
        """Returns the convolution of x (N, I, H, W).

        Args:
            x: the input.
            signs: whether x holds only +1 and -1. It is then kept for the backward pass as one byte per sign.
        """
        padding = self.weight.shape[2] // 2
        pad_value = 1.0 if padding and self.padding == "one" else 0.0
        if signs:
            gradient = self.gradient if self.binary else None
            return convolve_signs(
                x, self.weight, stride=self.stride, padding=padding, pad_value=pad_value, gradient=gradient
            )
        if pad_value:
            x, padding = F.pad(x, (padding,) * 4, value=pad_value), 0
        weight = binarize_weight(self.weight, self.gradient) if self.binary else self.weight
        return convolve(x, weight, stride=self.stride, padding=padding)
