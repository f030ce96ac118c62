"""Philox: the published answers, uniform numbers, and nothing that depends on the company an image is in."""

import numpy as np
import pytest

from edgebnn.ssl.philox import philox, uniforms

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        # The authors' known answers for philox4x32 with ten rounds (Random123, kat_vectors).
        ([0, 0, 0, 0], (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([ONES] * 4, (ONES, ONES), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_known_answers(counter: list[int], key: tuple[int, int], expected: list[int]) -> None:
    assert philox(np.array([counter], np.uint64), key)[0].tolist() == expected


def test_an_images_numbers_are_its_own() -> None:
    whole = uniforms(3, 5, np.arange(40), 1, 33)
    np.testing.assert_array_equal(uniforms(3, 5, np.array([7, 2]), 1, 20), whole[[7, 2], :20])
    arguments = (3, 5, 1)
    for other in ((4, 5, 1), (3 + (1 << 32), 5, 1), (3, 6, 1), (3, 5, 2), (5, 3, 1), (3, 1, 5)):
        seed, epoch, view = other
        assert not np.isin(uniforms(seed, epoch, np.arange(40), view, 33), whole).any(), (arguments, other)


def test_numbers_are_uniform_and_unrelated() -> None:
    numbers = uniforms(0, 0, np.arange(50_000), 0, 4)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    for column in numbers.T:
        # Kolmogorov and Smirnov's statistic, beyond 1.95 / sqrt(N) once in a thousand.
        distance = np.abs(np.sort(column) - np.arange(len(column)) / len(column)).max()
        assert distance < 1.95 / np.sqrt(len(column))
    together = np.corrcoef(np.concatenate([numbers[:-1], numbers[1:]], axis=1).T) - np.eye(8)
    assert np.abs(together).max() < 4.5 / np.sqrt(len(numbers))
