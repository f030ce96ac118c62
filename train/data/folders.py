"""Finds image files and their classes, in class folders or in a list."""

import os
import re
from pathlib import Path

from torchvision import datasets

from edgebnn.errors import UserError, check
from edgebnn.files import existing_file
from edgebnn.nn.config import MAX_OUTPUTS

SUFFIXES = (*datasets.folder.IMG_EXTENSIONS, ".gif")

Samples = list[tuple[str, int]]
"""Files with their class numbers."""


class ClassFolders(datasets.ImageFolder):
    """torchvision's `ImageFolder` with GIF files, without hidden files, and with numeric order of numeric names.

    Hidden are files and folders whose names begin with a dot: macOS describes `x.jpg` in `._x.jpg`, and notebooks keep
    copies in `.ipynb_checkpoints`.

    If all folder names are whole numbers, the classes are in numeric order. In the order of text, 10 comes before 2.
    The class numbers would then differ from ImageNet's usual numbering.
    """

    def __init__(self, root: str) -> None:
        self.folder = Path(root)
        super().__init__(root, is_valid_file=self.is_image)

    def is_image(self, path: str) -> bool:
        """Returns whether a file below the folder is an image by its name, and not hidden."""
        hidden = any(part.startswith(".") for part in Path(path).relative_to(self.folder).parts)
        return not hidden and path.lower().endswith(SUFFIXES)

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        """Returns the folder names in the order of their class numbers, and the class numbers by name."""
        names = [name for name in super().find_classes(directory)[0] if not name.startswith(".")]
        if all(name.isascii() and name.isdecimal() for name in names):
            names = sorted(names, key=lambda name: (int(name), name))
        return names, {name: number for number, name in enumerate(names)}


def scan_classes(folder: Path) -> tuple[list[str], Samples]:
    """Returns the class names and the files of a folder of class folders.

    Args:
        folder: the folder, which has one folder per class.

    Raises:
        UserError: there are no images in class folders.
    """
    try:
        found = ClassFolders(str(folder))
    except OSError as error:
        raise UserError(
            f"{folder} holds no images in class folders ({error}); give a folder with one folder per class"
        ) from None
    return found.classes, found.samples


def scan_unlabelled(folder: Path) -> Samples:
    """Returns the image files in a folder and below it, sorted, all with class number 0. Hidden files are left out."""
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(datasets.folder.IMG_EXTENSIONS) and not name.startswith("."):
                found.append(os.path.join(parent, name))
    return [(path, 0) for path in sorted(found)]


def holds_images(folder: Path) -> bool:
    """Returns whether image files lie directly in a folder."""
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError:
        return False
    return any(name.lower().endswith(datasets.folder.IMG_EXTENSIONS) for name in names)


def read_file_list(path: str, folder: Path, what: str, classes: int | None = None) -> tuple[list[str], Samples]:
    """Returns the class names and the files of a list. Each line has a file and its class number.

    OpenSelfSup and BURN use this form: `0/n01440764_10026.JPEG 0`. If every class has a folder of its own, the folders
    name the classes. Otherwise the class numbers do.

    Args:
        path: the list.
        folder: the folder that the paths in the list start from.
        what: the list's key in a configuration, for messages.
        classes: number of classes. None for one more than the highest number in the list.

    Raises:
        UserError: the list cannot be read, or a line of it is wrong.
    """
    folders: dict[int, set[str]] = {}
    here: dict[str, set[str]] = {}
    samples = []
    for place, line in _lines(path, what):
        wrong = f"{what} {path}, line {place}"
        name, number = _file_and_class(line, wrong, classes)
        parent, base = os.path.split(os.path.join(folder, name))
        # Listing each folder once takes a thousandth of the work of checking each file.
        if parent not in here:
            here[parent] = set(os.listdir(parent)) if os.path.isdir(parent) else set()
        if base not in here[parent]:
            raise UserError(f"{wrong}: there is no {name} under {folder}; check data.root or the list")
        folders.setdefault(number, set()).add(os.path.dirname(name))
        samples.append((os.path.join(parent, base), number))
    check(samples, f"{what} {path} names no file; give a file and its class number per line")
    return _names(folders, max(folders) + 1 if classes is None else classes), samples


def _lines(path: str, what: str) -> list[tuple[int, str]]:
    """Returns the lines that are not empty, with their numbers from 1."""
    try:
        # Text editors on Windows write a byte order mark first, which is not part of a name.
        text = existing_file(path, what).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{what} {path} is not a text file; give a file and its class number per line") from None
    return [(place, line.strip()) for place, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _file_and_class(line: str, wrong: str, classes: int | None) -> tuple[str, int]:
    """Returns the file and the class number of a line. `wrong` names the line in messages."""
    name, *rest = line.rsplit(maxsplit=1)
    if not rest or not re.fullmatch(r"-?[0-9]{1,9}", rest[0]):
        raise UserError(f"{wrong}: '{line}' has no class number; write a file and a number, as train_labeled.txt does")
    number, most = int(rest[0]), MAX_OUTPUTS if classes is None else classes
    if not 0 <= number < most:
        raise UserError(f"{wrong}: class number {number} is not from 0 to {most - 1}; correct the list")
    return name, number


def _names(folders: dict[int, set[str]], classes: int) -> list[str]:
    """Returns each class's folder name if every class has a folder of its own, and else the class numbers."""
    numbers = [str(number) for number in range(classes)]
    if any(len(found) > 1 or "" in found for found in folders.values()):
        return numbers
    names = [next(iter(folders[number]), "") if number in folders else numbers[number] for number in range(classes)]
    return names if len(set(names)) == classes else numbers
