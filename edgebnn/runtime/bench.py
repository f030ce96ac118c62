"""Measures the latency of models side by side, and the memory of the process."""

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
    """A summary of the times of single runs, in milliseconds.

    Attributes:
        median_ms, p10_ms, p90_ms: the median, and the 10th and 90th percentile.
        min_ms: the shortest time.
        runs: number of runs.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    min_ms: float
    runs: int

    @staticmethod
    def from_runs(milliseconds: Sequence[float]) -> "Latency":
        """Summarises the times of single runs. Percentiles are interpolated linearly."""
        p10, median, p90 = np.percentile(milliseconds, [10, 50, 90])
        return Latency(float(median), float(p10), float(p90), float(min(milliseconds)), len(milliseconds))


def measure_latency(
    models: Sequence[Model], *, runs: int = 50, warmup: int = 3, seconds: float = 60.0, seed: int = 0
) -> list[Latency]:
    """Times the models like `measure_runs`, and returns one `Latency` per model, in the order of `models`."""
    return [
        Latency.from_runs(each) for each in measure_runs(models, runs=runs, warmup=warmup, seconds=seconds, seed=seed)
    ]


def measure_runs(
    models: Sequence[Model],
    *,
    runs: int = 50,
    warmup: int = 3,
    warmup_seconds: float = 0.0,
    seconds: float = 60.0,
    seed: int = 0,
) -> list[list[float]]:
    """Times the models in turns, each on one image or on one fixed batch.

    In every round each model runs once, in a new random order. So a change of the machine's clock or load affects all
    models alike. Each run starts with caches that other models have used, as in a program that does other work between
    two images.

    Args:
        models: the models.
        runs: number of measured rounds.
        warmup: number of rounds before them that are not measured.
        warmup_seconds: least duration of the warm-up.
        seconds: no round starts after this time, but at least one round is measured.
        seed: seed of the image and of the orders.

    Returns:
        The milliseconds of every measured run: one list per model, in the order of `models`.

    Raises:
        UserError: there are no models, or no runs.
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
    """Returns the largest resident memory of this process so far, in bytes. None if the system does not report it."""
    # On Linux getrusage is of no use: a process inherits the figure of the process that started it.
    found = re.search(r"^VmHWM:\s*(\d+) kB", read_file("/proc/self/status") or "", re.MULTILINE)
    if found:
        return int(found[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else held * 1024  # getrusage(2): bytes on macOS, kilobytes elsewhere
