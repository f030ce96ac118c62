"""The training benchmark compares like with like, and says so when it does not."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgebnn.errors import UserError
from edgebnn.train.bench import step as bench
from edgebnn.train.bench.baseline import SignByMasks
from edgebnn.train.bench.memory import peak_memory, reset_peak_memory
from edgebnn.train.bench.profile import OTHER_KIND, profile_table
from edgebnn.train.bench.step import (
    TOLERANCE,
    StepSetting,
    relative_differences,
    result_table,
    run_benchmark,
    step_times,
    write_teacher,
)

TINY = StepSetting(width=1 / 16, teacher="resnet-18", resolution=64, batch=2, runs=1, device="cpu", precision="32")


@pytest.fixture
def teacher(tmp_path: Path) -> str:
    path = str(tmp_path / "teacher.safetensors")
    write_teacher(TINY, path)
    return path


def test_both_sides_are_the_same_step(teacher: str) -> None:
    loss, gradient = relative_differences(TINY, teacher)
    assert loss <= TOLERANCE
    assert gradient <= TOLERANCE


def test_a_side_that_computes_something_else_is_refused(teacher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SignByMasks, "forward", lambda self, x: x.sign() + x - x.detach())
    with pytest.raises(UserError, match="the two sides differ by .* in gradients; report this"):
        run_benchmark(TINY, teacher, [], profile=False)


def test_every_step_trains_and_autocast_runs(teacher: str) -> None:
    for side in bench.SIDES:
        step, network = bench.make_step(replace(TINY, precision="bf16"), side, teacher)
        before = [parameter.clone() for parameter in network.parameters()]
        losses = [float(step()) for _ in range(6)]
        assert losses[-1] < losses[0]
        assert not any(torch.equal(old, new) for old, new in zip(before, network.parameters()))


def test_the_table_compares_medians_least_times_and_peaks() -> None:
    times = {"ours": [1.0, 2.0, 4.0], "baseline": [3.0, 8.0, 9.0]}
    text = result_table(replace(TINY, batch=16), times, {"ours": 2 * 10**9, "baseline": 5 * 10**9})  # type: ignore[arg-type]
    assert [line.split() for line in text.splitlines()[1:]] == [
        ["edgebnn", "8.00", "2.000", "1.000", "4.000", "2.00"],
        ["as", "S2-BNN's", "code", "2.00", "8.000", "3.000", "9.000", "5.00"],
        ["ratio", "4.00", "3.00", "0.40"],
    ]


def test_times_are_of_the_steps_asked_for(teacher: str) -> None:
    times = step_times(replace(TINY, runs=2), teacher)
    assert {side: len(values) for side, values in times.items()} == {"ours": 2, "baseline": 2}


def test_the_peak_counts_what_was_given_back() -> None:
    before = reset_peak_memory("cpu")
    block = torch.ones(50_000_000)
    del block
    assert peak_memory("cpu") - before >= 0.9 * 200e6


def test_the_profile_tells_products_from_the_rest() -> None:
    a = torch.randn(400, 400)
    words = [line.split("  ")[0] for line in profile_table(lambda: (a @ a @ a).sum()).splitlines()]
    assert sorted(words[1:-1]) == [
        OTHER_KIND,
        "matrix product",
    ]  # in whatever order: how long each takes is not asserted
    assert words[-1] == "all"
