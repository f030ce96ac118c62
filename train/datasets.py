"""Data sets as views of images, and the order they come in."""

from collections.abc import Iterator

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision.transforms import v2

from edgebnn.errors import UserError

Batch = tuple[list[Tensor], Tensor]
"""Views (N, 3, H, W), and class numbers (N,)."""


class MemoryViews(Dataset):
    """Views of images held in memory, a whole batch at a time."""

    def __init__(self, images: Tensor, labels: Tensor, transform: v2.Transform, views: int, group: int) -> None:
        self.images, self.labels = images, labels
        self.transform, self.views, self.group = transform, views, group

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: list[int]) -> Batch:
        groups = self.images[indices].split(self.group)
        views = [torch.cat([self.transform(group) for group in groups]) for _ in range(self.views)]
        return views, self.labels[indices]

    @staticmethod
    def collate(batch: Batch) -> Batch:
        """Nothing is left to do: `__getitems__` gives the batch."""
        return batch


class FileViews(Dataset):
    """Views of image files, one image at a time."""

    def __init__(self, samples: list[tuple[str, int]], transform: v2.Transform, views: int) -> None:
        self.samples, self.transform, self.views = samples, transform, views

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int]:
        path, label = self.samples[index]
        try:
            with Image.open(path) as file:
                image = file.convert("RGB")
        except Exception as error:  # Pillow raises whatever a damaged file leads its decoders to
            raise UserError(f"cannot read the image {path} ({error}); remove it or fetch it again") from None
        return [self.transform(image) for _ in range(self.views)], label


class Shuffled(Sampler[int]):
    """A random order that, with all that is drawn after it, depends on `seed` alone.

    A resumed run so sees the very batches that a run never stopped would have seen, however often
    Lightning has drawn random numbers before.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        torch.manual_seed(self.seed)
        yield from torch.randperm(self.count).tolist()


def seed_worker(seed: int, worker: int) -> None:
    """Seeds a loader's worker process, each differently."""
    torch.manual_seed(seed + 1 + worker)
