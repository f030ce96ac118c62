"""The packed bits of kernels and files, in NumPy.

Channels come last. Bit c % 8 of byte c // 8 belongs to channel c. A bit of 1 stands for +1, and 0 for -1. The bits
after the last channel are 0.
"""

import numpy as np

from edgebnn.errors import check


def size(channels: int) -> int:
    """Returns how many bytes the bits of that many channels take."""
    return (channels + 7) // 8


def pack(bits: np.ndarray) -> np.ndarray:
    """Packs booleans (..., channels) into uint8 (..., size(channels)), in C order. True becomes the bit 1."""
    # NumPy would keep Fortran order, but the kernels read memory in C order.
    return np.packbits(np.ascontiguousarray(bits), axis=-1, bitorder="little")


def unpack(packed: np.ndarray, channels: int) -> np.ndarray:
    """Unpacks uint8 (..., size(channels)) into booleans (..., channels).

    Raises:
        UserError: there are more or fewer bytes, or a bit beyond the last channel is set.
    """
    found = packed.shape[-1]
    check(found == size(channels), f"{channels} channels take {size(channels)} bytes of bits, not {found}")
    bits = np.unpackbits(packed, axis=-1, bitorder="little").astype(bool)
    check(not bits[..., channels:].any(), f"bits are set beyond the last of {channels} channels; export the file again")
    return bits[..., :channels]


def pack_activations(x: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """Returns the packed bits of `x >= threshold` for x (N, H, W, channels). A NaN makes the bit 0."""
    return pack(x >= threshold)


def pack_weight(weight: np.ndarray) -> np.ndarray:
    """Packs weights +1 and -1 (outputs, inputs, kernel, kernel) into uint8 (outputs, kernel, kernel, size(inputs))."""
    return pack(weight.transpose(0, 2, 3, 1) > 0)


def unpack_weight(packed: np.ndarray, inputs: int) -> np.ndarray:
    """Returns the int8 weights (outputs, inputs, kernel, kernel) that `pack_weight` packed. Raises as `unpack` does."""
    return np.where(unpack(packed, inputs), np.int8(1), np.int8(-1)).transpose(0, 3, 1, 2)
