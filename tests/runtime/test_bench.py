import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgebnn.errors import UserError
from edgebnn.graph import ModelInfo
from edgebnn.runtime import Latency, Model, load_model, measure_latency, measure_runs, peak_memory
from tests.runtime.models import write_onnx


@given(st.lists(st.floats(0.001, 1e5), min_size=2, max_size=80))
def test_summary_is_that_of_the_standard_library(times: list[float]) -> None:
    latency = Latency.from_runs(times)
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
    latencies = measure_latency([spy("a", calls), spy("b", calls, batch=2), spy("c", calls)], runs=20, warmup=2)
    rounds = [calls[start : start + 3] for start in range(0, len(calls), 3)]
    assert len(rounds) == 22
    assert all(sorted(each) == ["a1", "b2", "c1"] for each in rounds)
    # The same neighbour every time would favour one model's caches.
    assert len({tuple(each) for each in rounds}) == 6
    assert [latency.runs for latency in latencies] == [20, 20, 20]


def test_time_is_bounded_and_one_round_is_always_measured() -> None:
    calls: list[str] = []
    (latency,) = measure_latency([spy("a", calls)], runs=1000, warmup=10, seconds=0)
    assert latency.runs == len(calls) == 1


def test_a_real_model_is_measured(tmp_path: Path) -> None:
    (latency,) = measure_latency([load_model(write_onnx(tmp_path / "m.onnx"))], runs=9)
    assert 0 < latency.min_ms <= latency.p10_ms <= latency.median_ms <= latency.p90_ms


def test_nothing_to_measure_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="nothing to measure"):
        measure_latency([])


def test_warming_up_takes_the_time_asked_for() -> None:
    calls: list[str] = []
    begin = time.perf_counter()
    ((only,),) = measure_runs([spy("a", calls)], runs=1, warmup=0, warmup_seconds=0.05)
    assert time.perf_counter() - begin >= 0.05
    assert len(calls) > 1
    calls.clear()
    measure_runs([spy("a", calls)], runs=2, warmup=4, warmup_seconds=0)
    assert len(calls) == 6
    assert only > 0


def test_a_model_knows_its_first_run(tmp_path: Path) -> None:
    times = iter([0.03, 0.0, 0.0])

    def infer(images: np.ndarray) -> np.ndarray:
        time.sleep(next(times))
        return np.zeros((len(images), 2), np.float32)

    model = Model(tmp_path, "onnx", "onnxruntime", "0", 1, ModelInfo(resolution=4), True, 3, None, infer)
    assert model.first_ms is None
    (runs,) = measure_runs([model], runs=1, warmup=2)
    assert model.first_ms is not None
    assert model.first_ms >= 30 > runs[0]
    loaded = load_model(write_onnx(tmp_path / "m.onnx"))
    assert loaded.init_ms is not None
    assert loaded.init_ms > 0


def test_peak_memory_grows_and_stays() -> None:
    code = """if True:
        import numpy as np
        from edgebnn.runtime import peak_memory
        before = peak_memory()
        held = np.ones(100_000_000, np.uint8)
        most = peak_memory()
        del held
        print(most - before, peak_memory() - most)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown, after = map(int, done.stdout.split())
    assert grown > 90e6
    assert after < 50e6
    assert (peak_memory() or 0) > 20e6
