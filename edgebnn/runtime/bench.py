"""Latency of models, measured side by side."""

import random
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgebnn.errors import check
from edgebnn.runtime.model import Model
from edgebnn.runtime.system.facts import read_file


@dataclass(frozen=True)
class Latency:
    """Milliseconds a run over `runs` runs: the median, the 10th and 90th percentile, the least."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    min_ms: float
    runs: int

    @staticmethod
    def of(milliseconds: Sequence[float]) -> "Latency":
        """Summarises single runs. Percentiles lie on the line between their neighbours."""
        p10, median, p90 = np.percentile(milliseconds, [10, 50, 90])
        return Latency(float(median), float(p10), float(p90), float(min(milliseconds)), len(milliseconds))


def measure(
    models: Sequence[Model], *, runs: int = 50, warmup: int = 3, seconds: float = 60.0, seed: int = 0
) -> list[Latency]:
    """Times the models as `single_runs` does, and gives one `Latency` a model, in the order given."""
    return [Latency.of(each) for each in single_runs(models, runs=runs, warmup=warmup, seconds=seconds, seed=seed)]


def single_runs(
    models: Sequence[Model],
    *,
    runs: int = 50,
    warmup: int = 3,
    warmup_seconds: float = 0.0,
    seconds: float = 60.0,
    seed: int = 0,
) -> list[list[float]]:
    """Times the models on one image (or one fixed batch) each, taking turns.

    In every round each model runs once, in an order drawn anew, so that a change of the machine's
    clock or load meets all of them alike. Each run thus starts with caches other models have used, as
    in a program that does something between two images.

    Args:
        models: the models.
        runs: rounds to measure.
        warmup: rounds before those, not measured.
        warmup_seconds: warm up for as long at least.
        seconds: no round is begun after that time, though one is always measured.
        seed: of the image and the orders.

    Returns:
        Milliseconds of every measured run, a list a model, in the order given.
    """
    check(models and runs >= 1, "there is nothing to measure; give models, and 1 run or more")
    rng = np.random.default_rng(seed)
    images = [rng.standard_normal((model.batch or 1, *model.image_shape), np.float32) for model in models]
    order = list(range(len(models)))
    shuffle = random.Random(seed).shuffle
    times: list[list[float]] = [[] for _ in models]

    def round_() -> Iterator[tuple[int, float]]:
        shuffle(order)
        for index in order:
            start = time.perf_counter_ns()
            models[index].run(images[index])
            yield index, (time.perf_counter_ns() - start) / 1e6

    begin = time.perf_counter()
    done = 0
    while time.perf_counter() < begin + seconds and (done < warmup or time.perf_counter() < begin + warmup_seconds):
        list(round_())
        done += 1
    for number in range(runs):
        if number and time.perf_counter() > begin + seconds:
            break
        for index, elapsed in round_():
            times[index].append(elapsed)
    return times


def peak_memory() -> int | None:
    """Bytes of memory this process has held at most (its resident set), None where the system does not tell."""
    # Not from getrusage on Linux: there a process starts with the figure of the one that started it.
    found = re.search(r"^VmHWM:\s*(\d+) kB", read_file("/proc/self/status") or "", re.MULTILINE)
    if found:
        return int(found[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else held * 1024  # getrusage(2): bytes there, else kilobytes
