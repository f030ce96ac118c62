"""A loader that can start in the middle of an epoch, and that reports a killed worker in one line."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from edgebnn.errors import UserError

from ..parallel.stop_signal import outlive_stop_signals
from .datasets import BatchDataset, LoadedBatch

LoadingPlan = tuple[Callable[[list[int]], LoadedBatch], Sequence[np.ndarray] | np.ndarray]
"""The function that makes a batch, and the image numbers of each remaining batch."""

SHARED_MEMORY = "/dev/shm"  # noqa: S108

FEW_BROKEN = 10
BROKEN_SHARE = 0.01
"""A pass may have fewer than FEW_BROKEN broken images, or at most this share of its images."""


class BatchLoader:
    """Loads the batches of a plan. The plan is made when the first batch is asked for.

    Only then does Lightning's trainer know the epoch and the position of a resumed run in it. Lightning also asks for
    an iterator twice per epoch, and torch's loader would start its workers twice.

    It is no `DataLoader` on purpose. With several processes, Lightning replaces the sampler of a `DataLoader`, and the
    plan has already divided the images among the processes.

    Args:
        plan: returns the plan of the remaining batches.
        batches: number of batches of the whole pass, with those that a resumed run has finished.
        workers: number of loading processes.
        broken: set to which the names of unreadable files are added.
    """

    def __init__(self, plan: Callable[[], LoadingPlan], batches: int, workers: int, broken: set[str]) -> None:
        self.plan, self.batches, self.workers, self.broken = plan, batches, workers, broken

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Any]:
        read, batches = self.plan()
        loader: DataLoader = DataLoader(
            BatchDataset(read),
            batch_sampler=[batch.tolist() for batch in batches],
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            collate_fn=share_batch,
            worker_init_fn=outlive_stop_signals,
        )
        allowed = max(FEW_BROKEN - 1, BROKEN_SHARE * sum(map(len, batches)))
        asked = broken = 0
        loading = iter(loader)
        try:
            for loaded in loading:
                asked, broken = asked + loaded.asked, broken + len(loaded.broken)
                self.broken.update(each.name for each in loaded.broken)
                if broken > allowed:
                    raise UserError(
                        f"{broken} of {asked} images cannot be read ({loaded.broken[-1].text()} is one); "
                        f"{loaded.broken[-1].remedy()}"
                    )
                if loaded.batch is not None:
                    yield loaded.batch
        except UserError as error:
            # A worker passes an error on as the text of its traceback. The last line holds the message.
            raise UserError(str(error).strip().splitlines()[-1].removeprefix("edgebnn.errors.UserError: ")) from None
        except RuntimeError as error:
            raise worker_error(error) or error from None
        finally:
            # The traceback of an error keeps `loading` alive, and with it the loading processes.
            if hasattr(loading, "_shutdown_workers"):
                loading._shutdown_workers()

    # The trainer counts the position in the epoch, so there is no state to keep. Without these two methods, Lightning
    # warns when a run resumes in the middle of an epoch.
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def share_batch(loaded: Any) -> Any:
    """Moves a batch, which the data set has already made, into the shared memory that a worker returns it by.

    torch would do it in a thread. If the memory is too small there, the training waits for ever.

    Raises:
        UserError: the shared memory is too small. It is 64 MB in a container of Docker by default.
    """
    if get_worker_info() is None:
        return loaded
    try:
        _share(loaded)
    except (RuntimeError, OSError) as error:
        size = shutil.disk_usage(SHARED_MEMORY).total / 2**20 if os.path.isdir(SHARED_MEMORY) else 0
        raise UserError(
            f"shared memory ({SHARED_MEMORY}, {size:.0f} MB) is too small for the batches of the loading processes "
            f"({str(error).splitlines()[0]}); give docker run --shm-size=8g or --ipc=host, lower data.workers, or set "
            "data.workers 0"
        ) from None
    return loaded


def _share(value: Any) -> None:
    if isinstance(value, Tensor):
        value.share_memory_()
    elif isinstance(value, list | tuple):
        for each in value:
            _share(each)


def worker_error(error: RuntimeError) -> UserError | None:
    """Returns the user's error for a loading process that died, or None if `error` reports something else.

    torch raises `error` in a signal handler, so it can appear anywhere in the training process.
    """
    text = str(error)
    if not text.startswith("DataLoader worker"):
        return None
    return UserError(
        f"a process that loads images died ({text.splitlines()[0]}), as when memory runs out; "
        "lower data.workers or free memory, and resume with --ckpt_path RUN/last.ckpt; a lower data.batch_size also "
        "needs --resume_with_changes true"
    )
