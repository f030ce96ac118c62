"""Which process loads which images: shares put together are the single process' batches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgebnn.errors import UserError
from edgebnn.train.data.order import epoch_order, evaluation_batches, last_weights, training_batches

sizes = st.integers(1, 4)


@given(st.integers(0, 60), sizes, sizes, sizes)
def test_shares_put_together_are_the_steps_of_a_single_process(
    count: int, part: int, world: int, accumulate: int
) -> None:
    order = epoch_order(count, 7, 2)
    batch = part * world * accumulate
    shares = [training_batches(order, batch, world, rank, accumulate) for rank in range(world)]
    whole = training_batches(order, batch)
    assert len(whole) == count // batch
    for step, expected in enumerate(whole):
        moments = range(step * accumulate, (step + 1) * accumulate)
        # What `gather` gives at each moment, one after the other.
        assert [image for moment in moments for share in shares for image in share[moment]] == expected.tolist()
        assert expected.tolist() == order[step * batch : (step + 1) * batch].tolist()


@given(st.integers(1, 60), sizes, sizes, sizes)
def test_a_last_step_of_what_is_left_counts_every_image_once(
    count: int, part: int, world: int, accumulate: int
) -> None:
    order = epoch_order(count, 7, 2)
    batch = part * world * accumulate
    shares = [training_batches(order, batch, world, rank, accumulate, drop_last=False) for rank in range(world)]
    steps, left = divmod(count, batch)
    # All processes load as much at a time, or those that have nothing to load would keep the others waiting.
    assert len({tuple(map(len, share)) for share in shares}) == 1
    assert len(shares[0]) == (steps + (left > 0)) * accumulate
    for rank, share in enumerate(shares):
        whole = training_batches(order, batch, world, rank, accumulate)
        assert [row.tolist() for row in share[: steps * accumulate]] == [row.tolist() for row in whole]
    if not left:
        return
    assert 1 <= len(shares[0][-1]) <= part
    assert len(shares[0][-1]) > 1 or part == 1
    loss = np.random.default_rng(count).random(count)
    # As the trainer does it: the mean over a batch, then over the processes and the accumulated batches.
    means = [
        (loss[share[steps * accumulate + number]] * last_weights(left, batch, world, rank, accumulate, number)).mean()
        for number in range(accumulate)
        for rank, share in enumerate(shares)
    ]
    assert np.mean(means) == pytest.approx(loss[order[steps * batch :]].mean(), rel=1e-12)


@given(st.integers(0, 60), sizes, st.integers(1, 7))
def test_evaluation_shows_every_image_in_one_process_once(count: int, world: int, part: int) -> None:
    shares = [evaluation_batches(count, part, world, rank) for rank in range(world)]
    assert sorted(int(image) for share in shares for batch in share for image in batch) == list(range(count))
    assert all(0 < len(batch) <= part for share in shares for batch in share)
    # Shares differ by one image at most, so no process waits long for another.
    held = [sum(map(len, share)) for share in shares]
    assert max(held) - min(held) <= 1


def test_an_order_is_a_function_of_seed_and_epoch() -> None:
    assert sorted(epoch_order(100, 3, 5)) == list(range(100))
    np.testing.assert_array_equal(epoch_order(100, 3, 5), epoch_order(100, 3, 5))
    others = [epoch_order(100, seed, epoch) for seed, epoch in ((3, 6), (4, 5), (5, 3))]
    assert all((epoch_order(100, 3, 5) != other).any() for other in others)


def test_a_batch_that_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(
        UserError,
        match=r"data.batch_size 100,.*3 processes times 2 accumulated batches; use a multiple of 6, as 96",
    ):
        training_batches(np.arange(200), 100, world=3, accumulate=2)
