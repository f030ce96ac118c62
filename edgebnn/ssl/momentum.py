"""The target network of MoCo and BYOL: one that follows another slowly."""

import torch
from torch import nn


@torch.no_grad()
def follow(target: nn.Module, source: nn.Module, momentum: float) -> None:
    """target <- m target + (1 - m) source, for parameters (He et al., CVPR 2020, equation 2).

    Buffers do not follow: BatchNorm statistics are each network's own.

    Args:
        target, source: modules of the same parameters in the same order.
        momentum: m, from 0 to 1.
    """
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), 1 - momentum)
