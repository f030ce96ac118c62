"""Sign functions with their pseudo-gradients.

The forward value is +1 where x >= 0 and -1 elsewhere; 0 counts as +1, since bits know no 0 (published
code uses `torch.sign`, where 0 stays 0). A NaN becomes -1, as in the inference graph.

The derivative of sign is 0 almost everywhere, so the gradient g of the output is multiplied by the
derivative of a smooth stand-in instead:

    polynomial    2 + 2x on [-1, 0), 2 - 2x on [0, 1), 0 outside   Bi-Real-Net (ECCV 2018), equation 5
    clipped       1 on [-1, 1], 0 outside                          BinaryNet (NeurIPS 2016), equation 4
    identity      1 everywhere
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from edgebnn.errors import UserError

Gradient = Literal["polynomial", "clipped", "identity"]


def sign(x: Tensor) -> Tensor:
    """+1 where x >= 0, else -1, in the type of x. No gradient."""
    return (x >= 0).to(x.dtype).mul_(2).sub_(1)


class _PolynomialSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        # 2 - 2|x| is both pieces at once, and the clamp is the 0 outside.
        return x.abs().mul_(-2).add_(2).clamp_(min=0).mul_(grad)


class _ClippedSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        # Only where the gradient passes is needed, one byte an element.
        ctx.save_for_backward(x.abs() <= 1)
        return sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (inside,) = ctx.saved_tensors
        return grad * inside


class _IdentitySign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


_SIGNS: dict[str, Callable[[Tensor], Tensor]] = {
    "polynomial": _PolynomialSign.apply,
    "clipped": _ClippedSign.apply,
    "identity": _IdentitySign.apply,
}


def binarize(x: Tensor, gradient: Gradient) -> Tensor:
    """`sign(x)` with the named pseudo-gradient.

    Raises:
        UserError: there is no pseudo-gradient of that name.
    """
    if gradient not in _SIGNS:
        raise UserError(f"Unknown gradient '{gradient}'. Valid gradients are {', '.join(_SIGNS)}")
    return _SIGNS[gradient](x)
