import statistics
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgebnn.errors import UserError
from edgebnn.graph import ModelInfo
from edgebnn.runtime import Latency, Model, load, measure
from tests.runtime.models import write_onnx


@given(st.lists(st.floats(0.001, 1e5), min_size=2, max_size=80))
def test_summary_is_that_of_the_standard_library(times: list[float]) -> None:
    latency = Latency.of(times)
    deciles = statistics.quantiles(times, n=10, method="inclusive")
    assert latency.median_ms == pytest.approx(statistics.median(times), rel=1e-9)
    assert latency.p10_ms == pytest.approx(deciles[0], rel=1e-9)
    assert latency.p90_ms == pytest.approx(deciles[8], rel=1e-9)
    assert (latency.min_ms, latency.runs) == (min(times), len(times))


def spy(name: str, calls: list[str], batch: int | None = None) -> Model:
    """A model that notes its runs."""

    def infer(images: np.ndarray) -> np.ndarray:
        calls.append(f"{name}{len(images)}")
        return np.zeros((len(images), 2), np.float32)

    info = ModelInfo(name=name, resolution=4)
    return Model(Path(name), "onnx", "onnxruntime", "0", 1, info, True, 3, batch, infer)


def test_models_take_turns() -> None:
    calls: list[str] = []
    latencies = measure([spy("a", calls), spy("b", calls, batch=2), spy("c", calls)], runs=20, warmup=2)
    rounds = [calls[start : start + 3] for start in range(0, len(calls), 3)]
    assert len(rounds) == 22
    assert all(sorted(each) == ["a1", "b2", "c1"] for each in rounds)
    # The same neighbour every time would favour one model's caches.
    assert len({tuple(each) for each in rounds}) == 6
    assert [latency.runs for latency in latencies] == [20, 20, 20]


def test_time_is_bounded_and_one_round_is_always_measured() -> None:
    calls: list[str] = []
    (latency,) = measure([spy("a", calls)], runs=1000, warmup=10, seconds=0)
    assert latency.runs == len(calls) == 1


def test_a_real_model_is_measured(tmp_path: Path) -> None:
    (latency,) = measure([load(write_onnx(tmp_path / "m.onnx"))], runs=9)
    assert 0 < latency.min_ms <= latency.p10_ms <= latency.median_ms <= latency.p90_ms


def test_nothing_to_measure_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="nothing to measure"):
        measure([])
