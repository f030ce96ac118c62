"""What a verification must keep to; without torch, for the commands' help."""

from dataclasses import dataclass

NOISE = "noise"
"""The images that a verification takes where none are named."""


@dataclass(frozen=True)
class Limits:
    """What a verification must keep to, besides every part being exact.

    Attributes:
        bits_differing: percent of bits, over all units and images, that may differ from PyTorch's.
        top1_agreement: percent of images whose first class must be PyTorch's.
    """

    bits_differing: float = 1.0
    top1_agreement: float = 99.0
