"""Counts the correct answers of networks that see the same images."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from edgebnn.errors import UserError, check
from edgebnn.progress import progress_bar

from ..data.module import Images
from ..methods.measured import accuracies, count_correct
from .class_order import ClassOrder
from .classifier import Classifier


@dataclass
class Tally:
    """The answers of one network.

    Attributes:
        classifier: the network.
        order: how the classes of the data were matched with its outputs.
        counts: top-1 correct, top-5 correct, all images (3,).
        first: class with the highest score of every image, as a list of batches.
        seconds: time in the network, without loading.
    """

    classifier: Classifier
    order: ClassOrder
    counts: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.long))
    first: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def images(self) -> int:
        return int(self.counts[2])

    @property
    def values(self) -> dict[str, float]:
        """The accuracies in percent: `top1`, and `top5` if there are more than 5 classes."""
        return accuracies(self.counts, self.classifier.outputs)

    def add(self, images: Tensor, labels: Tensor) -> None:
        """Classifies a batch and adds its answers to the counts.

        Args:
            images: normalised images (N, 3, resolution, resolution).
            labels: class numbers of the data (N,).

        Raises:
            UserError: the network cannot run, or its scores are not finite.
        """
        begin = time.perf_counter()
        # Column c is the score of class c of the data.
        scores = self.classifier.scores(images)[:, self.order.outputs]
        self.seconds += time.perf_counter() - begin
        if not torch.isfinite(scores).all():
            raise UserError(f"{self.classifier.path} returns scores that are not finite; export or train it again")
        ranked = scores.topk(min(5, scores.shape[1]), dim=1).indices
        self.counts += count_correct(ranked, labels)
        self.first.append(ranked[:, 0])

    def agreement(self, other: "Tally") -> float:
        """Returns the percentage of images on which both networks give the same answer.

        Args:
            other: the other network's answers on the same images.
        """
        return 100 * (torch.cat(self.first) == torch.cat(other.first)).double().mean().item()


def count_answers(tallies: Sequence[Tally], data: Images) -> None:
    """Shows every test image to all networks once and adds their answers to the tallies.

    Args:
        tallies: tallies of networks with one resolution and normalisation.
        data: the images with this resolution and normalisation.

    Raises:
        UserError: no image or too few images can be read (`train.data.loader`), or as `Tally.add`.
    """
    with progress_bar(data.count("val"), f"evaluating at {data.resolution}x{data.resolution}", "image") as bar:
        for views, labels in data.val_dataloader():
            for tally in tallies:
                tally.add(views[0], labels)
            bar.set_postfix_str(f"top-1 {tallies[0].values['top1']:.2f}", refresh=False)
            bar.update(len(labels))
    check(tallies[0].images, f"no image can be read ({', '.join(data.skipped()[:1])} is one); fetch the data again")
