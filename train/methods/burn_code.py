"""BURN as its public code is written, with the loss where a gradient can reach it.

The released trainer computes the loss without gradients, so nothing moves, and freezes the target's classifier;
what is left is a student that learns the outputs of a random classifier on a frozen extractor.
"""

from typing import ClassVar

from torch import Tensor

from edgebnn.ssl.losses import unit_distance

from ..data.sources import Images
from .burn import BURN, Seen


class BURNCode(BURN):
    """Trains a student to give the outputs of a random, frozen classifier on a frozen extractor.

    As `BURN`, but the target's classifier stays as it is drawn (or as stage 1 had it), and the similarity is
    that of the classifiers' outputs, || s(v)^ - t(w)^ ||^2: there are no features to match. Its BatchNorm takes
    the statistics of the batch, as in the public code, and so does not depend on what it saw before.

    The arguments are those of `BURN`.
    """

    heads: ClassVar[tuple[str, ...]] = ("classifier", "target_classifier")
    unpublished: ClassVar[tuple[str, ...]] = ()

    def prepare(self, data: Images) -> None:
        super().prepare(data)
        self.target_classifier.requires_grad_(False)
        del self.match

    def dissimilarity(self, student: Seen, target: Seen) -> Tensor:
        return unit_distance(student.outputs, target.outputs)
