"""Subsets of the training images, for semi-supervised and low-shot evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgebnn.errors import check
from edgebnn.files import existing_file


@dataclass(frozen=True)
class Subset:
    """Which training images are used. Exactly one of the attributes must be set.

    Attributes:
        share: share of each class, such as 0.01 or 0.1. At least one image.
        per_class: number of images of each class. A class with fewer images is used whole.
        file_list: a text file with one file name per line, without folders, as SimCLR publishes its 1% and 10% of
            ImageNet.
    """

    share: float | None = None
    per_class: int | None = None
    file_list: str | None = None

    def check(self) -> None:
        """Raises `UserError` if the values describe no subset."""
        given = [value for value in (self.share, self.per_class, self.file_list) if value is not None]
        check(len(given) == 1, "data.subset takes one of share, per_class and file_list")
        check(self.share is None or 0 < self.share <= 1, f"data.subset.share {self.share}: use more than 0, up to 1")
        check(self.per_class is None or self.per_class > 0, f"data.subset.per_class {self.per_class}: use 1 or more")

    def pick(self, labels: np.ndarray, names: Sequence[str], seed: int) -> np.ndarray:
        """Returns the numbers of the chosen images in ascending order.

        They depend only on the labels, the attributes and the seed.

        Args:
            labels: class numbers of the images (N,).
            names: file names of the images without folders. Empty for images without files.
            seed: seed of the random choice.

        Raises:
            UserError: `file_list` cannot be read, or names a file that is no training image.
        """
        if self.file_list is not None:
            return _named(self.file_list, names)
        kept = []
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            count = self.per_class or max(1, round(self.share * len(members)))  # type: ignore[operator]
            # The images of a class do not depend on the other classes.
            kept.append(np.random.default_rng([seed, int(label)]).permutation(members)[:count])
        return np.sort(np.concatenate(kept))


def _named(path: str, names: Sequence[str]) -> np.ndarray:
    existing_file(path, "data.subset.file_list")
    lines = Path(path).read_text(encoding="utf-8-sig", errors="replace").splitlines()
    wanted = {line.strip() for line in lines if line.strip()}
    check(wanted, f"data.subset.file_list {path} names no file; give one name per line")
    missing = sorted(wanted.difference(names))
    check(
        not missing,
        lambda: (
            f"data.subset.file_list {path} names {len(missing)} files that are not among the training images, "
            f"such as {missing[0]}; check data.root"
        ),
    )
    return np.array([number for number, name in enumerate(names) if name in wanted])
