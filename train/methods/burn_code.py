"""BURN as its public code is written, except that the loss is computed with gradients.

The released trainer computes the loss without gradients, so it changes no weight. It also freezes the target's
classifier. What remains is a student that learns the outputs of a random classifier on a frozen extractor.
"""

from typing import ClassVar

from torch import Tensor

from edgebnn.ssl.losses import unit_distance

from ..data.sources import Images
from .burn import BURN, ViewOutputs


class BURNCode(BURN):
    """Trains a student to predict the outputs of a random, frozen classifier on a frozen extractor.

    It differs from `BURN` in two points. The target's classifier keeps its random weights, or the weights of stage 1.
    The similarity compares the outputs of the classifiers, || s(v)^ - t(w)^ ||^2, so there is no map M. The target
    classifier's BatchNorm uses the statistics of the batch, as in the public code.

    The arguments are those of `BURN`.
    """

    heads: ClassVar[tuple[str, ...]] = ("classifier", "target_classifier")
    unpublished: ClassVar[tuple[str, ...]] = ()

    def prepare(self, data: Images) -> None:
        super().prepare(data)
        self.target_classifier.requires_grad_(False)
        del self.match

    def similarity_loss(self, student: ViewOutputs, target: ViewOutputs) -> Tensor:
        return unit_distance(student.outputs, target.outputs)
