import math
from itertools import product
from statistics import median

import pytest

from edgebnn.app.data.compare import compare, measured_together, median_interval, paired_ratios, sentence
from edgebnn.records import Record
from tests.app.sample import BOARD, SERVER, date

SLOW = [10.0, 12.0, 11.0, 30.0, 10.5, 10.0, 11.5, 12.5, 10.0, 11.0]


def timed(file: str, rounds: list[float], *, session: str | None = "s", day: int = 1, **context: object) -> Record:
    values = {"median_ms": median(rounds), "p10_ms": min(rounds), "p90_ms": max(rounds)}
    told = {"artifact": file, "sha256": file, "runtime": "onnxruntime", "threads": 1, "machine": SERVER}
    if session is not None:
        told |= {"session": session, "rounds_ms": rounds}
    return Record("latency", "m", values, told | context, created=date(day))


def test_a_slow_round_hits_both_and_changes_no_ratio() -> None:
    fast = timed("fast", [time * 0.5 for time in SLOW])
    found = compare(fast, timed("slow", SLOW))
    assert (found.verdict, found.ratio, found.interval) == ("faster", 0.5, (0.5, 0.5))
    assert found.ratios == (0.5,) * 10
    assert compare(timed("slow", SLOW), fast).verdict == "slower"
    # Their ranges overlap, so that without the rounds there would be no verdict.
    assert fast.values["p90_ms"] > min(SLOW)


@pytest.mark.parametrize("count", [6, 7, 8, 9, 12])
def test_the_interval_holds_the_median_as_often_as_it_says(count: int) -> None:
    # Every outcome of `count` draws, each below or above the true median 0 with equal probability.
    held = 0
    for signs in product([-1, 1], repeat=count):
        interval = median_interval([sign * (place + 1) for place, sign in enumerate(signs)])
        assert interval is not None
        held += interval[0] < 0 < interval[1]
    assert held / 2**count >= 0.95


def test_five_draws_cannot_hold_it_so_often() -> None:
    assert median_interval(range(5)) is None
    assert 1 - 2 * 0.5**5 < 0.95


def test_the_intervals_ranks_are_those_of_the_tables() -> None:
    # Ranks of the 95% interval of a median in Conover's table A3, and by the sum of binomial coefficients.
    for count, rank in {6: 1, 10: 2, 20: 6, 50: 18}.items():
        assert median_interval(range(count)) == (rank - 1, count - rank)
        assert 2 * sum(math.comb(count, heads) for heads in range(rank)) / 2**count <= 0.05
        assert 2 * sum(math.comb(count, heads) for heads in range(rank + 1)) / 2**count > 0.05


def test_no_difference_is_shown_where_the_interval_holds_one() -> None:
    noisy = [time * factor for time, factor in zip(SLOW, [0.9, 1.1] * 5)]
    found = compare(timed("a", noisy), timed("b", SLOW))
    assert found.verdict == "no difference shown"
    assert found.interval == (0.9, 1.1)
    few = compare(timed("a", [1.0] * 5), timed("b", [2.0] * 5))
    assert (few.verdict, few.ratio, few.interval) == ("no difference shown", 0.5, None)


@pytest.mark.parametrize(
    ("context", "why"),
    [
        ({"void": ["the device throttled"]}, "a: the device throttled"),
        ({"machine": BOARD}, "different devices"),
        ({"threads": 4}, "different numbers of threads"),
        ({"batch": 8}, "different numbers of images"),
    ],
)
def test_unlike_or_void_times_are_not_compared(context: dict[str, object], why: str) -> None:
    found = compare(timed("a", SLOW, **context), timed("b", SLOW))
    assert (found.verdict, found.ratio) == ("void", None)
    assert why in found.why


def test_older_records_are_compared_by_their_ranges() -> None:
    slow, fast = timed("slow", [10.0, 11.0, 12.0], session=None), timed("fast", [1.0, 2.0, 3.0], session=None)
    assert [compare(fast, slow).verdict, compare(slow, fast).verdict] == ["faster", "slower"]
    assert compare(fast, slow).ratio == pytest.approx(2 / 11)
    assert compare(fast, slow).interval is None
    near = timed("near", [11.5, 13.0, 14.0], session=None)
    assert compare(near, slow).verdict == "no difference shown"


@pytest.mark.parametrize("rounds", [None, "10", [], [1.0], [0.0] * 10, [math.inf] * 10, ["x"] * 10, [1.0] * 9])
def test_damaged_rounds_are_no_rounds(rounds: object) -> None:
    assert paired_ratios(timed("a", SLOW, rounds_ms=rounds), timed("b", SLOW)) == []
    assert compare(timed("a", SLOW, rounds_ms=rounds), timed("b", SLOW)).interval is None


def test_the_newest_measurement_of_both_files_counts() -> None:
    a = [timed("a", SLOW, session=session, day=day) for day, session in enumerate("xyz", start=1)]
    b = [timed("b", SLOW, session=session, day=day) for day, session in enumerate("xyw", start=1)]
    assert measured_together([*a, *b], a[2], b[2]) == (a[1], b[1])
    # A file of another content is another file.
    changed = timed("b", SLOW, session="w", day=3, sha256="other")
    assert measured_together([*a, *b[:2], changed], a[2], changed) == (a[2], changed)


def test_the_verdict_in_words() -> None:
    fast, slow = timed("fast", [time / 4 for time in SLOW]), timed("slow", SLOW)
    assert sentence("fast", "slow", compare(fast, slow)) == (
        "fast is faster than slow: 4.00 times as fast, 95% interval 4.00 to 4.00."
    )
    assert sentence("slow", "fast", compare(slow, fast)).startswith("slow is slower than fast: 4.00 times as slow")
    void = sentence("a", "b", compare(timed("a", SLOW, void=["hot"]), slow))
    assert void == "a against b: void. a: hot"
