"""What a method needs of its sister processes; in a single process all of it is trivial."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn

_alone = False


def world_size() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if _together() else 1


def rank() -> int:
    """This process' number among them."""
    return distributed.get_rank() if _together() else 0


def _together() -> bool:
    return not _alone and distributed.is_available() and distributed.is_initialized()


@contextmanager
def alone() -> Iterator[None]:
    """Within it a process is by itself: `Method.prepare` does the same whole work in each of them.

    In the second stage of a recipe the processes know each other before `prepare`, in the first not yet.
    """
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


@torch.no_grad()
def gather(rows: Tensor) -> Tensor:
    """The rows (N, ...) of all processes, in the order of the ranks, (N * world_size, ...). No gradient.

    Process r holds the r-th part of a step's batch (`train.data.sources`), so the rows come in the batch's order.
    """
    if world_size() == 1:
        return rows.detach()
    parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world_size())]
    distributed.all_gather(parts, rows.detach().contiguous())
    return torch.cat(parts)


def union(names: set[str]) -> set[str]:
    """The names that any of the processes has. All of them have to ask."""
    if world_size() == 1:
        return names
    found: list[set[str]] = [set()] * world_size()
    distributed.all_gather_object(found, names)
    return set().union(*found)


def take_buffers_of_first(module: nn.Module) -> None:
    """Gives `module` the buffers of the first process: BatchNorm's running statistics, where each has its own."""
    if world_size() > 1:
        for buffer in module.buffers():
            distributed.broadcast(buffer, src=0)
