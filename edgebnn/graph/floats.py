"""Float32 operations that NumPy lacks."""

import numpy as np

_LOW = np.int64((1 << 29) - 1)  # the bits of a float64's mantissa that a float32 lacks
_HALF = np.int64(1 << 28)
_LEAST_NORMAL = np.finfo(np.float32).smallest_normal


def fused_multiply_add(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Returns a * b + c of float32 arrays that broadcast, rounded once (IEEE 754-2008, fusedMultiplyAdd).

    The product is exact in float64. The sum is rounded to float64 and then to float32. Two roundings differ from one
    only where the first one ends half-way between two float32 values. There the sum is rounded to odd first (Boldo and
    Melquiond, "Emulation of a FMA and correctly rounded sums: proved algorithms using rounding to odd", IEEE
    Transactions on Computers 57(4), 2008).
    """
    product = np.multiply(a, b, dtype=np.float64)
    total = np.asarray(product + c)
    # Denormal float32 values have another spacing, so all of them are treated as half-way.
    half_way = (total.view(np.int64) & _LOW == _HALF) | (np.abs(total) < _LEAST_NORMAL)
    if half_way.any():
        added = np.broadcast_to(c, total.shape)[half_way].astype(np.float64)
        total[half_way] = _sum_to_odd(np.broadcast_to(product, total.shape)[half_way], added)
    return total.astype(np.float32)


def _sum_to_odd(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns x + y of finite float64 values, rounded to odd.

    A sum that is not exact becomes the one of its two neighbours whose last bit is 1.
    """
    total = x + y
    from_y = total - x
    error = (x - (total - from_y)) + (y - from_y)  # exact (Knuth's TwoSum)
    bits = total.view(np.int64)
    away = np.where((error > 0) == (total > 0), 1, -1)  # adding 1 to the bits moves away from zero, for either sign
    bits += np.where((error != 0) & (bits & 1 == 0), away, 0)
    return total
