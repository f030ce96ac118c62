"""Which images make which batch, in which process: functions of the seed and the epoch, with no state.

An optimiser step's batch is `batch_size` consecutive images of the epoch's order, whatever the number of
processes and of accumulated batches: they share it out, so that neither changes what a step learns from.
"""

import numpy as np

from edgebnn.errors import UserError


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of 0 .. count - 1, a function of (seed, epoch)."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def part_size(batch_size: int, world: int, accumulate: int) -> int:
    """Images a process loads at a time.

    Raises:
        UserError: a step's batch cannot be shared out evenly.
    """
    parts = world * accumulate
    if batch_size % parts:
        raise UserError(
            f"data.batch_size {batch_size}, the images of one step, does not share out among {world} processes times "
            f"{accumulate} accumulated batches; use a multiple of {parts}, as {max(1, batch_size // parts) * parts}"
        )
    return batch_size // parts


def training_batches(
    order: np.ndarray, batch_size: int, world: int = 1, rank: int = 0, accumulate: int = 1
) -> np.ndarray:
    """The batches (batches, images) that process `rank` loads one after the other.

    A step's batch is cut into `accumulate` parts, each of these into `world`: what the processes hold at a time
    are consecutive images, in the order of their ranks (as `train.distributed.gather` restores them). Images
    left over after the last whole batch are dropped, since BatchNorm should see batches of one size.
    """
    part = part_size(batch_size, world, accumulate)
    steps = len(order) // batch_size
    return order[: steps * batch_size].reshape(steps * accumulate, world, part)[:, rank]


def evaluation_batches(count: int, part: int, world: int = 1, rank: int = 0) -> list[np.ndarray]:
    """Batches of at most `part` images: every `world`-th image from `rank` on, so none is in two processes."""
    mine = np.arange(rank, count, world)
    return [mine[start : start + part] for start in range(0, len(mine), part)]
