"""Hugging Face data sets: a name on the hub, a folder of Parquet files, or a saved data set."""

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from edgebnn.errors import UserError, check
from edgebnn.ssl.views import fixed_view

from .datasets import EncodedImages, MemoryImages, UnreadableError, read_rgb
from .module import Images, Part
from .tables import image_column, label_column, load_split

if TYPE_CHECKING:
    from datasets import Dataset

IN_MEMORY_SIDE = 64
IN_MEMORY_BYTES = 1 << 30
"""Images of at most this side and this total size are decoded once and kept in memory."""

DECODED_AT_ONCE = 1000


class HuggingFace(Images):
    """Labelled images of a Hugging Face data set, read by the `datasets` library.

    Small images (CIFAR-10) are decoded once and kept in memory as uint8. Larger images are decoded for each batch. Rows
    are read by their number, so the order of the images, the seed and resuming work as for every data set.

    Args:
        path: a name on the hub ("uoft-cs/cifar10"), a folder of Parquet files, or a folder that
            `Dataset.save_to_disk` wrote.
        train_split: the training part: a split, or a slice of one ("train[:45000]").
        val_split: the held-out part: a split, or a slice of one ("test", "validation", "train[45000:]").
        config_name: the configuration, for a data set that has several.
        image_column: column of the images. None finds it if only one column can hold images.
        label_column: column of the class numbers. None finds it if only one column can hold class numbers.
        class_names: names of the classes in the order of their numbers, for files that do not have them.
        in_memory: whether to keep decoded images in memory. All images must then have one size. None keeps them if the
            first image is small.
        kwargs: arguments of `Images`.
    """

    def __init__(
        self,
        path: str,
        train_split: str = "train",
        val_split: str = "test",
        config_name: str | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        class_names: list[str] | None = None,
        in_memory: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path, self.config_name = path, config_name
        self.splits: dict[Part, str] = {"train": train_split, "val": val_split}
        self.image_column, self.label_column = image_column, label_column
        self.class_names, self.in_memory = class_names, in_memory
        self.parts: dict[Part, RowImages | MemoryImages] = {}

    def setup(self, stage: str | None = None) -> None:
        # The command `evaluate` uses no training image.
        wanted: tuple[Part, ...] = ("val",) if stage == "validate" else ("train", "val")
        if self.parts.keys() >= set(wanted):
            return
        rows = {part: self._rows(part) for part in wanted}
        self.labels = self._class_names(rows)
        if self.subset is not None and "train" in rows:
            kept = self.subset.pick(rows["train"].class_numbers(), (), self.seed)
            rows["train"] = RowImages(rows["train"].table.select(kept), rows["train"].names)
        decoded = self.in_memory if self.in_memory is not None else _is_small(rows[wanted[0]])
        self.parts = {part: _decode_all(found, self.resolution) if decoded else found for part, found in rows.items()}

    def images(self, part: Part) -> "RowImages | MemoryImages":
        return self.parts[part]

    def fixed(self) -> v2.Transform:
        held = isinstance(self.parts.get("val"), MemoryImages)
        return fixed_view(self.resolution, self.mean, self.std, resize=not held)

    def _rows(self, part: Part) -> "RowImages":
        table = load_split(self.path, self.splits[part], self.config_name)
        what = f"data set {self.path}"
        image = self.image_column or image_column(table, f"{what}: data.image_column")
        label = self.label_column or label_column(table, f"{what}: data.label_column")
        for column in (image, label):
            check(
                column in table.column_names,
                f"{what} has no column '{column}'; its columns are {', '.join(table.column_names)}",
            )
        check(len(table), f"{what}: {self.splits[part]} is empty; give another data.{part}_split")
        return RowImages(table.select_columns([image, label]), f"row {{}} of {self.path}, {self.splits[part]}")

    def _class_names(self, rows: dict[Part, "RowImages"]) -> tuple[str, ...]:
        numbers = np.concatenate([found.class_numbers() for found in rows.values()])
        first = next(iter(rows.values()))
        feature = first.table.features[first.label]
        names = self.class_names or getattr(feature, "names", None) or [str(n) for n in range(int(numbers.max()) + 1)]
        check(
            numbers.min() >= 0 and numbers.max() < len(names),
            f"data set {self.path} has class numbers from {numbers.min()} to {numbers.max()} and {len(names)} class "
            "names; give data.class_names that fit",
        )
        return tuple(names)


class RowImages(EncodedImages):
    """The rows of a table. Each row has an encoded image and a class number.

    Args:
        table: a table of two columns: images and class numbers.
        names: name of a row for messages, with {} for its number.
    """

    def __init__(self, table: "Dataset", names: str) -> None:
        self.table, self.names = _undecoded(table), names
        self.image, self.label = self.table.column_names

    def __len__(self) -> int:
        return len(self.table)

    def class_numbers(self) -> np.ndarray:
        return np.asarray(self.table.with_format("numpy")[self.label][:], np.int64)

    def name(self, index: int) -> str:
        return self.names.format(index)

    def encoded(self, index: int) -> tuple[BinaryIO, int]:
        row = self.table[int(index)]
        return open_image(row[self.image]), int(row[self.label])


def open_image(value: Any) -> BinaryIO:
    """Returns an open file of the image in a row.

    Args:
        value: the row's value: the encoded bytes, a path, or a dictionary with `bytes` and `path`.

    Raises:
        UnreadableError: the value is no image, or the file cannot be opened.
    """
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return BytesIO(value)
    try:
        return open(value, "rb")
    except (OSError, TypeError, ValueError) as error:
        raise UnreadableError(error) from error


def _undecoded(table: "Dataset") -> "Dataset":
    import datasets

    for name, feature in table.features.items():
        if isinstance(feature, datasets.Image):
            table = table.cast_column(name, datasets.Image(decode=False))
    return table


def _is_small(rows: RowImages) -> bool:
    try:
        width, height = read_rgb(rows.encoded(0)[0]).size
    except UnreadableError:
        return False
    return max(width, height) <= IN_MEMORY_SIDE and 3 * width * height * len(rows) <= IN_MEMORY_BYTES


def _decode_all(rows: RowImages, resolution: int) -> MemoryImages:
    first = read_rgb(rows.encoded(0)[0])
    images = torch.empty(len(rows), 3, first.height, first.width, dtype=torch.uint8)
    for start in range(0, len(rows), DECODED_AT_ONCE):
        values: Sequence[Any] = rows.table[start : start + DECODED_AT_ONCE][rows.image]
        for index, value in enumerate(values, start):
            images[index] = _pixels(value, rows.name(index), first.size)
    return MemoryImages(images, torch.from_numpy(rows.class_numbers()), resolution)


def _pixels(value: Any, name: str, size: tuple[int, int]) -> Tensor:
    try:
        image = read_rgb(open_image(value))
    except UnreadableError as error:
        raise UserError(f"the image in {name} cannot be read ({error}); set data.in_memory false to skip it") from None
    check(
        image.size == size,
        f"the image in {name} is {image.width}x{image.height}, the first image is {size[0]}x{size[1]}; "
        "set data.in_memory false",
    )
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
