"""Data sets as views of images: what a loader's worker does."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from edgebnn.errors import UserError

Batch = tuple[list[Tensor], Tensor]
"""Views (N, 3, H, W), and class numbers (N,)."""


class Views(Dataset):
    """Views of images, each drawn from (seed, epoch, image, view) alone."""

    def __init__(self, transform: v2.Transform, views: int, seed: int, epoch: int) -> None:
        self.transform, self.views, self.seed, self.epoch = transform, views, seed, epoch

    def image(self, index: int) -> tuple[Tensor | Image.Image, int]:
        """The image and its class number."""
        raise NotImplementedError

    def __getitems__(self, indices: list[int]) -> Batch:
        images, labels = zip(*(self.image(index) for index in indices))
        views = [
            torch.stack([self.view(image, index, view) for image, index in zip(images, indices)])
            for view in range(self.views)
        ]
        return views, torch.tensor(labels)

    def view(self, image: Tensor | Image.Image, index: int, view: int) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            seed = np.random.SeedSequence([self.seed, self.epoch, index, view]).generate_state(1)[0]
            torch.manual_seed(int(seed))
            return self.transform(image)

    @staticmethod
    def collate(batch: Batch) -> Batch:
        """Nothing is left to do: `__getitems__` gives the batch."""
        return batch


class MemoryViews(Views):
    """Views of images held in memory."""

    def __init__(self, images: Tensor, labels: Tensor, transform: v2.Transform, *draws: int) -> None:
        super().__init__(transform, *draws)
        self.images, self.labels = images, labels

    def image(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])


class FileViews(Views):
    """Views of image files."""

    def __init__(self, samples: list[tuple[str, int]], transform: v2.Transform, *draws: int) -> None:
        super().__init__(transform, *draws)
        self.samples = samples

    def image(self, index: int) -> tuple[Image.Image, int]:
        path, label = self.samples[index]
        try:
            with Image.open(path) as file:
                return file.convert("RGB"), label
        except Exception as error:  # Pillow raises whatever a damaged file leads its decoders to
            raise UserError(f"cannot read the image {path} ({error}); remove it or fetch it again") from None
