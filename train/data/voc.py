"""PASCAL VOC 2007: images with several classes, for the SVMs of `train.evaluation.voc_svm`."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torchvision.transforms import v2

from edgebnn.errors import UserError, check
from edgebnn.graph.info import resize_side
from edgebnn.ssl.views import fixed_view

from .datasets import FileImages
from .module import Images, Part

IMAGE_SETS = Path("VOCdevkit", "VOC2007", "ImageSets", "Main")
SPLITS: dict[Part, str] = {"train": "trainval", "val": "test"}
"""VOC's names of the two parts."""

TARGETS = {"1": 1, "0": 0, "-1": -1}
"""Marks in the file of a class: 1 an object of the class, 0 only difficult objects, -1 none."""


class Voc2007(Images):
    """VOC 2007. Its trainval images are the training part, and its test images are held out.

    An image may have any number of classes. So the class number in a batch is the number of the image, and `targets`
    has its classes. An evaluation sees the whole image: the short side is resized to 256/224 of the resolution, then
    both sides to the resolution, as in OpenSelfSup.

    Args:
        root: the folder that holds VOCdevkit/VOC2007.
        kwargs: arguments of `Images`.

    Attributes:
        targets: by part, int8 (images, classes): 1 an object of the class, 0 only difficult objects, -1 none.
    """

    multi_label: ClassVar[bool] = True

    def __init__(self, root: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = root
        self.targets: dict[Part, np.ndarray] = {}
        self.files: dict[Part, list[str]] = {}

    def setup(self, stage: str | None = None) -> None:
        if self.files:
            return
        check(self.subset is None, "data.subset needs images of one class, VOC's images have several; leave it out")
        found = {part: read_targets(Path(self.root) / IMAGE_SETS, split) for part, split in SPLITS.items()}
        classes = found["train"][0]
        if classes != found["val"][0]:
            odd = sorted(set(classes) ^ set(found["val"][0]))
            raise UserError(
                f"{self.root}/{IMAGE_SETS} lists {odd[0]} for one of trainval and test only; fetch VOC again"
            )
        folder = Path(self.root, "VOCdevkit", "VOC2007", "JPEGImages")
        self.labels = tuple(classes)
        for part, (_, names, targets) in found.items():
            self.files[part] = [str(folder / f"{name}.jpg") for name in names]
            self.targets[part] = targets

    def images(self, part: Part) -> FileImages:
        return FileImages([(path, number) for number, path in enumerate(self.files[part])])

    def fixed(self) -> v2.Transform:
        sides = [resize_side(self.resolution), [self.resolution] * 2]
        resized = [v2.Resize(side, antialias=True) for side in sides]
        return v2.Compose([v2.ToImage(), *resized, fixed_view(self.resolution, self.mean, self.std, resize=False)])


def read_targets(folder: Path, split: str) -> tuple[list[str], list[str], np.ndarray]:
    """Returns the class names, the image names and the targets, int8 (images, classes), of a split of VOC.

    Args:
        folder: ImageSets/Main. It has a file CLASS_SPLIT.txt per class, whose lines are an image name and 1, 0 or -1.
        split: trainval or test.

    Raises:
        UserError: there are no such files, or a line is wrong.
    """
    # macOS writes files with a dot in front, which describe the file beside them.
    paths = sorted(path for path in folder.glob(f"*_{split}.txt") if path.name[0] != ".")
    files = {path.name.removesuffix(f"_{split}.txt"): path for path in paths}
    check(files, f"{folder} has no CLASS_{split}.txt; give the folder that holds VOCdevkit as data.root")
    shown = {name: _read_class(path) for name, path in files.items()}
    names = sorted(set().union(*shown.values()))
    # An image that the file of a class leaves out does not show the class.
    targets = [[of_class.get(name, -1) for of_class in shown.values()] for name in names]
    return list(files), names, np.array(targets, dtype=np.int8)


def _read_class(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); fetch VOC again") from None
    found = {}
    for place, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or words[1] not in TARGETS:
            raise UserError(f"{path}, line {place}: '{line}' is no image and 1, 0 or -1; fetch VOC again")
        found[words[0]] = TARGETS[words[1]]
    return found
