"""Sign functions with their pseudo-gradients.

The forward value is +1 where x >= 0 and -1 elsewhere; 0 counts as +1, since bits know no 0 (published
code uses `torch.sign`, where 0 stays 0). A NaN becomes -1, as in the inference graph.

The derivative of sign is 0 almost everywhere, so the gradient g of the output is multiplied by the
derivative of a smooth stand-in instead:

    polynomial    2 + 2x on [-1, 0), 2 - 2x on [0, 1), 0 outside   Bi-Real-Net (ECCV 2018), equation 5
    clipped       1 on [-1, 1], 0 outside                          BinaryNet (NeurIPS 2016), equation 4
    identity      1 everywhere

All of it follows from x, so nothing but x is kept for the backward pass: in a network a tensor that
exists anyway, as the unit's shortcut.
"""

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from edgebnn.errors import check

Gradient = Literal["polynomial", "clipped", "identity"]

WeightGradient = Literal["polynomial", "clipped", "identity", "scaled-identity"]
"""How a gradient passes the sign of binary weights (`edgebnn.nn.convolution.binarize_weight`)."""


def sign(x: Tensor) -> Tensor:
    """+1 where x >= 0, else -1, in the type of x. No gradient."""
    return signs_above(x, 0, x.dtype)


def signs_above(x: Tensor, threshold: Tensor | float, dtype: torch.dtype) -> Tensor:
    """+1 where x >= threshold, else -1, in `dtype`. No gradient."""
    # Arithmetic on zeros and ones, as torch.where is many times slower on CPUs, and so are its booleans.
    ones = torch.ge(x, threshold, out=torch.empty_like(x, dtype=dtype))
    return ones.mul_(2).sub_(1)


def binarize(x: Tensor, gradient: Gradient) -> Tensor:
    """`sign(x)` with the named pseudo-gradient, in the type of x.

    Raises:
        UserError: there is no pseudo-gradient of that name.
    """
    _check(gradient)
    return _Sign.apply(x, gradient)


def binarize_shifted(x: Tensor, shift: Tensor, gradient: Gradient) -> Tensor:
    """`binarize(x + shift)` in one step, x + shift itself never kept.

    Args:
        x: (N, C, H, W).
        shift: (C,).
        gradient: of the sign.

    Returns:
        signs (N, C, H, W); under autocast in its lower type, which holds +1 and -1 as well as any.

    Raises:
        UserError: there is no pseudo-gradient of that name.
    """
    _check(gradient)
    return _ShiftedSign.apply(x, shift, gradient)


def pseudo_gradient(grad: Tensor, x: Tensor, gradient: Gradient) -> Tensor:
    """The gradient of x, where `grad` is that of sign(x). Overwrites x."""
    if gradient == "polynomial":
        # 2 - 2|x| is both pieces at once, and the clamp is the 0 outside.
        return torch.rsub(x.abs_(), 2, alpha=2).clamp_(min=0).mul_(grad)
    if gradient == "clipped":
        return x.abs_().le_(1).mul_(grad)
    return grad


def compute_type(x: Tensor, *others: Tensor) -> torch.dtype:
    """The type a convolution of x would compute in."""
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
        # Where gradual underflow holds, x + s >= 0 and x >= -s are the same, and the sum need not be formed.
        return signs_above(x, -shift[:, None, None], compute_type(x, shift))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, shift = ctx.saved_tensors
        grad = pseudo_gradient(grad, x + shift[:, None, None], ctx.gradient)
        return grad.to(x.dtype), grad.sum(dim=(0, 2, 3), dtype=shift.dtype), None
