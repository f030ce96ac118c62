"""The target network of MoCo and BYOL, which follows the trained network slowly."""

import torch
from torch import nn


@torch.no_grad()
def follow(target: nn.Module, source: nn.Module, momentum: float) -> None:
    """Updates the target's parameters: target <- m target + (1 - m) source (He et al., CVPR 2020, equation 2).

    Buffers do not change. Each network has its own BatchNorm statistics.

    Args:
        target, source: modules with the same parameters in the same order.
        momentum: m, from 0 to 1.
    """
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), 1 - momentum)
