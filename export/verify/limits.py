"""The limits and default images of a verification. This module imports no torch, so command help stays fast."""

from dataclasses import dataclass

NOISE = "noise"
"""The images that a verification uses by default."""


@dataclass(frozen=True)
class Limits:
    """The limits that a verified file must keep. In addition, every part must be exact.

    Attributes:
        bits_differing: largest percentage of bits, over all units and images, that may differ from PyTorch's bits.
        top1_agreement: smallest percentage of images on which the file and PyTorch must choose the same class.
    """

    bits_differing: float = 1.0
    top1_agreement: float = 99.0
