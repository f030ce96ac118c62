"""Philox 4x32-10: random numbers without a state, as a function of a counter and a key.

Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011), section 3.3. The numbers of an image do
not depend on other images, on the process or on the time. A few array operations draw the numbers of a whole batch.
"""

import numpy as np

MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Returns four random words for each counter.

    Args:
        counter: uint64 (..., 4), below 2^32.
        key: two words below 2^32.

    Returns:
        uint64 (..., 4), below 2^32.
    """
    c0, c1, c2, c3 = np.moveaxis(counter, -1, 0)
    for number in range(ROUNDS):
        k0, k1 = (np.uint64((word + number * weyl) & 0xFFFFFFFF) for word, weyl in zip(key, WEYL))
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW
    return np.stack([c0, c1, c2, c3], axis=-1)


def uniforms(seed: int, epoch: int, indices: np.ndarray, view: int, count: int) -> np.ndarray:
    """Returns random numbers in [0, 1), (N, count). They are a function of seed, epoch, image and view.

    Args:
        seed: seed below 2^64.
        epoch: number of the epoch, below 2^32.
        indices: the images' numbers (N,), below 2^32.
        view: number of the view, below 2^32.
        count: how many numbers per image. The first numbers do not depend on the count.
    """
    counter = np.empty((len(indices), -(-count // 2), 4), np.uint64)
    counter[..., 0] = np.asarray(indices)[:, None]
    counter[..., 1], counter[..., 2] = view, epoch
    counter[..., 3] = np.arange(counter.shape[1])
    words = philox(counter, (seed & 0xFFFFFFFF, seed >> 32))
    # A float64 has 53 bits. They come from two words.
    high, low = words[..., 0::2] >> np.uint64(5), words[..., 1::2] >> np.uint64(6)
    numbers = (high * np.uint64(1 << 26) + low) / float(1 << 53)
    return numbers.reshape(len(indices), -1)[:, :count]
