"""The fused multiply-add against the C library's."""

import ctypes
import ctypes.util

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from edgebnn.graph.floats import fused_multiply_add

_LIBM = ctypes.CDLL(ctypes.util.find_library("m"))
_LIBM.fmaf.argtypes = [ctypes.c_float] * 3
_LIBM.fmaf.restype = ctypes.c_float

floats = st.floats(width=32)


def fmaf(a: float, b: float, c: float) -> np.float32:
    return np.float32(_LIBM.fmaf(a, b, c))


def check(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> int:
    """Asserts equality, the signs of zeros included; returns how often two roundings would have differed."""
    with np.errstate(all="ignore"):
        found, twice = fused_multiply_add(a, b, c), (a.astype(np.float64) * b + c).astype(np.float32)
    wanted = np.array([fmaf(*triple) for triple in zip(a, b, c, strict=True)], np.float32)
    assert found.dtype == np.float32
    numbers = ~np.isnan(wanted)
    assert np.array_equal(numbers, ~np.isnan(found))
    assert np.array_equal(found.view(np.uint32)[numbers], wanted.view(np.uint32)[numbers])
    return int((twice[numbers] != wanted[numbers]).sum())


@given(a=floats, b=floats, c=floats)
@example(a=np.inf, b=0.0, c=1.0)
@example(a=2.0**127, b=2.0, c=-(2.0**127))
@example(a=-0.0, b=1.0, c=-0.0)
@example(a=2.0**-149, b=0.5, c=2.0**-149)
def test_any_floats(a: float, b: float, c: float) -> None:
    check(np.float32([a]), np.float32([b]), np.float32([c]))


def test_sums_that_end_half_way() -> None:
    """Of numbers with few bits, far apart: to round to float64 first and then to float32 would often be wrong."""
    rng = np.random.default_rng(0)
    n = 20_000
    a, b = (np.float32(1 + rng.integers(0, 4096, n) / 4096) for _ in range(2))
    halves = np.float32(2.0 ** rng.integers(22, 26, n) * (1 + rng.integers(0, 4, n) / 2**23))
    tiny = np.float32(2.0 ** -rng.integers(28, 34, n))
    assert check(a * tiny, b, halves) == 0  # nothing is half-way, far below the last bit
    # (1 + h) * (1 - h) = 1 - h^2 is a little less than half of a last bit of c, or a little more with the other sign.
    h = np.float32(2.0 ** -rng.integers(13, 24, n).astype(np.float64))
    c = np.float32(2.0 ** rng.integers(24, 26, n) + 2 * rng.integers(0, 2**22, n))
    assert check((1 + h) * rng.choice(np.float32([1, -1]), n), 1 - h, c) > 100


def test_denormals_and_the_end_of_the_range() -> None:
    rng = np.random.default_rng(1)
    n = 20_000
    bits = rng.integers(0, 2**32, (3, n), dtype=np.uint32)
    bits[:, : n // 2] &= 0x80FFFFFF  # denormals and the least normal ones
    a, b, c = bits.view(np.float32)
    check(a, b, c)
    check(a, np.ldexp(np.float32(1), rng.integers(-30, 1, n)).astype(np.float32), c)
    largest = np.finfo(np.float32).max
    check(np.full(n, largest), np.ldexp(np.float32(1), -rng.integers(1, 60, n)).astype(np.float32), np.full(n, largest))
