"""The bit format against its words, one bit at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgebnn.errors import UserError
from edgebnn.graph import bits

seeds = st.integers(0, 2**32 - 1)
channels = st.one_of(st.integers(1, 70), st.sampled_from([127, 128, 129, 1000, 2048]))


@settings(max_examples=60, deadline=None)
@given(seed=seeds, channels=channels, pixels=st.integers(0, 3))
def test_bit_c_of_byte_c_over_8_is_channel_c(seed: int, channels: int, pixels: int) -> None:
    values = np.random.default_rng(seed).random((pixels, 2, channels)) < 0.5
    packed = bits.pack(values)
    assert packed.dtype == np.uint8
    assert packed.shape == (pixels, 2, -(-channels // 8))
    for index in np.ndindex(pixels, 2):
        # As one number, written little end first, channel c counts 2**c; nothing stands above the last one.
        number = int.from_bytes(packed[index].tobytes(), "little")
        assert number == sum(1 << c for c in range(channels) if values[index][c])
    np.testing.assert_array_equal(bits.unpack(packed, channels), values)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, inputs=channels, outputs=st.integers(1, 4), kernel=st.sampled_from([1, 3]))
def test_weights_are_packed_over_their_inputs(seed: int, inputs: int, outputs: int, kernel: int) -> None:
    weight = np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), (outputs, inputs, kernel, kernel))
    packed = bits.pack_weight(weight)
    assert packed.shape == (outputs, kernel, kernel, bits.size(inputs))
    for o, i, row, column in np.ndindex(*weight.shape):
        assert packed[o, row, column, i // 8] >> (i % 8) & 1 == (weight[o, i, row, column] == 1)
    unpacked = bits.unpack_weight(packed, inputs)
    assert unpacked.dtype == np.int8
    np.testing.assert_array_equal(unpacked, weight)


def test_bytes_lie_in_c_order_however_the_weights_lie() -> None:
    """The kernels read them by address. TensorFlow's weights, seen as ours, lie in Fortran order."""
    weight = np.random.default_rng(1).choice(np.array([-1, 1], np.int8), (1, 1, 20, 16)).transpose(3, 2, 0, 1)
    packed = bits.pack_weight(weight)
    assert packed.flags.c_contiguous
    np.testing.assert_array_equal(bits.unpack_weight(packed, 20), weight)


def test_an_activation_on_its_threshold_is_plus_one_and_nan_minus_one() -> None:
    x = np.array(
        [0.5, np.nextafter(np.float32(0.5), np.float32(0)), np.inf, -np.inf, np.nan, -0.0, 0.0, 1.0, 2.0], np.float32
    )
    threshold = np.array([0.5, 0.5, np.inf, -np.inf, 0, 0, -0.0, 2.0, 1.0], np.float32)
    packed = bits.pack_activations(x.reshape(1, 1, 1, 9), threshold)
    assert packed.tolist() == [[[[0b01101101, 1]]]]
    assert bits.pack_activations(np.zeros((1, 1, 1, 1)), np.full(1, np.nan)).item() == 0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="9 channels take 2 bytes of bits, not 1"):
        bits.unpack(np.zeros((2, 1), np.uint8), 9)
    with pytest.raises(UserError, match="set beyond the last of 9 channels"):
        bits.unpack(np.array([0, 0b10], np.uint8), 9)
