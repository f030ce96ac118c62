"""The queue against a list from which the oldest is dropped."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from edgebnn.errors import UserError
from edgebnn.ssl.queue import KeyQueue, check_queue


@settings(deadline=None, max_examples=60)
@given(size=st.integers(1, 9), batches=st.lists(st.integers(0, 12), max_size=6))
def test_queue_holds_the_newest_keys_whatever_the_batches(size: int, batches: list[int]) -> None:
    queue = KeyQueue(size, 3)
    held = list(queue.keys.clone())
    for count in batches:
        keys = 7 * torch.randn(count, 3)
        queue.push(keys)
        held = (held + list(F.normalize(keys, dim=1)))[-size:]
        # From the oldest on: the ring starts at its head.
        torch.testing.assert_close(queue.keys.roll(-int(queue.head), 0), torch.stack(held), rtol=0, atol=1e-7)


def test_queue_is_state_and_starts_on_the_unit_sphere() -> None:
    queue = KeyQueue(10, 4)
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(10), rtol=0, atol=1e-6)
    queue.push(torch.randn(13, 4))
    other = KeyQueue(10, 4)
    other.load_state_dict(queue.state_dict())
    assert torch.equal(other.keys, queue.keys)
    assert int(other.head) == 3


def test_empty_queue_is_refused() -> None:
    with pytest.raises(UserError, match="size of at least 1"):
        KeyQueue(0, 4)


@settings(deadline=None, max_examples=100)
@given(size=st.integers(1, 300), batch=st.integers(1, 300))
def test_sizes_that_do_not_fit_are_refused_with_some_that_do(size: int, batch: int) -> None:
    if size >= batch and size % batch == 0:
        check_queue(size, batch)
        return
    with pytest.raises(UserError) as error:
        check_queue(size, batch)
    queue, smaller = (
        int(word) for word in re.search(r"queue of (\d+) or data.batch_size (\d+)", str(error.value)).groups()
    )
    check_queue(queue, batch)
    check_queue(size, smaller)
