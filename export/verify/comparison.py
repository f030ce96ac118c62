"""Collects how a file's outputs differ from the reference and from PyTorch, batch by batch."""

from dataclasses import dataclass, field

import numpy as np

from edgebnn.graph import Unit, reference

from . import rounding
from .trace import PartOutput

MORE_THAN_ROUNDING = 2.0
"""The smallest error of a part that must equal the reference bit for bit and does not."""


@dataclass
class PartResult:
    """The comparison of one part (the stem, a unit or the head) with the reference on the same input.

    Attributes:
        may_round: whether the part's floats may differ from the reference's by rounding.
        identical: whether the part's output equals the reference's bit for bit on all images so far.
        passes_wrong: whether the part passed bits or an average to the next unit that do not match its own output.
        largest_share: largest difference so far, as a share of what rounding explains (`rounding.share_of_bound`).
    """

    may_round: bool
    identical: bool = True
    passes_wrong: bool = False
    largest_share: float = 0.0

    def compare(self, found: np.ndarray, expected: np.ndarray, bound: np.ndarray) -> None:
        """Compares the part's output with the reference's output for the same input."""
        self.identical &= np.array_equal(found, expected)
        self.largest_share = max(self.largest_share, rounding.share_of_bound(found, expected, bound))

    def compare_average(self, output: PartOutput) -> None:
        """Compares the average that the part passes on, if it passes one, with the average of its own output."""
        if output.average is not None:
            self.passes_wrong |= not np.array_equal(output.average, reference.pool(output.values))

    @property
    def error(self) -> float:
        """The error as `Parity` reports it: up to 1, the part computes exactly the reference's function."""
        if self.may_round:
            return self.largest_share
        return 0.0 if self.identical else max(self.largest_share, MORE_THAN_ROUNDING)


@dataclass
class BitCounts:
    """How many of the bits that the units read differ from PyTorch's."""

    compared: int = 0
    differing: int = 0

    def compare(self, unit: Unit, output: PartOutput, torch_bits: np.ndarray, maker: PartResult) -> None:
        """Compares the bits that `unit` reads with PyTorch's, and with the bits that the previous part packed.

        Args:
            unit: a unit.
            output: the output of the previous part, which the unit reads.
            torch_bits: the unit's bits in PyTorch, booleans of the output's shape.
            maker: the result of the previous part. It is marked if the part packed other bits than its output has.
        """
        if not unit.binary_input:
            return
        own_bits = output.values >= unit.threshold[:, None, None]
        self.differing += int(np.count_nonzero(own_bits != torch_bits))
        self.compared += own_bits.size
        if output.bits is not None:
            maker.passes_wrong |= not np.array_equal(own_bits, output.bits)


@dataclass
class LogitResult:
    """The comparison of the file's logits with PyTorch's."""

    agreed: int = 0
    max_difference: float = 0.0
    max_torch_logit: float = 0.0

    def compare(self, logits: np.ndarray, torch_logits: np.ndarray) -> None:
        """Compares logits (N, outputs)."""
        self.agreed += int((logits.argmax(1) == torch_logits.argmax(1)).sum())
        self.max_difference = max(self.max_difference, rounding.largest_value(np.abs(logits - torch_logits)))
        self.max_torch_logit = max(self.max_torch_logit, float(np.abs(torch_logits).max()))


@dataclass
class Comparison:
    """The results of all parts, of the bits and of the logits.

    Attributes:
        stem, units, head: one result per part.
        bits: the bits of all units together.
        logits: the logits of all images.
        max_head_rounding: largest change of a logit by the head's int8 weights; 0 if its weights are floats.
    """

    stem: PartResult
    units: list[PartResult]
    head: PartResult
    bits: BitCounts = field(default_factory=BitCounts)
    logits: LogitResult = field(default_factory=LogitResult)
    max_head_rounding: float = 0.0
