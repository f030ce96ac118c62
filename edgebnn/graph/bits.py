"""Bits as the packed kernels and files hold them: NumPy only.

Channels come last. Bit c % 8 of byte c // 8 belongs to channel c, 1 stands for +1 and 0 for -1, and the bits
beyond the last channel are 0.
"""

import numpy as np

from edgebnn.errors import check


def size(channels: int) -> int:
    """Bytes that hold the bits of that many channels."""
    return (channels + 7) // 8


def pack(bits: np.ndarray) -> np.ndarray:
    """Booleans (..., channels) to uint8 (..., size(channels)) in C order; True is the bit 1."""
    # NumPy keeps the order of what lies in Fortran order, and the kernels read by address.
    return np.packbits(np.ascontiguousarray(bits), axis=-1, bitorder="little")


def unpack(packed: np.ndarray, channels: int) -> np.ndarray:
    """The booleans (..., channels) of uint8 (..., size(channels)).

    Raises:
        UserError: there are more or fewer bytes, or a bit beyond the last channel is set.
    """
    found = packed.shape[-1]
    check(found == size(channels), f"{channels} channels take {size(channels)} bytes of bits, not {found}")
    bits = np.unpackbits(packed, axis=-1, bitorder="little").astype(bool)
    check(not bits[..., channels:].any(), f"bits are set beyond the last of {channels} channels; export the file again")
    return bits[..., :channels]


def pack_activations(x: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """What a unit sees of x (N, H, W, channels): the packed bits of `x >= threshold`; a NaN gives 0."""
    return pack(x >= threshold)


def pack_weight(weight: np.ndarray) -> np.ndarray:
    """Weights of +1 and -1 (outputs, inputs, kernel, kernel) to uint8 (outputs, kernel, kernel, size(inputs))."""
    return pack(weight.transpose(0, 2, 3, 1) > 0)


def unpack_weight(packed: np.ndarray, inputs: int) -> np.ndarray:
    """The int8 weights (outputs, inputs, kernel, kernel) of what `pack_weight` gives. Raises as `unpack` does."""
    return np.where(unpack(packed, inputs), np.int8(1), np.int8(-1)).transpose(0, 3, 1, 2)
