"""Units and inputs that are hard on kernels, and what the reference makes of them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgebnn.graph import Unit, reference
from edgebnn.graph.shapes import Padding, Shortcut

Values = Literal["normal", "whole", "extreme"]
EXTREME = np.array(
    [0, 1, np.nan, np.inf, 1e-45, 1e-38, np.finfo(np.float32).tiny, np.finfo(np.float32).max, 1e38, 2**-126 / 3],
    np.float32,
)


@dataclass(frozen=True)
class Case:
    """A unit, its input x (N, H, W, inputs) with its bits, and the outputs that every path must give.

    The reference is NCHW, the kernels are NHWC; everything here is NHWC. `x_pooled` and `y_pooled` are 2x2 averages,
    None where x is not pooled by the unit's shortcut and where y has an odd side.
    """

    unit: Unit
    next_threshold: np.ndarray
    x: np.ndarray
    bits: np.ndarray
    y: np.ndarray
    next_bits: np.ndarray
    x_pooled: np.ndarray | None
    y_pooled: np.ndarray | None


def make_case(
    seed: int,
    inputs: int,
    *,
    kernel: int,
    size: tuple[int, int, int],
    shortcut: Shortcut,
    padding: Padding = "zero",
    values: Values = "normal",
    outputs: int = 0,
    stride: int = 1,
) -> Case:
    """A random unit on a random x of `size` (N, H, W); `values` says what numbers x and the constants are made of.

    Only a unit without a shortcut is free in its `outputs` (0: as many as inputs) and its `stride`.

    "normal": trained-like. "whole": small whole numbers, so that x often lies on its threshold and z is often
    exactly 0 or -0.0. "extreme": those, and every tenth number a NaN, an infinity, a denormal or a huge one.
    """
    rng = np.random.default_rng(seed)
    outputs = outputs or (2 * inputs if shortcut == "repeat" else inputs)

    def numbers(*shape: int, spread: float = 1.0) -> np.ndarray:
        return random_numbers(rng, values, *shape, spread=spread)

    bits = np.unpackbits(np.frombuffer(rng.bytes(-(-outputs * inputs * kernel**2 // 8)), np.uint8))
    weight = (2 * bits.astype(np.int8) - 1)[: outputs * inputs * kernel**2].reshape(outputs, inputs, kernel, kernel)
    constants = {"threshold": numbers(inputs), "bias": numbers(outputs), "slope": numbers(outputs, spread=0.3)}
    scale = numbers(outputs, spread=(inputs * kernel**2) ** -0.5)
    unit = Unit(
        weight=weight,
        scale=scale,
        stride=2 if shortcut == "pool" else stride,
        padding=padding,
        shortcut=shortcut,
        **constants,
    )
    return expected(unit, numbers(*size, inputs), numbers(outputs))


def random_numbers(rng: np.random.Generator, values: Values, *shape: int, spread: float = 1.0) -> np.ndarray:
    """Numbers of the kind that `make_case` says; `spread` is the deviation of normal ones."""
    if values == "normal":
        return (rng.standard_normal(shape, np.float32) * spread).astype(np.float32)
    whole = rng.integers(-2, 3, shape).astype(np.float32)
    extreme = rng.choice(EXTREME, shape) if values == "extreme" else np.zeros(1, np.float32)
    chosen = np.where(rng.random(shape) < (0.1 if values == "extreme" else 0.0), extreme, whole)
    return np.copysign(chosen, rng.choice(np.array([-1, 1], np.float32), shape))


def expected(unit: Unit, x: np.ndarray, next_threshold: np.ndarray) -> Case:
    """The case with its outputs as the reference computes them."""
    with np.errstate(all="ignore"):
        y = np.ascontiguousarray(reference.unit(unit, x.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1))
    assert y.dtype == np.float32
    even = not (y.shape[1] % 2 or y.shape[2] % 2)
    return Case(
        unit, next_threshold, x, pack(x >= unit.threshold), y, pack(y >= next_threshold),
        x_pooled=average(x) if unit.shortcut == "pool" else None, y_pooled=average(y) if even else None,
    )  # fmt: skip


def average(x: np.ndarray) -> np.ndarray:
    """2x2 averages of x (N, H, W, channels), the four added row by row."""
    with np.errstate(all="ignore"):
        upper = x[:, 0::2, 0::2] + x[:, 0::2, 1::2]
        return ((upper + x[:, 1::2, 0::2]) + x[:, 1::2, 1::2]) * np.float32(0.25)


def pack(bits: np.ndarray) -> np.ndarray:
    """The bit format of unit.h, worked out by hand: channel c is worth 2 ** (c % 8) in byte c // 8."""
    whole = np.zeros((*bits.shape[:-1], -(-bits.shape[-1] // 8) * 8), np.int64)
    whole[..., : bits.shape[-1]] = bits
    return (whole.reshape(*bits.shape[:-1], whole.shape[-1] // 8, 8) @ (1 << np.arange(8))).astype(np.uint8)


def assert_same(given: np.ndarray, wanted: np.ndarray, what: str) -> None:
    """Bit for bit, -0.0 and denormals included; of a NaN the place alone, not its sign and payload."""
    assert given.shape == wanted.shape
    assert given.dtype == wanted.dtype
    if wanted.dtype == np.float32:
        nan = np.isnan(wanted)
        assert (np.isnan(given) == nan).all(), f"{what}: NaNs at other places"
        given, wanted = (np.where(nan, np.float32(0), array).view(np.uint32) for array in (given, wanted))
    differ = np.argwhere(given != wanted)
    assert not len(differ), f"{what}: {len(differ)} of {wanted.size} differ, the first at {tuple(differ[0])}"
