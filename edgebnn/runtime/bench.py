"""Latency of models, measured side by side."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgebnn.errors import check
from edgebnn.runtime.model import Model


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
    """Times the models on one image (or one fixed batch) each, taking turns.

    In every round each model runs once, in an order drawn anew, so that a change of the machine's
    clock or load meets all of them alike. Each run thus starts with caches other models have used, as
    in a program that does something between two images.

    Args:
        models: the models.
        runs: rounds to measure.
        warmup: rounds before those, not measured.
        seconds: no round is begun after that time, though one is always measured.
        seed: of the image and the orders.

    Returns:
        One `Latency` a model, in the order given.
    """
    check(models and runs >= 1, "there is nothing to measure; give models, and 1 run or more")
    rng = np.random.default_rng(seed)
    images = [rng.standard_normal((model.batch or 1, *model.image_shape), np.float32) for model in models]
    order = list(range(len(models)))
    shuffle = random.Random(seed).shuffle
    times: list[list[float]] = [[] for _ in models]
    end = time.perf_counter() + seconds
    for number in range(-warmup, runs):
        late = time.perf_counter() > end
        if late and number > 0:
            break
        if late and number < 0:
            continue
        shuffle(order)
        for index in order:
            start = time.perf_counter_ns()
            models[index].run(images[index])
            elapsed = time.perf_counter_ns() - start
            if number >= 0:
                times[index].append(elapsed / 1e6)
    return [Latency.of(each) for each in times]
