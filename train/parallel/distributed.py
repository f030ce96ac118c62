"""What a method needs from the other processes. With one process, each function returns its input or a constant."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn

_as_single = False


def world_size() -> int:
    """Returns the number of training processes."""
    return distributed.get_world_size() if _together() else 1


def rank() -> int:
    """Returns the number of this process, from 0."""
    return distributed.get_rank() if _together() else 0


def _together() -> bool:
    return not _as_single and distributed.is_available() and distributed.is_initialized()


@contextmanager
def as_single_process() -> Iterator[None]:
    """Makes `world_size()` 1 and `rank()` 0 in its block.

    `Method.prepare` runs in it, because every process does the same whole work there. In the first stage of a recipe
    the processes are not connected yet, and in the second stage they are.
    """
    global _as_single
    before, _as_single = _as_single, True
    try:
        yield
    finally:
        _as_single = before


@torch.no_grad()
def gather(rows: Tensor) -> Tensor:
    """Returns the rows of all processes in the order of their ranks, without gradient.

    Process r holds part r of a step's batch (`train.data.order.training_batches`), so the rows are in the order of the
    batch.

    Args:
        rows: the rows (N, ...) of this process. N is the same in all processes.

    Returns:
        All rows (N * world_size, ...).
    """
    if world_size() == 1:
        return rows.detach()
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world_size())]
    distributed.all_gather(parts, rows.detach().contiguous())
    return torch.cat(parts)


def union_of_names(names: set[str]) -> set[str]:
    """Returns the names that at least one process has. All processes must call it together."""
    if world_size() == 1:
        return names
    found: list[set[str]] = [set()] * world_size()
    distributed.all_gather_object(found, names)
    return set().union(*found)


def take_buffers_of_first(module: nn.Module) -> None:
    """Replaces the buffers of `module` by those of the first process.

    These are BatchNorm's running statistics, which differ between processes unless BatchNorm is synchronised.
    """
    if world_size() > 1:
        for buffer in module.buffers():
            distributed.broadcast(buffer, src=0)
