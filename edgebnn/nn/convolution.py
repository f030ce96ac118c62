"""Convolutions that read signs or hold them, without keeping either as floats between the passes."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from edgebnn.nn.estimators import WeightGradient, compute_type, pseudo_gradient
from edgebnn.nn.packed import convolve_packed, worth_packing

NARROW = 32
"""Channels from which matrix products beat oneDNN's weight gradient."""

SMALL = 64
"""Pixels of an output up to which its weight gradient gains from gathering those that meet (8x8)."""


def mean_magnitude(weight: Tensor) -> Tensor:
    """XNOR-Net's alpha: mean |W| of an output channel, (outputs, 1, 1, 1). No gradient."""
    weight = weight.detach()
    return torch.linalg.vector_norm(weight, 1, dim=(1, 2, 3), keepdim=True) / weight[0].numel()


def scaled_sign(weight: Tensor) -> Tensor:
    """alpha * sign(W). No gradient."""
    alpha = mean_magnitude(weight)
    ones = torch.ge(weight.detach(), 0, out=torch.empty_like(weight))
    # 2 alpha - alpha and 0 - alpha are exact.
    return ones.mul_(2 * alpha).sub_(alpha)


def binarize_weight(weight: Tensor, gradient: WeightGradient) -> Tensor:
    """Returns B = alpha * sign(W) with the named pseudo-gradient; alpha itself is held constant.

    With f' for the pseudo-gradient of the sign (`edgebnn.nn.estimators`), the gradient of W is

        polynomial, clipped, identity   dL/dW = f'(W) * dL/dB     ReActNet's and S2-BNN's code: clipped
        scaled-identity                 dL/dW = alpha * dL/dB     BURN's code, which multiplies sign(W) by alpha
    """
    return _ScaledSign.apply(weight, gradient)


def latent_gradient(grad: Tensor, weight: Tensor, gradient: WeightGradient) -> Tensor:
    """Returns the gradient of W, where `grad` is the gradient of alpha * sign(W)."""
    if gradient == "scaled-identity":
        return grad * mean_magnitude(weight)
    return pseudo_gradient(grad, weight.clone(), gradient)


def convolve_signs(
    signs: Tensor, weight: Tensor, stride: int, border: int, outside: float, gradient: WeightGradient | None
) -> Tensor:
    """A convolution of +1 and -1, which keeps its input as one byte a sign.

    Args:
        signs: (N, I, H, W).
        weight: W, (O, I, K, K).
        stride: of the convolution.
        border: pixels of padding on each side.
        outside: value of the padding.
        gradient: as for `binarize_weight`; None convolves with W itself, else with alpha * sign(W).
    """
    return _SignConvolution.apply(signs, weight, stride, border, outside, gradient)


def convolve(x: Tensor, weight: Tensor, stride: int, border: int) -> Tensor:
    """`F.conv2d` of x (N, I, H, W) and weight (O, I, K, K); its weight gradient is ours where that is faster."""
    dtype = compute_type(x, weight)
    if torch.is_grad_enabled() and x.dtype == weight.dtype == dtype and gains_by_products(x, weight):
        return _Convolution.apply(x, weight, stride, border)
    return F.conv2d(x, weight, stride=stride, padding=border)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, border: int) -> Tensor:
        ctx.stride, ctx.border = stride, border
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, stride=stride, padding=border)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        want_x, want_weight, *_ = ctx.needs_input_grad
        x_grad = weight_grad = None
        if want_x:
            x_grad, _, _ = torch.ops.aten.convolution_backward(
                grad, x, weight, None, [ctx.stride] * 2, [ctx.border] * 2, [1, 1], False, [0, 0], 1,
                [True, False, False],
            )  # fmt: skip
        if want_weight:
            weight_grad = weight_gradient(grad, x, weight.shape[2], ctx.stride, ctx.border)
        return x_grad, weight_grad, None, None


class _ScaledSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, gradient: WeightGradient) -> Tensor:
        ctx.gradient = gradient
        ctx.save_for_backward(weight)
        return scaled_sign(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        return latent_gradient(grad, weight, ctx.gradient), None


class _SignConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        signs: Tensor,
        weight: Tensor,
        stride: int,
        border: int,
        outside: float,
        gradient: WeightGradient | None,
    ) -> Tensor:
        ctx.stride, ctx.border, ctx.outside, ctx.gradient, ctx.dtype = stride, border, outside, gradient, signs.dtype
        ctx.save_for_backward(signs.to(torch.int8), weight)
        dtype = compute_type(signs, weight)
        if gradient is not None and dtype == torch.float32 and worth_packing(signs, weight, stride):
            packed = convolve_packed(signs, weight.detach(), mean_magnitude(weight), stride, outside)
            if packed is not None:
                return packed
        held = (weight.detach() if gradient is None else scaled_sign(weight)).to(dtype)
        if outside:
            signs, border = F.pad(signs, (border,) * 4, value=outside), 0
        return F.conv2d(signs.to(dtype), held, stride=stride, padding=border)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        kept, weight = ctx.saved_tensors
        want_signs, want_weight, *_ = ctx.needs_input_grad
        held = (weight if ctx.gradient is None else scaled_sign(weight)).to(grad.dtype)
        signs = kept.to(grad.dtype)
        border = ctx.border
        if ctx.outside:
            signs, border = F.pad(signs, (border,) * 4, value=ctx.outside), 0
        products = want_weight and gains_by_products(grad, held)
        signs_grad, weight_grad, _ = torch.ops.aten.convolution_backward(
            grad, signs, held, None, [ctx.stride] * 2, [border] * 2, [1, 1], False, [0, 0], 1,
            [want_signs, want_weight and not products, False],
        )  # fmt: skip
        if products:
            weight_grad = weight_gradient(grad, signs, held.shape[2], ctx.stride, border)
        if ctx.outside and want_signs:
            cut = slice(ctx.border, -ctx.border)
            signs_grad = signs_grad[:, :, cut, cut]
        if want_weight:
            weight_grad = weight_grad.to(weight.dtype)
            if ctx.gradient is not None:
                weight_grad = latent_gradient(weight_grad, weight, ctx.gradient)
        return (signs_grad.to(ctx.dtype) if want_signs else None), weight_grad, None, None, None, None


def gains_by_products(grad: Tensor, weight: Tensor) -> bool:
    """Whether `weight_gradient` is faster than torch's own.

    On CPUs, whose oneDNN takes up to twice as long for a 3x3 convolution's weight gradient as for its other two
    products, and many times as long on images of few pixels; matrix products hold their speed, down to matrices
    of `NARROW` channels.
    """
    if grad.device.type != "cpu" or grad.dtype not in (torch.float32, torch.float64):
        return False
    return weight.shape[2] > 1 and min(weight.shape[:2]) >= NARROW


def weight_gradient(grad: Tensor, x: Tensor, kernel: int, stride: int, border: int) -> Tensor:
    """The weight gradient of a convolution by matrix products; arguments as for `weight_gradient_by_rows`."""
    way = weight_gradient_by_pixels if grad.shape[2] * grad.shape[3] <= SMALL else weight_gradient_by_rows
    return way(grad, x, kernel, stride, border)


def weight_gradient_by_rows(grad: Tensor, x: Tensor, kernel: int, stride: int, border: int) -> Tensor:
    """The weight gradient of a convolution, a matrix product for each of the kernel's pixels.

    With channels last, an image is a matrix of one row a pixel. What pixel (i, j) of the kernel meets is then the
    input's rows moved by a constant, so for stride 1 all products read one padded copy of the input, and nothing
    is gathered. A column and a row of zeros between lines and images are border to both neighbours.

    Args:
        grad: gradient of the convolution's outputs, (N, O, Ho, Wo).
        x: input, (N, I, H, W).
        kernel: K, its side.
        stride: of the convolution.
        border: pixels of zero padding on each side.

    Returns:
        (O, I, K, K), channels last.
    """
    (images, inputs, height, width), (_, outputs, rows, columns) = x.shape, grad.shape
    result = grad.new_empty(outputs, kernel * kernel, inputs)
    line, area = width + border, (height + border) * (width + border)
    padding = border * (line + 1)
    padded = x.new_zeros(images * area + (kernel - 1) * (line + 1), inputs)
    inner = padded[padding : padding + images * area].view(images, height + border, line, inputs)
    inner[:, :height, :width] = x.permute(0, 2, 3, 1)
    if stride == 1:
        spread = grad.new_zeros(images, height + border, line, outputs)
        spread[:, :rows, :columns] = grad.permute(0, 2, 3, 1)
        products = spread.view(-1, outputs).T
    else:
        products = grad.permute(0, 2, 3, 1).reshape(-1, outputs).T
    for number in range(kernel * kernel):
        i, j = divmod(number, kernel)
        start = i * line + j
        if stride == 1:
            met = padded[start : start + images * area]
        else:
            shape, steps = (images, rows, columns, inputs), (area * inputs, stride * line * inputs, stride * inputs, 1)
            met = padded.as_strided(shape, steps, start * inputs).reshape(-1, inputs)
        result[:, number] = products @ met
    return result.view(outputs, kernel, kernel, inputs).permute(0, 3, 1, 2)


def weight_gradient_by_pixels(grad: Tensor, x: Tensor, kernel: int, stride: int, border: int) -> Tensor:
    """As `weight_gradient_by_rows`, of the pixels alone that meet: none that meet the border.

    Of an image of 1x1 pixels under a 3x3 kernel that is one product in place of nine, of one of 2x2 a quarter of the
    nine; but each product has its pixels gathered first, which for large images costs more than it spares.
    """
    (_, inputs, height, width), (_, outputs, rows, columns) = x.shape, grad.shape
    result = grad.new_zeros(outputs, kernel * kernel, inputs)
    grad, x = grad.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1)
    for number in range(kernel * kernel):
        i, j = divmod(number, kernel)
        (above, down), (left, across) = _met(i - border, rows, height, stride), _met(j - border, columns, width, stride)
        products = grad[:, above, left].reshape(-1, outputs).T
        result[:, number] = products @ x[:, down, across].reshape(-1, inputs)
    return result.view(outputs, kernel, kernel, inputs).permute(0, 3, 1, 2)


def _met(offset: int, outputs: int, inputs: int, stride: int) -> tuple[slice, slice]:
    """Along one side, the outputs o whose input o * stride + offset is within the image, and these inputs."""
    first = max(0, -(offset // stride))
    last = max(first, min(outputs, (inputs - 1 - offset) // stride + 1))
    start = first * stride + offset
    return slice(first, last), slice(start, start + (last - first) * stride, stride)
