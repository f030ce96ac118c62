"""Every path of the packed kernels against the reference, bit for bit.

The same file runs under sanitizers, on emulated processors and with emulated instructions: EDGEBNN_LIBRARY names the
library, EDGEBNN_EXAMPLES the number of random cases a path (`make test-sanitize`, `test-aarch64`, `test-avx512`).
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgebnn.errors import UserError
from edgebnn.graph import Unit
from edgebnn.graph.shapes import Padding, Shortcut, reactnet_units
from edgebnn.runtime import kernels
from tests.kernels.cases import Case, Values, assert_same, expected, make_case

EXAMPLES = int(os.environ.get("EDGEBNN_EXAMPLES", 200))
MOST_WORK = 1 << 25  # binary multiply-accumulates of one random case

HUGE = [(16384, 1), (3640, 3)]
huge = pytest.mark.skipif(EXAMPLES < 100, reason="hundreds of millions of weights are too many for a quick run")
paths = pytest.mark.parametrize("isa", kernels.isas())
FORMS: list[tuple[int, Shortcut]] = [
    (3, "identity"),
    (3, "pool"),
    (1, "identity"),
    (1, "repeat"),
    (1, "pool"),
    (3, "repeat"),
]


def check_case(case: Case, isa: str, *, threads: tuple[int, ...] = (1, 3)) -> None:
    """All ways to run the case on a path: its bits given or not, the next unit's written or not, threads; averages of x
    and of y, where there are any."""
    chained = kernels.KernelUnit(case.unit, isa=isa, next_threshold=case.next_threshold)
    alone = kernels.KernelUnit(case.unit, isa=isa)
    ways = [(unit, case.x, bits) for unit in (chained, alone) for bits in (None, case.bits)]
    if case.x_pooled is not None:
        pooling = kernels.KernelUnit(case.unit, isa=isa, next_threshold=case.next_threshold, given_pooled=True)
        ways.append((pooling, case.x_pooled, case.bits))
    for unit, x, bits in ways:
        assert unit.isa == isa
        for count in threads:
            for in_place in (False, True)[: 1 + (x.shape == case.y.shape)]:
                what = f"{isa}, {count} threads, bits {'computed' if bits is None else 'given'}, in place: {in_place}"
                y, next_bits = unit(x, bits, threads=count, in_place=in_place)
                assert_same(y, case.y, what)
                check_bits(next_bits, None if unit is alone else case.next_bits, what)
            if case.y_pooled is None:
                continue
            for wants_y in (False, True):
                what = f"{isa}, {count} threads, averages, y: {wants_y}"
                given_y, pooled, next_bits = unit.run(x, bits, y=wants_y, pooled=True, threads=count)
                assert pooled is not None
                assert_same(pooled, case.y_pooled, what)
                check_bits(next_bits, None if unit is alone else case.next_bits, what)
                assert (given_y is not None) == wants_y
                if given_y is not None:
                    assert_same(given_y, case.y, what)


def check_bits(given: np.ndarray | None, wanted: np.ndarray | None, what: str) -> None:
    assert (given is None) == (wanted is None)
    if given is not None and wanted is not None:
        assert_same(given, wanted, f"{what}: next bits")


near_powers = st.sampled_from([p + d for p in (8, 16, 32, 64, 128, 256, 512, 1024, 2048) for d in (-1, 0, 1)][:-1])
channels = st.one_of(st.integers(1, 80), near_powers, st.integers(1, 2048))


@paths
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32 - 1),
    inputs=channels,
    form=st.sampled_from(FORMS),
    size=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)),
    padding=st.sampled_from(["zero", "one"]),
    values=st.sampled_from(["normal", "whole", "extreme"]),
)
def test_random_units(
    isa: str,
    seed: int,
    inputs: int,
    form: tuple[int, Shortcut],
    size: tuple[int, int, int],
    padding: Padding,
    values: Values,
) -> None:
    kernel, shortcut = form
    batch, height, width = size
    work = inputs**2 * kernel**2 * (2 if shortcut == "repeat" else 1)
    # Wide units see few pixels; a stride needs even sides.
    height = min(height, max(1, MOST_WORK // (work * batch * min(width, 4))))
    width = min(width, max(1, MOST_WORK // (work * batch * height)))
    if shortcut == "pool":
        height, width = height + height % 2, width + width % 2
    size = (batch, height, width)
    check_case(
        make_case(seed, inputs, kernel=kernel, size=size, shortcut=shortcut, padding=padding, values=values), isa
    )


REACTNET_A = sorted({(unit.in_channels, unit.kernel, unit.shortcut) for unit in reactnet_units()})


@paths
@pytest.mark.parametrize(("inputs", "kernel", "shortcut"), REACTNET_A)
def test_units_of_reactnet_a_on_small_maps(isa: str, inputs: int, kernel: int, shortcut: Shortcut) -> None:
    sizes = [(1, 2, 2), (1, 4, 6)] if shortcut == "pool" else [(1, 1, 1), (1, 7, 2), (1, 3, 5)]
    for seed, size in enumerate(sizes):
        check_case(make_case(seed, inputs, kernel=kernel, size=size, shortcut=shortcut, values="whole"), isa)


DEEP_AND_NARROW: list[tuple[int, int, Shortcut, tuple[int, int, int]]] = [
    # inputs, kernel, shortcut, (batch, height, width)
    (1, 1, "identity", (1, 1, 1)),
    (1, 3, "identity", (1, 1, 1)),  # the whole window is padding, except its centre
    (1, 3, "repeat", (2, 1, 37)),
    (1, 3, "pool", (1, 2, 64)),
    (7, 3, "identity", (1, 64, 1)),
    (9, 1, "repeat", (1, 1, 129)),
    (17, 3, "pool", (3, 2, 2)),
    (33, 3, "identity", (1, 57, 3)),
    (255, 1, "identity", (1, 13, 1)),
    (513, 3, "pool", (1, 4, 2)),
    (1023, 1, "repeat", (1, 1, 3)),
    (2047, 1, "identity", (1, 2, 3)),
    (2048, 3, "identity", (1, 1, 1)),
    (2048, 1, "repeat", (1, 2, 1)),
    (8, 3, "identity", (1, 1, 400)),
    (64, 1, "identity", (1, 20, 21)),  # more pixels than one task of a thread
    (160, 3, "identity", (1, 15, 15)),  # several tasks, blocks of channels and pieces of a window, rows of odd length
    (192, 1, "repeat", (1, 13, 17)),
    (352, 3, "pool", (1, 14, 18)),
    (32, 1, "repeat", (2, 26, 34)),  # averages of y in tasks of several pairs of rows
    (72, 3, "pool", (1, 20, 60)),
    (256, 1, "identity", (1, 8, 30)),
]


@paths
@pytest.mark.parametrize("padding", ["zero", "one"])
@pytest.mark.parametrize(("inputs", "kernel", "shortcut", "size"), DEEP_AND_NARROW)
def test_deep_and_narrow_units(
    isa: str, inputs: int, kernel: int, shortcut: Shortcut, size: tuple[int, int, int], padding: Padding
) -> None:
    case = make_case(1, inputs, kernel=kernel, size=size, shortcut=shortcut, padding=padding, values="extreme")
    check_case(case, isa)


@paths
@pytest.mark.parametrize(
    ("channels", "kernel"),
    [
        *[(248, 1), (256, 1), (1000, 1), (84, 3), (85, 3), (512, 3)],
        *(pytest.param(*sizes, marks=huge) for sizes in HUGE),
    ],
)
@pytest.mark.parametrize("bit", [0, 1])
def test_the_largest_accumulators(isa: str, channels: int, kernel: int, bit: int) -> None:
    """All bits agree, or none: sums beyond those of 8 and of 16 bits, up to the most channels allowed."""
    ones = np.ones(channels, np.float32)
    weight = np.broadcast_to(np.int8(2 * bit - 1), (channels, channels, kernel, kernel))
    unit = Unit(ones, weight, ones, ones, ones, 1, "one", "identity")
    y, _ = kernels.KernelUnit(unit, isa=isa)(np.ones((1, 1, 1, channels), np.float32))
    assert (y == (2 * bit - 1) * channels * kernel**2 + 2).all()


@paths
@pytest.mark.parametrize("channels", [5, 64])
def test_signs_of_zero_and_the_edges_of_the_comparisons(isa: str, channels: int) -> None:
    """Every sign of zero, NaN and infinity meets every other in x, threshold, scale, bias, slope and next threshold."""
    edges = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-45, 1, -1], np.float32)
    rng = np.random.default_rng(channels)
    for _ in range(20):
        threshold, scale, bias, slope, following = rng.choice(edges, (5, channels))
        weight = rng.choice(np.array([-1, 1], np.int8), (channels, channels, 3, 3))
        unit = Unit(threshold, weight, scale, bias, slope, 1, "zero", "identity")
        check_case(expected(unit, rng.choice(edges, (2, 3, 9, channels)), following), isa)


@paths
def test_z_that_is_exactly_minus_zero_passes(isa: str) -> None:
    """0 * scale + bias + shortcut = -0.0 is >= 0: y keeps its sign, whatever the slope, and meets a threshold of 0."""
    weight = np.ones((2, 2, 1, 1), np.int8)
    zero, slope = np.float32([-0.0, -0.0]), np.float32([5, np.nan])
    # x = -0.0 meets the threshold -0.0 in channel 0 and misses that of channel 1: the accumulator is 0.
    unit = Unit(np.float32([-0.0, 1]), weight, np.float32([-1, -1]), zero, slope, 1, "zero", "identity")
    x = np.full((1, 1, 1, 2), -0.0, np.float32)
    y, next_bits = kernels.KernelUnit(unit, isa=isa, next_threshold=np.float32([0, 1e-45]))(x)
    assert y.view(np.uint32).ravel().tolist() == [0x80000000, 0x80000000]
    assert next_bits is not None
    assert next_bits.ravel().tolist() == [1]


@paths
@settings(max_examples=max(10, EXAMPLES // 4), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32 - 1),
    inputs=st.one_of(st.integers(1, 80), near_powers),
    outputs=st.one_of(st.integers(1, 80), st.sampled_from([128, 200, 256])),
    kernel=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 2]),
    size=st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(1, 7)),
    padding=st.sampled_from(["zero", "one"]),
    values=st.sampled_from(["normal", "whole", "extreme"]),
)
def test_units_without_a_shortcut(
    isa: str,
    seed: int,
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int,
    size: tuple[int, int, int],
    padding: Padding,
    values: Values,
) -> None:
    """Any number of outputs, and a -0.0 that stays one: nothing is added."""
    batch, height, width = size
    case = make_case(
        seed, inputs, outputs=outputs, stride=stride, kernel=kernel, size=(batch, height * stride, width * stride),
        shortcut="none", padding=padding, values=values,
    )  # fmt: skip
    check_case(case, isa)


@paths
def test_an_empty_batch(isa: str) -> None:
    case = make_case(0, 12, kernel=3, size=(1, 4, 6), shortcut="pool")
    unit = kernels.KernelUnit(case.unit, isa=isa, next_threshold=case.next_threshold)
    y, next_bits = unit(case.x[:0], case.bits[:0], threads=3)
    assert_same(y, case.y[:0], isa)
    assert next_bits is not None
    assert_same(next_bits, case.next_bits[:0], isa)


@paths
def test_one_unit_on_many_sizes(isa: str) -> None:
    """Buffers that grow and shrink with the input leave nothing behind."""
    first = make_case(3, 40, kernel=3, size=(1, 9, 11), shortcut="identity", padding="one")
    unit = kernels.KernelUnit(first.unit, isa=isa)
    rng = np.random.default_rng(4)
    for size in ((1, 2, 3), (2, 30, 20), (1, 1, 1), (3, 5, 5)):
        case = expected(first.unit, rng.standard_normal((*size, 40), np.float32), first.next_threshold)
        assert_same(unit(case.x, threads=2)[0], case.y, f"{isa}, {size}")


def test_the_comparison_can_fail() -> None:
    """A wrong bit, a lost sign of zero and a NaN elsewhere are seen; another NaN is not."""
    wanted = np.float32([1, 0, np.nan])
    for wrong in ([1 + 2**-23, 0, np.nan], [1, -0.0, np.nan], [1, np.nan, np.nan], [1, 0, 0]):
        with pytest.raises(AssertionError):
            assert_same(np.float32(wrong), wanted, "")
    assert_same(np.float32([1, 0, -np.nan]), wanted, "")


# ---- which path runs


def test_all_paths_of_this_machine_are_tested() -> None:
    assert "scalar" in kernels.isas()
    if platform.machine() == "aarch64":
        assert "neon" in kernels.isas()
    elif platform.machine() == "x86_64" and sys.platform == "linux":
        flags = set(Path("/proc/cpuinfo").read_text().split())
        assert ("avx2" in kernels.isas()) == ({"avx2", "fma"} <= flags)
        if "avx512_vpopcntdq" in flags and {"avx512bw", "avx512vl", "avx512dq", "avx512_vnni"} <= flags:
            assert "avx512" in kernels.isas()


def child(code: str, isa: str) -> subprocess.CompletedProcess[str]:
    command = [*os.environ.get("EDGEBNN_EMULATOR", "").split(), sys.executable, "-c", code]
    environment = os.environ | {"EDGEBNN_ISA": isa}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("isa", ["", *kernels.isas()])
def test_edgebnn_isa_forces_a_path(isa: str) -> None:
    run = child("from edgebnn.runtime import kernels; print(kernels.isa())", isa)
    assert run.stdout.split() == [isa or kernels.isas()[0]], run.stderr


def test_an_unknown_path_is_refused_by_name() -> None:
    run = child("from edgebnn.runtime import kernels; kernels.isa()", "sse9")
    assert run.returncode != 0
    assert "EDGEBNN_ISA is 'sse9'" in run.stderr
    assert "scalar" in run.stderr
    case = make_case(0, 8, kernel=1, size=(1, 1, 1), shortcut="identity")
    with pytest.raises(UserError, match="sse9"):
        kernels.KernelUnit(case.unit, isa="sse9")


# ---- shapes that are refused


def test_averages_of_odd_sides_and_of_nothing_are_refused() -> None:
    case = make_case(0, 8, kernel=3, size=(1, 4, 4), shortcut="pool")
    unit = kernels.KernelUnit(case.unit)
    with pytest.raises(UserError, match="output's height and width must be even"):
        unit.run(np.zeros((1, 6, 4, 8), np.float32), pooled=True)
    with pytest.raises(UserError, match="neither y nor pooled"):
        unit.run(case.x, y=False)
    with pytest.raises(UserError, match="only y can be written in place"):
        unit.run(case.x, y=False, pooled=True, in_place=True)
    with pytest.raises(UserError, match="needs the bits"):
        kernels.KernelUnit(case.unit, given_pooled=True)(case.x)
    identity = make_case(0, 8, kernel=3, size=(1, 4, 4), shortcut="identity")
    with pytest.raises(UserError, match="reads no average"):
        kernels.KernelUnit(identity.unit, given_pooled=True)


def test_odd_sides_are_refused_for_stride_2() -> None:
    case = make_case(0, 8, kernel=3, size=(1, 4, 4), shortcut="pool")
    for size in ((1, 3, 4), (1, 4, 5)):
        with pytest.raises(UserError, match="even"):
            kernels.KernelUnit(case.unit)(np.zeros((*size, 8), np.float32))
