"""Which image files there are, and of which class each is: from class folders, or from a list."""

import os
import re
from pathlib import Path

from torchvision import datasets

from edgebnn.errors import UserError, check
from edgebnn.files import existing_file
from edgebnn.nn.config import MAX_OUTPUTS

Samples = list[tuple[str, int]]
"""Files, each with its class number."""


class ClassFolders(datasets.ImageFolder):
    """torchvision's `ImageFolder`, but folders that all have whole numbers for names are in the numbers' order.

    As text 10 would come before 2: class numbers would not be those of ImageNet's usual numbering.
    """

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        """Returns the folders' names in the order of their class numbers, and the numbers by name."""
        names, _ = super().find_classes(directory)
        if all(name.isascii() and name.isdecimal() for name in names):
            names = sorted(names, key=lambda name: (int(name), name))
        return names, {name: number for number, name in enumerate(names)}


def scan_classes(folder: Path) -> tuple[list[str], Samples]:
    """Returns the classes' names and the files of a folder of class folders.

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


def read_list(path: str, folder: Path, what: str, classes: int | None = None) -> tuple[list[str], Samples]:
    """Returns the classes' names and the files of a list, a file and its class number a line.

    It is the form of OpenSelfSup and BURN: `0/n01440764_10026.JPEG 0`. A class is called by the folder that its files
    are in where every class has one of its own, else by its number.

    Args:
        path: the list.
        folder: what its files' paths are relative to.
        what: the list's key in a configuration.
        classes: how many classes there are; None for one more than the list's highest number.

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
        # One look into each folder is a thousandth of the work of a look at each file.
        if parent not in here:
            here[parent] = set(os.listdir(parent)) if os.path.isdir(parent) else set()
        if base not in here[parent]:
            raise UserError(f"{wrong}: there is no {name} under {folder}; check data.root or the list")
        folders.setdefault(number, set()).add(os.path.dirname(name))
        samples.append((os.path.join(parent, base), number))
    check(samples, f"{what} {path} names no file; give a file and its class number a line")
    return _names(folders, max(folders) + 1 if classes is None else classes), samples


def _lines(path: str, what: str) -> list[tuple[int, str]]:
    """The lines that are not empty, each with its number from 1."""
    try:
        # Text editors on Windows put a byte order mark first, which is no part of a name.
        text = existing_file(path, what).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{what} {path} is no text; give a file and its class number a line") from None
    return [(place, line.strip()) for place, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _file_and_class(line: str, wrong: str, classes: int | None) -> tuple[str, int]:
    """A line's file and class number; `wrong` names the line."""
    name, *rest = line.rsplit(maxsplit=1)
    if not rest or not re.fullmatch(r"-?[0-9]{1,9}", rest[0]):
        raise UserError(f"{wrong}: '{line}' has no class number; write a file and a number, as train_labeled.txt does")
    number, most = int(rest[0]), MAX_OUTPUTS if classes is None else classes
    if not 0 <= number < most:
        raise UserError(f"{wrong}: class number {number} is not from 0 to {most - 1}; mend the list")
    return name, number


def _names(folders: dict[int, set[str]], classes: int) -> list[str]:
    """The folder of each class' files, if each has one of its own; else the numbers."""
    numbers = [str(number) for number in range(classes)]
    if any(len(found) > 1 or "" in found for found in folders.values()):
        return numbers
    names = [next(iter(folders[number]), "") if number in folders else numbers[number] for number in range(classes)]
    return names if len(set(names)) == classes else numbers
