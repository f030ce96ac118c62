"""Where images lie, and what a loader's worker makes of them: plain views, or what random views are made from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from edgebnn.errors import UserError
from edgebnn.ssl.philox import uniforms
from edgebnn.ssl.views import NUMBERS, Augmentation, Draws, crop_boxes, draw_views

Batch = tuple[list[Tensor], Tensor]
"""Views (N, 3, H, W), and class numbers (N,)."""

TRIES = 100
"""How many broken images may follow one another."""


@dataclass(frozen=True)
class View:
    """One of the views that a method asks for: how it is drawn, its share of the image's area, its side."""

    augmentation: Augmentation
    area: tuple[float, float]
    resolution: int


class DrawnBatch(NamedTuple):
    """What `edgebnn.ssl.augment` makes a batch's views of, once it is on the device.

    Attributes:
        images: uint8; one tensor (N, 3, H, W) for all views, or each view's crops (N, 3, resolution, resolution).
        draws: of each view.
        labels: class numbers (N,).
    """

    images: list[Tensor]
    draws: list[Draws]
    labels: Tensor


class Loaded(NamedTuple):
    """A batch with what the training process keeps account of.

    Attributes:
        batch: None where no image could be read.
        broken: files that could not be read.
        asked: how many images were asked for.
    """

    batch: DrawnBatch | Batch | None
    broken: list[str]
    asked: int


class Reading(Dataset):
    """Whole batches, by a function of their images' numbers."""

    def __init__(self, read: Callable[[list[int]], Loaded]) -> None:
        self.read = read

    def __getitems__(self, indices: list[int]) -> Loaded:
        return self.read(indices)


def as_loaded(loaded: Any) -> Any:
    """Collates: nothing is left to do."""
    return loaded


class MemoryImages:
    """Images (N, 3, H, W), uint8, and their class numbers (N,).

    Args:
        resolution: side to which images are resized when they are loaded; held at 224, CIFAR-10 would take 9 GB in
            every process.
    """

    def __init__(self, images: Tensor, labels: Tensor, resolution: int) -> None:
        self.images, self.labels, self.resolution = images, labels, resolution

    def __len__(self) -> int:
        return len(self.labels)

    def class_numbers(self) -> np.ndarray:
        """Class numbers (N,) of all images."""
        return self.labels.numpy()

    def fixed(self, indices: list[int], transform: v2.Transform) -> Loaded:
        """The images as evaluation sees them."""
        return Loaded(([transform(self._resized(indices))], self.labels[indices]), [], len(indices))

    def drawn(self, indices: list[int], views: Sequence[View], seed: int, epoch: int) -> Loaded:
        """The images, and what is to be made of them."""
        draws = []
        for number, view in enumerate(views):
            numbers = uniforms(seed, epoch, np.array(indices), number, NUMBERS)
            boxes = crop_boxes(numbers, self.resolution, self.resolution, view.area)
            draws.append(draw_views(view.augmentation, numbers, boxes))
        return Loaded(DrawnBatch([self._resized(indices)], draws, self.labels[indices]), [], len(indices))

    def _resized(self, indices: list[int]) -> Tensor:
        return TF.resize(self.images[indices], [self.resolution] * 2, antialias=True)


class EncodedImages:
    """Encoded images (JPEG, PNG, ...) and their class numbers, decoded each time they are asked for."""

    def __len__(self) -> int:
        raise NotImplementedError

    def class_numbers(self) -> np.ndarray:
        """Class numbers (N,) of all images."""
        raise NotImplementedError

    def name(self, index: int) -> str:
        """What messages call the image."""
        raise NotImplementedError

    def encoded(self, index: int) -> tuple[str | BinaryIO, int]:
        """The image's file, by its path or open, and its class number."""
        raise NotImplementedError

    def fixed(self, indices: list[int], transform: v2.Transform) -> Loaded:
        """The images as evaluation sees them; those that cannot be read are left out."""
        views, labels = [], []
        broken: list[str] = []
        for index in indices:
            try:
                file, label = self.encoded(index)
                views.append(transform(read_rgb(file)))
                labels.append(label)
            except UnreadableError:
                broken.append(self.name(index))
        batch = ([torch.stack(views)], torch.tensor(labels)) if views else None
        return Loaded(batch, broken, len(indices))

    def drawn(self, indices: list[int], views: Sequence[View], seed: int, epoch: int) -> Loaded:
        """Crops of the images, and what else is to be done to them.

        In place of an image that cannot be read comes the next that can, seen by the draws of the former.
        """
        numbers = [uniforms(seed, epoch, np.array(indices), number, NUMBERS) for number in range(len(views))]
        draws = [draw_views(view.augmentation, theirs, None) for view, theirs in zip(views, numbers)]
        crops: list[list[np.ndarray]] = [[] for _ in views]
        labels = []
        broken: list[str] = []
        for row, index in enumerate(indices):
            mine = np.stack([theirs[row] for theirs in numbers])
            found, label = self._next_readable(index, views, mine, broken)
            for view, (crop, made) in enumerate(zip(found, crops)):
                made.append(crop[:, ::-1] if draws[view].flip[row] else crop)
            labels.append(label)
        images = [torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2) for made in crops]
        return Loaded(DrawnBatch(images, draws, torch.tensor(labels)), broken, len(indices))

    def _next_readable(
        self, index: int, views: Sequence[View], numbers: np.ndarray, broken: list[str]
    ) -> tuple[list[np.ndarray], int]:
        for step in range(min(TRIES, len(self))):
            tried = (index + step) % len(self)
            try:
                file, label = self.encoded(tried)
                return random_crops(file, views, numbers), label
            except UnreadableError:
                broken.append(self.name(tried))
        raise UserError(f"cannot read the image {self.name(tried)}, nor {step} before it; fetch the data again")


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
    """A file that no image can be made of."""


def read_rgb(source: str | BinaryIO) -> Image.Image:
    """Returns the image in a file, given by its path or open, as RGB. Raises `UnreadableError`."""
    try:
        with Image.open(source) as file:
            return file.convert("RGB")
    except Exception as error:  # Pillow raises whatever a damaged file leads its decoders to
        raise UnreadableError(str(error)) from error


def random_crops(source: str | BinaryIO, views: Sequence[View], numbers: np.ndarray) -> list[np.ndarray]:
    """A random crop (resolution, resolution, 3) of the image for each view, uint8.

    Args:
        source: the image's file, by its path or open.
        views: what is asked for.
        numbers: each view's, in [0, 1), (views, CROP_NUMBERS) or more.

    Raises:
        UnreadableError: the file is damaged.
    """
    try:
        with Image.open(source) as file:
            width, height = file.size
            boxes = [
                crop_boxes(theirs[None], height, width, view.area)[0].tolist() for view, theirs in zip(views, numbers)
            ]
            # A JPEG can be decoded at a half, a quarter or an eighth of its size, for a part of the time: as small
            # as leaves every crop its resolution.
            spare = min(min(tall, wide) / view.resolution for view, (_, _, tall, wide) in zip(views, boxes))
            if spare >= 2:
                file.draft("RGB", (-int(-width // spare), -int(-height // spare)))
            image = file.convert("RGB")
    except Exception as error:  # as in `read_rgb`
        raise UnreadableError(str(error)) from error
    return [_crop(image, box, image.width / width, image.height / height, view) for view, box in zip(views, boxes)]


def _crop(image: Image.Image, box: list[int], across: float, down: float, view: View) -> np.ndarray:
    top, left, tall, wide = box
    side = (view.resolution, view.resolution)
    if across == down == 1:
        crop = image.crop((left, top, left + wide, top + tall)).resize(side, Image.Resampling.BILINEAR)
    else:
        # In a smaller image the box begins and ends within pixels.
        edges = (left * across, top * down, (left + wide) * across, (top + tall) * down)
        crop = image.resize(side, Image.Resampling.BILINEAR, edges)
    return np.asarray(crop)
