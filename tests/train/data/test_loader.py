"""The loader's processes end with the loading, whatever ends it."""

import multiprocessing

import numpy as np
import pytest

from edgebnn.errors import UserError
from edgebnn.train.data.datasets import LoadedBatch
from edgebnn.train.data.loader import BatchLoader


def read(indices: list[int]) -> LoadedBatch:
    if 5 in indices:
        raise UserError("image 5 is broken")
    return LoadedBatch(indices, [], len(indices))


def loader_of(images: int) -> BatchLoader:
    batches = [np.array([number]) for number in range(images)]
    return BatchLoader(lambda: (read, batches), images, 2, set())


def test_an_error_ends_the_loading_processes_though_its_traceback_is_held() -> None:
    with pytest.raises(UserError, match=r"^image 5 is broken$") as held:
        list(loader_of(8))
    assert held.traceback
    assert multiprocessing.active_children() == []


def test_a_loading_that_is_given_up_ends_its_processes() -> None:
    loading = iter(loader_of(5))
    assert next(loading) == [0]
    assert len(multiprocessing.active_children()) == 2
    loading.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []
