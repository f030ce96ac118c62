"""Torch's loader made to order: it starts where a run was stopped, and a killed worker is one line."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from edgebnn.errors import UserError

from .datasets import Loaded, Reading, as_loaded

Plan = tuple[Callable[[list[int]], Loaded], Sequence[np.ndarray] | np.ndarray]
"""What reads a batch, and the numbers of the images of each batch still to come."""

FEW = 10
SHARE = 0.01
"""Broken images that are nobody's fault: fewer than FEW, or at most this share of a pass."""


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
        broken: takes the names of files that could not be read.
    """

    def __init__(self, plan: Callable[[], Plan], batches: int, workers: int, broken: set[str]) -> None:
        self.plan, self.batches, self.workers, self.broken = plan, batches, workers, broken

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Any]:
        read, batches = self.plan()
        loader: DataLoader = DataLoader(
            Reading(read),
            batch_sampler=[batch.tolist() for batch in batches],
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            collate_fn=as_loaded,
        )
        allowed = max(FEW - 1, SHARE * sum(map(len, batches)))
        asked = broken = 0
        try:
            for loaded in loader:
                asked, broken = asked + loaded.asked, broken + len(loaded.broken)
                self.broken.update(loaded.broken)
                if broken > allowed:
                    raise UserError(
                        f"{broken} of {asked} images cannot be read ({loaded.broken[-1]} is one); fetch the data again"
                    )
                if loaded.batch is not None:
                    yield loaded.batch
        except UserError as error:
            # A worker hands on an error as the text of its traceback, whose last line says it.
            raise UserError(str(error).strip().splitlines()[-1].removeprefix("edgebnn.errors.UserError: ")) from None
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
