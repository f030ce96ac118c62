"""Torch's loader made to order: it starts where a run was stopped, and a killed worker is one line."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from edgebnn.errors import UserError

Plan = tuple[Dataset, Iterable[np.ndarray]]
"""A data set with `__getitems__` and `collate`, and the indices of each batch still to come."""


class Loader:
    """Batches of a plan that is made when the first one is asked for, not before.

    Only then does Lightning's trainer know the epoch and how much of it a resumed run has behind it; and it asks for
    an iterator twice an epoch, where torch's loader would start its workers twice.

    It is no `DataLoader` on purpose: Lightning replaces the sampler of those when there are several processes, and
    the plan has shared the images out already.

    Args:
        plan: what is to be loaded, from here on.
        batches: length of the whole pass, what a resumed run has behind it included.
        workers: processes that load.
    """

    def __init__(self, plan: Callable[[], Plan], batches: int, workers: int) -> None:
        self.plan, self.batches, self.workers = plan, batches, workers

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Any]:
        dataset, batches = self.plan()
        loader: DataLoader = DataLoader(
            dataset,
            batch_sampler=[batch.tolist() for batch in batches],
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            collate_fn=dataset.collate,  # type: ignore[attr-defined]
        )
        try:
            yield from loader
        except RuntimeError as error:
            raise worker_error(error) or error from None

    # The place in the epoch is the trainer's count, so there is nothing to keep; but a loader without these two is
    # one that Lightning warns of when a run goes on in the middle of an epoch.
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def worker_error(error: RuntimeError) -> UserError | None:
    """What to tell the user if `error` is torch's word for a worker that died; None if it is not.

    Torch raises it from a signal's handler, so anywhere in the training process, not in the loader alone.
    """
    text = str(error)
    if not text.startswith("DataLoader worker"):
        return None
    return UserError(
        f"a process that loads images died ({text.splitlines()[0]}), as when memory runs out; "
        "lower data.workers or data.batch_size, or free memory, and resume"
    )
