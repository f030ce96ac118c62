"""Images in memory and in files, and the batches that a loader's worker makes from them.

For an evaluation, a worker makes the finished views. For training, it makes crops and random numbers, and the training
device makes the views.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from edgebnn.decoding import upright_rgb, upright_size
from edgebnn.errors import UserError
from edgebnn.ssl.philox import uniforms
from edgebnn.ssl.views import NUMBERS, Augmentation, Draws, crop_boxes, draw_views

Batch = tuple[list[Tensor], Tensor]
"""Views (N, 3, H, W), and class numbers (N,)."""

REDUCIBLE = ("JPEG", "MPO")
"""Pillow's names of the formats that decode faster at a smaller size. MPO is a telephone's JPEG with several images."""

LONGEST = 64
"""Longest side of an image that an evaluation uses, as a multiple of the short side."""

MOST_BROKEN_IN_A_ROW = 100
"""Largest number of broken images in a row."""


@dataclass(frozen=True)
class ViewSpec:
    """One of the views that a method asks for.

    Attributes:
        augmentation: how the view is drawn.
        area: smallest and largest area of the crop, as a share of the image.
        resolution: side of the view in pixels.
    """

    augmentation: Augmentation
    area: tuple[float, float]
    resolution: int


class DrawnBatch(NamedTuple):
    """The input of `edgebnn.ssl.augment`, which makes the views of a batch on the training device.

    Attributes:
        images: uint8. One tensor (N, 3, H, W) for all views, or one tensor of crops (N, 3, resolution, resolution) per
            view.
        draws: the random decisions of each view.
        labels: class numbers (N,).
    """

    images: list[Tensor]
    draws: list[Draws]
    labels: Tensor


class Broken(NamedTuple):
    """An image that cannot be read.

    Attributes:
        name: its name for messages.
        advice: what is wrong with its pixels and what to do, if the file is sound; or else "".
    """

    name: str
    advice: str

    def text(self) -> str:
        """Returns the name, and what is wrong with the pixels."""
        return f"{self.name} ({self.advice.partition('; ')[0]})" if self.advice else self.name

    def remedy(self) -> str:
        """Returns what the user should do."""
        return self.advice.partition("; ")[2] if self.advice else "fetch the data again"


class LoadedBatch(NamedTuple):
    """A batch, with the counts that the training process keeps.

    Attributes:
        batch: the batch. None if no image could be read.
        broken: files that could not be read.
        asked: number of images that were asked for.
    """

    batch: DrawnBatch | Batch | None
    broken: list[Broken]
    asked: int


class BatchDataset(Dataset):
    """Calls a function that makes a whole batch from image numbers."""

    def __init__(self, read: Callable[[list[int]], LoadedBatch]) -> None:
        self.read = read

    def __getitems__(self, indices: list[int]) -> LoadedBatch:
        return self.read(indices)


class MemoryImages:
    """Images in memory.

    Args:
        images: uint8 (N, 3, H, W).
        labels: class numbers (N,).
        resolution: side to which images are resized when they are loaded. CIFAR-10 kept at 224 pixels would take 9 GB
            in every process.
    """

    def __init__(self, images: Tensor, labels: Tensor, resolution: int) -> None:
        self.images, self.labels, self.resolution = images, labels, resolution

    def __len__(self) -> int:
        return len(self.labels)

    def class_numbers(self) -> np.ndarray:
        """Returns the class numbers (N,) of all images."""
        return self.labels.numpy()

    def fixed(self, indices: list[int], transform: v2.Transform) -> LoadedBatch:
        """Returns the batch of an evaluation: one view per image, without random changes."""
        return LoadedBatch(([transform(self._resized(indices))], self.labels[indices]), [], len(indices))

    def drawn(self, indices: list[int], views: Sequence[ViewSpec], seed: int, epoch: int) -> LoadedBatch:
        """Returns the whole images and the random decisions for each view.

        Args:
            indices: image numbers.
            views: the views to make.
            seed: the run's seed.
            epoch: the epoch, from 0.
        """
        draws = []
        for number, view in enumerate(views):
            numbers = uniforms(seed, epoch, np.array(indices), number, NUMBERS)
            boxes = crop_boxes(numbers, self.resolution, self.resolution, view.area)
            draws.append(draw_views(view.augmentation, numbers, boxes))
        return LoadedBatch(DrawnBatch([self._resized(indices)], draws, self.labels[indices]), [], len(indices))

    def _resized(self, indices: list[int]) -> Tensor:
        return TF.resize(self.images[indices], [self.resolution] * 2, antialias=True)


class EncodedImages:
    """Encoded images (JPEG, PNG, ...) and their class numbers. An image is decoded for each batch."""

    def __len__(self) -> int:
        raise NotImplementedError

    def class_numbers(self) -> np.ndarray:
        """Returns the class numbers (N,) of all images."""
        raise NotImplementedError

    def name(self, index: int) -> str:
        """Returns the name of the image for messages."""
        raise NotImplementedError

    def encoded(self, index: int) -> tuple[str | BinaryIO, int]:
        """Returns the image's file, as a path or an open file, and its class number."""
        raise NotImplementedError

    def fixed(self, indices: list[int], transform: v2.Transform) -> LoadedBatch:
        """Returns the batch of an evaluation: one view per image, without random changes.

        Images that cannot be read are left out.
        """
        views, labels = [], []
        broken: list[Broken] = []
        for index in indices:
            try:
                file, label = self.encoded(index)
                views.append(transform(read_rgb(file)))
                labels.append(label)
            except UnreadableError as error:
                broken.append(Broken(self.name(index), error.advice))
        batch = ([torch.stack(views)], torch.tensor(labels)) if views else None
        return LoadedBatch(batch, broken, len(indices))

    def drawn(self, indices: list[int], views: Sequence[ViewSpec], seed: int, epoch: int) -> LoadedBatch:
        """Returns crops of the images and the random decisions for each view.

        The next readable image replaces an image that cannot be read. It gets the random numbers of the broken one. The
        arguments are those of `MemoryImages.drawn`.
        """
        numbers = [uniforms(seed, epoch, np.array(indices), number, NUMBERS) for number in range(len(views))]
        draws = [draw_views(view.augmentation, theirs, None) for view, theirs in zip(views, numbers)]
        crops: list[list[np.ndarray]] = [[] for _ in views]
        labels = []
        broken: list[Broken] = []
        for row, index in enumerate(indices):
            mine = np.stack([theirs[row] for theirs in numbers])
            found, label = self._next_readable(index, views, mine, broken)
            for view, (crop, made) in enumerate(zip(found, crops)):
                made.append(crop[:, ::-1] if draws[view].flip[row] else crop)
            labels.append(label)
        images = [torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2) for made in crops]
        batch = DrawnBatch(images, draws, torch.tensor(labels))
        return LoadedBatch(batch, broken, len(indices))

    def _next_readable(
        self, index: int, views: Sequence[ViewSpec], numbers: np.ndarray, broken: list[Broken]
    ) -> tuple[list[np.ndarray], int]:
        for step in range(min(MOST_BROKEN_IN_A_ROW, len(self))):
            tried = (index + step) % len(self)
            try:
                file, label = self.encoded(tried)
                return random_crops(file, views, numbers), label
            except UnreadableError as error:
                broken.append(Broken(self.name(tried), error.advice))
        raise UserError(f"cannot read the image {broken[-1].text()}, nor the {step} before it; {broken[-1].remedy()}")


class FileImages(EncodedImages):
    """Image files and their class numbers."""

    def __init__(self, samples: list[tuple[str, int]]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def class_numbers(self) -> np.ndarray:
        return np.array([label for _, label in self.samples])

    def name(self, index: int) -> str:
        return self.samples[index][0]

    def encoded(self, index: int) -> tuple[str, int]:
        return self.samples[index]


class UnreadableError(Exception):
    """A file that cannot be decoded as an image.

    Args:
        error: the reason.

    Attributes:
        advice: as in `Broken`.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.advice = str(error) if isinstance(error, UserError) else ""


def read_rgb(source: str | BinaryIO) -> Image.Image:
    """Returns the upright RGB image in a file, which is a path or an open file. Raises `UnreadableError`."""
    try:
        with Image.open(source) as file:
            return trim_thin(upright_rgb(file))
    except Exception as error:  # Pillow's decoders raise many kinds of errors on damaged files
        raise UnreadableError(error) from error


def trim_thin(image: Image.Image) -> Image.Image:
    """Returns the image, and of an image more than `LONGEST` times as long as wide its middle.

    An evaluation scales the short side up and cuts out the centre. A line of 1x30000 pixels would take gigabytes.
    """
    width, height = image.size
    across, down = min(width, LONGEST * height), min(height, LONGEST * width)
    if (across, down) == image.size:
        return image
    left, top = (width - across) // 2, (height - down) // 2
    return image.crop((left, top, left + across, top + down))


def random_crops(source: str | BinaryIO, views: Sequence[ViewSpec], numbers: np.ndarray) -> list[np.ndarray]:
    """Returns one random crop of the image per view, uint8 (resolution, resolution, 3).

    Args:
        source: the image's file, as a path or an open file.
        views: the views.
        numbers: random numbers in [0, 1) of each view, (views, CROP_NUMBERS) or more.

    Raises:
        UnreadableError: the file is damaged.
    """
    try:
        with Image.open(source) as file:
            # Only a JPEG can be decoded at a smaller size, so the crops must be known before it is decoded.
            image = None if file.format in REDUCIBLE else upright_rgb(file)
            width, height = upright_size(file) if image is None else image.size
            boxes = [
                crop_boxes(theirs[None], height, width, view.area)[0].tolist() for view, theirs in zip(views, numbers)
            ]
            # A JPEG decodes faster at a half, a quarter or an eighth of its size. It is decoded at the smallest size at
            # which every crop keeps its resolution.
            spare = min(min(tall, wide) / view.resolution for view, (_, _, tall, wide) in zip(views, boxes))
            if image is None and spare >= 2:
                least = (-int(-width // spare), -int(-height // spare))
                file.draft("RGB", least if file.size == (width, height) else least[::-1])
            image = upright_rgb(file) if image is None else image
    except Exception as error:  # as in `read_rgb`
        raise UnreadableError(error) from error
    return [_crop(image, box, image.width / width, image.height / height, view) for view, box in zip(views, boxes)]


def _crop(image: Image.Image, box: list[int], across: float, down: float, view: ViewSpec) -> np.ndarray:
    top, left, tall, wide = box
    side = (view.resolution, view.resolution)
    if across == down == 1:
        crop = image.crop((left, top, left + wide, top + tall)).resize(side, Image.Resampling.BILINEAR)
    else:
        # In a reduced image the edges of the box lie between pixels.
        edges = (left * across, top * down, (left + wide) * across, (top + tall) * down)
        crop = image.resize(side, Image.Resampling.BILINEAR, edges)
    return np.asarray(crop)
