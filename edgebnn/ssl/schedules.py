"""Schedules: pure functions of the share of training that is done."""

import math


def half_cosine(progress: float, start: float, end: float) -> float:
    """From `start` to `end` by half a cosine, slowly at both ends.

        end - (end - start) (1 + cos(pi progress)) / 2

    The learning rate of SGDR without restarts (Loshchilov & Hutter, 2017, equation 5), the target's momentum in
    BYOL (Grill et al., NeurIPS 2020, section 3.3), lambda in BURN's public code.

    Args:
        progress: share of all steps (or epochs) that are done, from 0 to 1.
        start: value at 0.
        end: value at 1.
    """
    return end - (end - start) * (1 + math.cos(math.pi * progress)) / 2


def warm_up(progress: float, start: float) -> float:
    """A factor that rises evenly from `start` to 1 (Goyal et al., 2017, section 2.2), and stays there.

    Args:
        progress: share of the warm-up that is done; it may be more than 1.
        start: factor at 0.
    """
    return min(1.0, start + (1 - start) * progress)
