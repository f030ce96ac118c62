import json
import random
from typing import Any

import pytest

from edgebnn.errors import UserError
from edgebnn.export.device import parse as device_parse
from edgebnn.export.device.parse import BenchmarkOutput, Sample, Statistics
from tests.export import benchmark_outputs
from tests.export.benchmark_outputs import LCE_0_4, TEXTS, TF_2_13, TF_PERCENTILES

MB = 1 << 20


@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["unix", "terminal"])
@pytest.mark.parametrize("version", TEXTS)
def test_every_version_is_read(version: str, ends: str) -> None:
    text, warmup, runs, init, first, peak, growth = TEXTS[version]
    found = device_parse.parse_benchmark_model(text.replace("\n", ends))
    assert (found.warmup, found.runs) == (warmup, runs)
    assert (found.init_us, found.first_us) == (init, first)
    assert found.peak_bytes == (None if peak is None else round(peak * MB))
    assert found.growth_bytes == (None if growth is None else round(growth * MB))


def test_a_system_that_does_not_tell_its_memory() -> None:
    # itrue-tensorflow-imx8's manual: the delegate's versions print zeros.
    text = benchmark_outputs.TF_2_4.replace("init=0 overall=12.8672", "init=0 overall=0")
    assert device_parse.parse_benchmark_model(text).growth_bytes is None


@pytest.mark.parametrize(
    ("garbage", "shown"),
    [
        ("", "''"),
        ("STARTING!\nERROR: Failed to load model x\n", "ERROR: Failed to load model x"),
        (benchmark_outputs.WRONG_LIBRARY, "GLIBC_2.34"),
        (LCE_0_4[: LCE_0_4.index("Inference timings")], "count=50 first=31929"),
        (LCE_0_4.replace("Inference timings", "Inference numbers"), "Inference numbers in us: Init: 1471"),
        (LCE_0_4.replace("avg=31420.6", "avg=fast"), "count=50 first=31929"),
        (LCE_0_4.replace("avg=31420.6", "avg=99999.9"), "avg=99999.9"),
        (LCE_0_4.replace("curr=31278", "curr=1"), "curr=1 "),
        (TF_PERCENTILES.replace("median=141253", "median=999999"), "median=999999"),
        (TF_2_13.replace("count=50 first", "count=0 first"), "count=0"),
        (LCE_0_4.replace("max=31929", "max=1e999"), "count=50 first=31929"),
        (LCE_0_4.replace("count=50", "count=" + "9" * 5000), "Inference timings"),
    ],
)
def test_garbage_is_refused_with_its_line(garbage: str, shown: str) -> None:
    with pytest.raises(UserError) as error:
        device_parse.parse_benchmark_model(garbage).sample()
    assert shown in str(error.value)
    assert "\n" not in str(error.value)


def statistics(times: list[int]) -> Statistics:
    """As the tool prints them: an average of six digits."""
    return Statistics(len(times), times[0], times[-1], min(times), max(times), float(f"{sum(times) / len(times):.6g}"))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("most", [100, 10_000, 5_000_000])
def test_single_runs_come_back_from_statistics(count: int, most: int) -> None:
    draw = random.Random(most + count)
    for _ in range(200):
        times = [draw.randint(1, most) for _ in range(count)]
        sample = BenchmarkOutput(statistics([9]), statistics(times), 5000, 7000, 1, None).sample()
        # Six digits of the average, three times.
        assert sample.runs_ms == pytest.approx([each / 1e3 for each in times], abs=2e-3 + 1.5e-5 * most / 1e3)
        assert (sample.init_ms, sample.first_ms, sample.peak_bytes) == (5, 7, 1)


def test_other_counts_are_not_guessed_from() -> None:
    with pytest.raises(UserError, match="made 50 runs, not 3"):
        device_parse.parse_benchmark_model(LCE_0_4).sample()


BENCH: dict[str, Any] = {
    "machine": {
        "architecture": "armv7l",
        "bits": 32,
        "features": ["neon"],
        "python": "3.11.2",
        "numpy": "1.26.4",
        "onnxruntime": "1.31.1",
        "cpu": "x",
    },
    "peak_memory_bytes": 72388608,
    "results": [
        {
            "runtime": "onnxruntime",
            "runtime_version": "1.31.1",
            "batch": 1,
            "isa": "neon",
            "init_ms": 76.4,
            "first_ms": 0.77,
            "milliseconds": [0.5, 0.25, 0.75],
        }
    ],
}


def test_edgebnn_bench_is_read_after_a_greeting() -> None:
    found = device_parse.parse_edgebnn_bench("Welcome {you}!\n" + json.dumps(BENCH, indent=1))
    facts: dict[str, Any] = {"runtime": "onnxruntime", "runtime_version": "1.31.1", "batch": 1, "isa": "neon"}
    facts |= {"process": {key: value for key, value in BENCH["machine"].items() if key != "cpu"}}
    assert found == Sample((0.5, 0.25, 0.75), 76.4, 0.77, 72388608, None, facts)


@pytest.mark.parametrize(
    "change",
    [
        {"results": []},
        {"results": [BENCH["results"][0] | {"milliseconds": ["fast"]}]},
        {"results": [BENCH["results"][0] | {"milliseconds": []}]},
        {"results": [BENCH["results"][0] | {"milliseconds": [-1.0]}]},
        {"results": [BENCH["results"][0] | {"init_ms": None}]},
        {"results": [BENCH["results"][0] | {"first_ms": float("nan")}]},
        {"machine": []},
        {"results": [{key: value for key, value in BENCH["results"][0].items() if key != "runtime"}]},
        {"results": [BENCH["results"][0] | {"runtime_version": {"a": 1}}]},
        {"results": [BENCH["results"][0] | {"batch": float("nan")}]},
        {"machine": BENCH["machine"] | {"features": [1.5]}},
        {"peak_memory_bytes": "much"},
        {"peak_memory_bytes": -1},
    ],
)
def test_other_json_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        device_parse.parse_edgebnn_bench(json.dumps(BENCH | change))


@pytest.mark.parametrize("text", ["", "Segmentation fault", '{"results": [', "[" * 100_000, "{" * 100_000])
def test_what_is_no_json_is_shown(text: str) -> None:
    with pytest.raises(UserError, match="printed unexpected text") as error:
        device_parse.parse_edgebnn_bench(text)
    assert len(str(error.value)) < 1000
