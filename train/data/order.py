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
    order: np.ndarray, batch_size: int, world: int = 1, rank: int = 0, accumulate: int = 1, *, drop_last: bool = True
) -> list[np.ndarray]:
    """Returns the batches of image numbers that process `rank` loads one after the other.

    A step's batch is cut into `accumulate` parts, each of these into `world`: what the processes hold at a time
    are consecutive images, in the order of their ranks (as `train.parallel.distributed.gather` restores them).

    Args:
        order: the epoch's images.
        batch_size: images of a step.
        world, rank: processes, and the number of this one.
        accumulate: batches that make one step.
        drop_last: whether the images left over after the last whole step are dropped. Otherwise they make a smaller
            step. Images of that step are loaded again where they do not share out, and `last_weights` leaves those
            copies out of the loss.
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
    """Returns how many images a process loads at a time in a last step of `left` images, fewer than `batch_size`.

    Two at least where whole batches have as many: BatchNorm in training takes no single value a channel.
    """
    parts = world * accumulate
    return min(batch_size // parts, max(2, -(-left // parts)))


def last_weights(
    left: int, batch_size: int, world: int = 1, rank: int = 0, accumulate: int = 1, number: int = 0
) -> np.ndarray:
    """Returns the weights of the images of one batch in a last step of `left` images.

    The mean over a batch of weight times loss, averaged over processes and accumulated batches as the trainer does,
    is the mean loss of the `left` images, each counted once.

    Args:
        left: images of the step, fewer than `batch_size`.
        batch_size, world, rank, accumulate: as `training_batches` has them.
        number: which of the accumulated batches.
    """
    part = last_part_size(left, batch_size, world, accumulate)
    places = (number * world + rank) * part + np.arange(part)
    return np.where(places < left, part * world * accumulate / left, 0.0)


def evaluation_batches(count: int, part: int, world: int = 1, rank: int = 0) -> list[np.ndarray]:
    """Batches of at most `part` images: every `world`-th image from `rank` on, so none is in two processes."""
    mine = np.arange(rank, count, world)
    return [mine[start : start + part] for start in range(0, len(mine), part)]
