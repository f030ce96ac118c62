"""Opens the data that `python -m train evaluate --data` names."""

from pathlib import Path
from typing import Any

from edgebnn.errors import UserError, check

from .folders import scan_classes
from .hugging_face import HuggingFace
from .module import Images
from .sources import Cifar10, Cifar100, Digits, ImageFolder, Mnist5k

BUNDLED: dict[str, type[Images]] = {"digits": Digits, "mnist5k": Mnist5k}
STORED: dict[str, type[Cifar10]] = {"cifar10": Cifar10, "cifar100": Cifar100}

HUB_PREFIX = "hf:"
"""Prefix of the name of a data set on Hugging Face's hub."""


def open_data(source: str, **options: Any) -> Images:
    """Returns the data module of `source`, with its test images set up.

    Args:
        source: the name of a bundled set, such as `mnist5k`. Or `cifar10` or `cifar100`, with `:FOLDER` if the data
            are not in the folder `data`. Or `hf:` and a name on Hugging Face's hub. Or a folder of Parquet files with a
            split `test`. Or a folder of images, as in `HeldOutFolder`.
        options: arguments of `Images`.

    Raises:
        UserError: the data do not exist, or an option is wrong.
    """
    name, _, root = source.partition(":")
    data: Images
    if source in BUNDLED:
        data = BUNDLED[source](**options)
    elif name in STORED:
        data = STORED[name](root or "data", **options)
    elif source.startswith(HUB_PREFIX) or any(Path(source).glob("*.parquet")):
        data = HuggingFace(source.removeprefix(HUB_PREFIX), **options)
    else:
        data = HeldOutFolder(source, **options)
    data.check()
    data.setup("validate")
    return data


class HeldOutFolder(ImageFolder):
    """The test images of a folder, as `root/val/CLASS/FILE` or `root/CLASS/FILE`. It needs no training images.

    Args:
        root: the folder. `FOLDER/val` and FOLDER are the same.
        options: arguments of `Images`.
    """

    def __init__(self, root: str, **options: Any) -> None:
        folder = Path(root)
        self.folder = folder / "val" if (folder / "val").is_dir() else folder
        super().__init__(str(self.folder.parent if self.folder.name == "val" else folder), **options)

    def setup(self, stage: str | None = None) -> None:
        check(
            self.folder.is_dir(),
            f"data {self.folder} is no folder, nor one of {', '.join([*BUNDLED, *STORED])}; check the path",
        )
        if (self.folder / "train").is_dir():
            raise UserError(f"data {self.folder} has train/ and no val/; give the folder of the test images")
        classes, samples = scan_classes(self.folder)
        self.labels, self.samples = tuple(classes), {"val": samples}
