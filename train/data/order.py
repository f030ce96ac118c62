"""Which images each process loads in each batch: functions of the seed and the epoch, without state.

The batch of an optimizer step is `batch_size` consecutive images of the epoch's order. Processes and accumulated
batches divide these images, so their number does not change what a step learns from.
"""

import numpy as np

from edgebnn.errors import UserError


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Returns a permutation of 0 .. count - 1 that depends on the seed and the epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def part_size(batch_size: int, world: int, accumulate: int) -> int:
    """Returns the number of images that a process loads at a time.

    Args:
        batch_size: images per optimizer step.
        world: number of processes.
        accumulate: accumulated batches per optimizer step.

    Raises:
        UserError: the batch does not divide evenly.
    """
    parts = world * accumulate
    if batch_size % parts:
        raise UserError(
            f"data.batch_size {batch_size}, the images of one step, does not divide evenly by {world} processes times "
            f"{accumulate} accumulated batches; use a multiple of {parts}, as {max(1, batch_size // parts) * parts}"
        )
    return batch_size // parts


def training_batches(
    order: np.ndarray, batch_size: int, world: int = 1, rank: int = 0, accumulate: int = 1, *, drop_last: bool = True
) -> list[np.ndarray]:
    """Returns the image numbers of the batches that process `rank` loads, in order.

    The batch of a step is cut into `accumulate` parts, and each part into `world` parts. At any time, the processes
    hold consecutive images in the order of their ranks. `train.parallel.distributed.gather` restores this order.

    Args:
        order: the image numbers of the epoch.
        batch_size: images per optimizer step.
        world: number of processes.
        rank: number of this process.
        accumulate: accumulated batches per optimizer step.
        drop_last: whether to drop the images left over after the last whole step. If False, they make a smaller step.
            If they do not divide evenly, some of them are loaded twice, and `last_weights` gives the copies weight 0.
    """
    part = part_size(batch_size, world, accumulate)
    steps = len(order) // batch_size
    batches = list(order[: steps * batch_size].reshape(steps * accumulate, world, part)[:, rank])
    left = order[steps * batch_size :]
    if len(left) and not drop_last:
        last = last_part_size(len(left), batch_size, world, accumulate)
        batches += list(np.resize(left, (accumulate, world, last))[:, rank])
    return batches


def last_part_size(left: int, batch_size: int, world: int, accumulate: int) -> int:
    """Returns the number of images that a process loads at a time in a smaller last step.

    It is at least two if whole batches have two or more: in training, BatchNorm needs more than one value per channel.

    Args:
        left: images of the last step, fewer than `batch_size`.
        batch_size: as for `training_batches`.
        world: as for `training_batches`.
        accumulate: as for `training_batches`.
    """
    parts = world * accumulate
    return min(batch_size // parts, max(2, -(-left // parts)))


def last_weights(
    left: int, batch_size: int, world: int = 1, rank: int = 0, accumulate: int = 1, number: int = 0
) -> np.ndarray:
    """Returns the loss weights (N,) of the images of one batch in a smaller last step.

    The trainer averages over the images of a batch, over processes and over accumulated batches. With these weights,
    this average is the mean loss of the `left` images, each counted once.

    Args:
        left: images of the last step, fewer than `batch_size`.
        batch_size: as for `training_batches`.
        world: as for `training_batches`.
        rank: as for `training_batches`.
        accumulate: as for `training_batches`.
        number: number of the accumulated batch, from 0.
    """
    part = last_part_size(left, batch_size, world, accumulate)
    places = (number * world + rank) * part + np.arange(part)
    return np.where(places < left, part * world * accumulate / left, 0.0)


def evaluation_batches(count: int, part: int, world: int = 1, rank: int = 0) -> list[np.ndarray]:
    """Returns the batches of process `rank` in an evaluation: images rank, rank + world, rank + 2 world, ...

    Args:
        count: number of all images.
        part: images per batch. The last batch may have fewer.
        world: number of processes.
        rank: number of this process.
    """
    mine = np.arange(rank, count, world)
    return [mine[start : start + part] for start in range(0, len(mine), part)]
