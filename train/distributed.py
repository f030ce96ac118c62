"""What a method needs of its sister processes; in a single process all of it is trivial."""

import torch
from torch import Tensor, distributed


def world_size() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """This process' number among them."""
    return distributed.get_rank() if distributed.is_initialized() else 0


@torch.no_grad()
def gather(rows: Tensor) -> Tensor:
    """The rows (N, ...) of all processes, in the order of the ranks, (N * world_size, ...). No gradient.

    Process r holds the r-th part of a step's batch (`train.data`), so the rows come in the batch's order.
    """
    if world_size() == 1:
        return rows.detach()
    parts = [torch.empty_like(rows) for _ in range(world_size())]
    distributed.all_gather(parts, rows.detach().contiguous())
    return torch.cat(parts)
