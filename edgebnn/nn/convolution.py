"""Convolutions of signs or with signs as weights. Neither are kept as floats between forward and backward pass."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from edgebnn.nn.estimators import WeightGradient, compute_type, pseudo_gradient
from edgebnn.nn.packed import convolve_packed, worth_packing

FEWEST_CHANNELS = 32
"""From this number of channels on, matrix products are faster than oneDNN's weight gradient."""

SMALL_MAP = 64
"""Up to this number of output pixels (8x8), `weight_gradient_by_pixels` is the faster way."""


def mean_magnitude(weight: Tensor) -> Tensor:
    """Returns XNOR-Net's alpha, the mean |W| of each output channel, (outputs, 1, 1, 1). It has no gradient."""
    weight = weight.detach()
    return torch.linalg.vector_norm(weight, 1, dim=(1, 2, 3), keepdim=True) / weight[0].numel()


def scaled_sign(weight: Tensor) -> Tensor:
    """Returns alpha * sign(W). It has no gradient."""
    alpha = mean_magnitude(weight)
    ones = torch.ge(weight.detach(), 0, out=torch.empty_like(weight))
    # 2 alpha - alpha and 0 - alpha are exact.
    return ones.mul_(2 * alpha).sub_(alpha)


def binarize_weight(weight: Tensor, gradient: WeightGradient) -> Tensor:
    """Returns B = alpha * sign(W) with a pseudo-gradient. Alpha is constant in the backward pass.

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
    signs: Tensor, weight: Tensor, *, stride: int, padding: int, pad_value: float, gradient: WeightGradient | None
) -> Tensor:
    """Returns a convolution of signs. It keeps its input as one byte per sign.

    Args:
        signs: +1 and -1, (N, I, H, W).
        weight: W, (O, I, K, K).
        stride: stride of the convolution.
        padding: pixels of padding on each side.
        pad_value: value of the padding.
        gradient: None for a convolution with W itself. Otherwise the weights are alpha * sign(W), with this
            pseudo-gradient (`binarize_weight`).
    """
    return _SignConvolution.apply(signs, weight, stride, padding, pad_value, gradient)


def convolve(x: Tensor, weight: Tensor, *, stride: int, padding: int) -> Tensor:
    """Returns `F.conv2d` of x (N, I, H, W) and weight (O, I, K, K).

    The gradient of the weight is computed by `weight_gradient` if that is faster than torch.
    """
    dtype = compute_type(x, weight)
    if torch.is_grad_enabled() and x.dtype == weight.dtype == dtype and gains_by_products(x, weight):
        return _Convolution.apply(x, weight, stride, padding)
    return F.conv2d(x, weight, stride=stride, padding=padding)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.stride, ctx.padding = stride, padding
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, stride=stride, padding=padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        want_x, want_weight, *_ = ctx.needs_input_grad
        x_grad = weight_grad = None
        if want_x:
            x_grad, _, _ = torch.ops.aten.convolution_backward(
                grad, x, weight, None, [ctx.stride] * 2, [ctx.padding] * 2, [1, 1], False, [0, 0], 1,
                [True, False, False],
            )  # fmt: skip
        if want_weight:
            weight_grad = weight_gradient(grad, x, kernel=weight.shape[2], stride=ctx.stride, padding=ctx.padding)
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
        padding: int,
        pad_value: float,
        gradient: WeightGradient | None,
    ) -> Tensor:
        ctx.stride, ctx.padding, ctx.pad_value = stride, padding, pad_value
        ctx.gradient, ctx.dtype = gradient, signs.dtype
        ctx.save_for_backward(signs.to(torch.int8), weight)
        dtype = compute_type(signs, weight)
        if gradient is not None and dtype == torch.float32 and worth_packing(signs, weight, stride):
            packed = convolve_packed(signs, weight.detach(), mean_magnitude(weight), stride=stride, pad_value=pad_value)
            if packed is not None:
                return packed
        held = (weight.detach() if gradient is None else scaled_sign(weight)).to(dtype)
        if pad_value:
            signs, padding = F.pad(signs, (padding,) * 4, value=pad_value), 0
        return F.conv2d(signs.to(dtype), held, stride=stride, padding=padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        kept, weight = ctx.saved_tensors
        want_signs, want_weight, *_ = ctx.needs_input_grad
        held = (weight if ctx.gradient is None else scaled_sign(weight)).to(grad.dtype)
        signs = kept.to(grad.dtype)
        padding = ctx.padding
        if ctx.pad_value:
            signs, padding = F.pad(signs, (padding,) * 4, value=ctx.pad_value), 0
        products = want_weight and gains_by_products(grad, held)
        signs_grad, weight_grad, _ = torch.ops.aten.convolution_backward(
            grad, signs, held, None, [ctx.stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1,
            [want_signs, want_weight and not products, False],
        )  # fmt: skip
        if products:
            weight_grad = weight_gradient(grad, signs, kernel=held.shape[2], stride=ctx.stride, padding=padding)
        if ctx.pad_value and want_signs:
            cut = slice(ctx.padding, -ctx.padding)
            signs_grad = signs_grad[:, :, cut, cut]
        if want_weight:
            weight_grad = weight_grad.to(weight.dtype)
            if ctx.gradient is not None:
                weight_grad = latent_gradient(weight_grad, weight, ctx.gradient)
        return (signs_grad.to(ctx.dtype) if want_signs else None), weight_grad, None, None, None, None


def gains_by_products(grad: Tensor, weight: Tensor) -> bool:
    """Returns whether `weight_gradient` is faster than torch's weight gradient.

    This is so for 3x3 convolutions on CPUs. There oneDNN takes up to twice as long for the weight gradient as for the
    other two products, and many times as long on small images. Matrix products keep their speed, down to
    `FEWEST_CHANNELS` channels.
    """
    if grad.device.type != "cpu" or grad.dtype not in (torch.float32, torch.float64):
        return False
    return weight.shape[2] > 1 and min(weight.shape[:2]) >= FEWEST_CHANNELS


def weight_gradient(grad: Tensor, x: Tensor, *, kernel: int, stride: int, padding: int) -> Tensor:
    """Returns the weight gradient of a convolution, computed by matrix products.

    Arguments and result are those of `weight_gradient_by_rows`.
    """
    way = weight_gradient_by_pixels if grad.shape[2] * grad.shape[3] <= SMALL_MAP else weight_gradient_by_rows
    return way(grad, x, kernel=kernel, stride=stride, padding=padding)


def weight_gradient_by_rows(grad: Tensor, x: Tensor, *, kernel: int, stride: int, padding: int) -> Tensor:
    """Returns the weight gradient of a convolution, by one matrix product for each pixel of the kernel.

    With channels last, an image is a matrix with one row per pixel. Pixel (i, j) of the kernel reads rows of the input
    that are shifted by a constant. So for stride 1 all products read one padded copy of the input, and no rows are
    gathered. The column of zeros between two lines, and the row of zeros between two images, pad both neighbours.

    Args:
        grad: gradient of the convolution's outputs, (N, O, Ho, Wo).
        x: the convolution's input, (N, I, H, W).
        kernel: side K of the kernel.
        stride: stride of the convolution.
        padding: pixels of zero padding on each side.

    Returns:
        (O, I, K, K), channels last.
    """
    (images, inputs, height, width), (_, outputs, rows, columns) = x.shape, grad.shape
    result = grad.new_empty(outputs, kernel * kernel, inputs)
    line, area = width + padding, (height + padding) * (width + padding)
    first = padding * (line + 1)
    padded = x.new_zeros(images * area + (kernel - 1) * (line + 1), inputs)
    inner = padded[first : first + images * area].view(images, height + padding, line, inputs)
    inner[:, :height, :width] = x.permute(0, 2, 3, 1)
    if stride == 1:
        spread = grad.new_zeros(images, height + padding, line, outputs)
        spread[:, :rows, :columns] = grad.permute(0, 2, 3, 1)
        products = spread.view(-1, outputs).T
    else:
        products = grad.permute(0, 2, 3, 1).reshape(-1, outputs).T
    for number in range(kernel * kernel):
        i, j = divmod(number, kernel)
        start = i * line + j
        if stride == 1:
            read = padded[start : start + images * area]
        else:
            shape, steps = (images, rows, columns, inputs), (area * inputs, stride * line * inputs, stride * inputs, 1)
            read = padded.as_strided(shape, steps, start * inputs).reshape(-1, inputs)
        result[:, number] = products @ read
    return result.view(outputs, kernel, kernel, inputs).permute(0, 3, 1, 2)


def weight_gradient_by_pixels(grad: Tensor, x: Tensor, *, kernel: int, stride: int, padding: int) -> Tensor:
    """Returns the same as `weight_gradient_by_rows`, without products with padding.

    A 3x3 kernel on an image of 1x1 pixels then needs one ninth of the work, and on 2x2 pixels a quarter of it. But the
    pixels of each product must be gathered first. For large images this costs more than it saves.
    """
    (_, inputs, height, width), (_, outputs, rows, columns) = x.shape, grad.shape
    result = grad.new_zeros(outputs, kernel * kernel, inputs)
    grad, x = grad.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1)
    for number in range(kernel * kernel):
        i, j = divmod(number, kernel)
        above, down = _overlap(i - padding, rows, height, stride)
        left, across = _overlap(j - padding, columns, width, stride)
        products = grad[:, above, left].reshape(-1, outputs).T
        result[:, number] = products @ x[:, down, across].reshape(-1, inputs)
    return result.view(outputs, kernel, kernel, inputs).permute(0, 3, 1, 2)


def _overlap(offset: int, outputs: int, inputs: int, stride: int) -> tuple[slice, slice]:
    """Returns the outputs o along one side whose input o * stride + offset is inside the image, and those inputs."""
    first = max(0, -(offset // stride))
    last = max(first, min(outputs, (inputs - 1 - offset) // stride + 1))
    start = first * stride + offset
    return slice(first, last), slice(start, start + (last - first) * stride, stride)
