"""Sign functions and their pseudo-gradients.

The forward value is +1 where x >= 0, and -1 elsewhere. 0 becomes +1, because a bit has no value 0 (published code uses
`torch.sign`, where 0 stays 0). A NaN becomes -1, as in the inference graph.

The derivative of sign is 0 almost everywhere. So the gradient of the output is multiplied by the derivative of another
function, the pseudo-gradient:

    polynomial    2 + 2x on [-1, 0), 2 - 2x on [0, 1), 0 outside   Bi-Real-Net (ECCV 2018), equation 5
    clipped       1 on [-1, 1], 0 outside                          BinaryNet (NeurIPS 2016), equation 4
    identity      1 everywhere

The pseudo-gradient depends only on x, so only x is kept for the backward pass. In a network x exists anyway, because it
is the input of the unit's shortcut.
"""

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from edgebnn.errors import check

Gradient = Literal["polynomial", "clipped", "identity"]

WeightGradient = Literal["polynomial", "clipped", "identity", "scaled-identity"]
"""The pseudo-gradients of binary weights (`edgebnn.nn.convolution.binarize_weight`)."""


def sign(x: Tensor) -> Tensor:
    """Returns +1 where x >= 0, else -1, in the type of x. It has no gradient."""
    return signs_above(x, 0, x.dtype)


def signs_above(x: Tensor, threshold: Tensor | float, dtype: torch.dtype) -> Tensor:
    """Returns +1 where x >= threshold, else -1, in the type `dtype`. It has no gradient."""
    # Arithmetic on zeros and ones: on CPUs torch.where and booleans are many times slower.
    ones = torch.ge(x, threshold, out=torch.empty_like(x, dtype=dtype))
    return ones.mul_(2).sub_(1)


def binarize(x: Tensor, gradient: Gradient) -> Tensor:
    """Returns `sign(x)` with a pseudo-gradient, in the type of x.

    Raises:
        UserError: the pseudo-gradient is unknown.
    """
    _check(gradient)
    return _Sign.apply(x, gradient)


def binarize_shifted(x: Tensor, shift: Tensor, gradient: Gradient) -> Tensor:
    """Returns `binarize(x + shift)` in one step, without keeping x + shift.

    Args:
        x: (N, C, H, W).
        shift: (C,).
        gradient: pseudo-gradient of the sign.

    Returns:
        Signs (N, C, H, W). Under autocast they have its lower precision, which represents +1 and -1 exactly.

    Raises:
        UserError: the pseudo-gradient is unknown.
    """
    _check(gradient)
    return _ShiftedSign.apply(x, shift, gradient)


def pseudo_gradient(grad: Tensor, x: Tensor, gradient: Gradient) -> Tensor:
    """Returns the gradient of x. `grad` is the gradient of sign(x). Overwrites x."""
    if gradient == "polynomial":
        # 2 - 2|x| is both pieces of the polynomial, and the clamp makes it 0 outside of them.
        return torch.rsub(x.abs_(), 2, alpha=2).clamp_(min=0).mul_(grad)
    if gradient == "clipped":
        return x.abs_().le_(1).mul_(grad)
    return grad


def compute_type(x: Tensor, *others: Tensor) -> torch.dtype:
    """Returns the type in which a convolution of x and the other tensors is computed."""
    dtype = x.dtype
    for other in others:
        dtype = torch.promote_types(dtype, other.dtype)
    kind = x.device.type
    if dtype != torch.float64 and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return dtype


def _check(gradient: str) -> None:
    valid = get_args(Gradient)
    check(gradient in valid, lambda: f"Unknown gradient '{gradient}'. Valid gradients are {', '.join(valid)}")


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gradient: Gradient) -> Tensor:
        ctx.gradient = gradient
        ctx.save_for_backward(x)
        return sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return pseudo_gradient(grad, x.clone(), ctx.gradient), None


class _ShiftedSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor, gradient: Gradient) -> Tensor:
        ctx.gradient = gradient
        ctx.save_for_backward(x, shift)
        # With gradual underflow x + s >= 0 and x >= -s are equivalent, so the sum need not be computed.
        return signs_above(x, -shift[:, None, None], compute_type(x, shift))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, shift = ctx.saved_tensors
        grad = pseudo_gradient(grad, x + shift[:, None, None], ctx.gradient)
        return grad.to(x.dtype), grad.sum(dim=(0, 2, 3), dtype=shift.dtype), None
