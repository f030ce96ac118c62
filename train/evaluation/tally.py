"""Counts the right answers of networks that see the same images."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm import tqdm

from edgebnn.errors import UserError, check

from ..data.module import Images
from ..methods.measured import accuracies, right_answers
from .class_order import ClassOrder
from .classifier import Classifier

LOG_SECONDS = 60.0
"""How often progress is written where nobody watches: to a file, or under SLURM."""


@dataclass
class Tally:
    """The answers of one network.

    Attributes:
        classifier: the network.
        order: how the classes of the data were matched with its outputs.
        counts: images whose class is ranked first, images whose class is among the first five, images, (3,).
        first: the class of the data that was ranked first, of every image; a list of batches.
        seconds: time spent in the network, loading aside.
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
        """`top1`, and of more than 5 classes `top5`, in percent."""
        return accuracies(self.counts, self.classifier.outputs)

    def add(self, images: Tensor, labels: Tensor) -> None:
        """Classifies a batch and counts.

        Args:
            images: normalised, (N, 3, resolution, resolution).
            labels: classes of the data, (N,).

        Raises:
            UserError: the network cannot run, or its scores are no numbers.
        """
        begin = time.perf_counter()
        # Class by class of the data, whatever the order of the outputs.
        scores = self.classifier.scores(images)[:, self.order.outputs]
        self.seconds += time.perf_counter() - begin
        if not torch.isfinite(scores).all():
            raise UserError(
                f"{self.classifier.path} gives scores that are not finite numbers; export or train it again"
            )
        ranked = scores.topk(min(5, scores.shape[1]), dim=1).indices
        self.counts += right_answers(ranked, labels)
        self.first.append(ranked[:, 0])

    def agreement(self, other: "Tally") -> float:
        """Percent of images on which both rank the same class first; both have seen the same images."""
        return 100 * (torch.cat(self.first) == torch.cat(other.first)).double().mean().item()


def count_answers(tallies: Sequence[Tally], data: Images) -> None:
    """Shows every test image to all networks once, and adds their answers to the tallies.

    Args:
        tallies: of networks that share a resolution and a normalisation.
        data: set up with these.

    Raises:
        UserError: no image can be read, or too many cannot (`train.data.loader`), or as `Tally.add` raises.
    """
    watched = sys.stderr.isatty()
    every = {} if watched else dict.fromkeys(("mininterval", "maxinterval", "delay"), LOG_SECONDS)
    with tqdm(
        total=data.count("val"),
        desc=f"images at {data.resolution}x{data.resolution}",
        unit="image",
        leave=False,
        **every,
    ) as bar:
        for views, labels in data.val_dataloader():
            for tally in tallies:
                tally.add(views[0], labels)
            bar.set_postfix_str(f"top-1 {tallies[0].values['top1']:.2f}", refresh=False)
            bar.update(len(labels))
    check(tallies[0].images, f"no image can be read ({', '.join(data.skipped()[:1])} is one); fetch the data again")
