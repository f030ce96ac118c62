"""Schedules, as pure functions of the progress of training."""

import math


def half_cosine(progress: float, start: float, end: float) -> float:
    """Returns a value between `start` and `end` on half a cosine, which changes slowly at both ends.

        end - (end - start) (1 + cos(pi progress)) / 2

    It is the learning rate of SGDR without restarts (Loshchilov & Hutter, 2017, equation 5), the momentum of the target
    in BYOL (Grill et al., NeurIPS 2020, section 3.3), and lambda in BURN's public code.

    Args:
        progress: share of finished steps (or epochs), from 0 to 1.
        start: value at 0.
        end: value at 1.
    """
    return end - (end - start) * (1 + math.cos(math.pi * progress)) / 2


def warm_up(progress: float, start: float) -> float:
    """Returns a factor that rises linearly from `start` to 1 and stays there (Goyal et al., 2017, section 2.2).

    Args:
        progress: finished share of the warm-up. It can exceed 1.
        start: factor at 0.
    """
    return min(1.0, start + (1 - start) * progress)
