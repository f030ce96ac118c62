"""The reference against PyTorch's convolution and loops written out, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from edgebnn.errors import UserError
from edgebnn.graph import Stem, Unit, reference
from edgebnn.graph.shapes import Padding, Shortcut


def make_unit(
    rng: np.random.Generator, inputs: int, kernel: int, padding: Padding, shortcut: Shortcut, *, binary: bool = True
) -> Unit:
    outputs = {"repeat": 2 * inputs, "downsample": inputs + 2}.get(shortcut, inputs)
    shape = (outputs, inputs, kernel, kernel)
    return Unit(
        threshold=rng.normal(size=inputs),
        weight=rng.choice(np.array([-1, 1], np.int8), shape) if binary else rng.normal(size=shape),
        scale=rng.normal(size=outputs),
        bias=rng.normal(size=outputs),
        slope=rng.normal(size=outputs),
        stride=2 if shortcut in ("pool", "downsample") else 1,
        padding=padding,
        shortcut=shortcut,
        binary_input=binary,
        downsample=rng.normal(size=(outputs, inputs)) if shortcut == "downsample" else None,
    )


def slow_unit(unit: Unit, x: np.ndarray) -> np.ndarray:
    """The unit's formula, one output value at a time."""
    channels, height, width = x.shape
    outputs, _, kernel, _ = unit.weight.shape
    fill = {"zero": 0.0, "one": 1.0}[unit.padding]
    y = np.zeros((outputs, height // unit.stride, width // unit.stride))
    for o, row, column in np.ndindex(*y.shape):
        acc = 0.0
        for c, i, j in np.ndindex(channels, kernel, kernel):
            h, w = row * unit.stride + i - kernel // 2, column * unit.stride + j - kernel // 2
            inside = 0 <= h < height and 0 <= w < width
            if not unit.binary_input:
                seen = x[c, h, w] - unit.threshold[c] if inside else fill
            else:
                seen = (1.0 if x[c, h, w] >= unit.threshold[c] else -1.0) if inside else fill
            acc += seen * unit.weight[o, c, i, j]
        block = x[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        if unit.shortcut == "pool":
            passed = block[o].mean()
        elif unit.shortcut == "none":
            passed = 0.0
        elif unit.downsample is not None:
            passed = sum(unit.downsample[o, c] * block[c].mean() for c in range(channels))
        else:
            passed = x[o % channels, row, column]
        z = acc * unit.scale[o] + unit.bias[o] + passed
        y[o, row, column] = z if z >= 0 else unit.slope[o] * z
    return y


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    inputs=st.integers(1, 5),
    side=st.sampled_from([2, 4, 6]),
    form=st.sampled_from(
        [(3, "identity"), (3, "pool"), (1, "identity"), (1, "repeat"), (3, "repeat"), (3, "downsample"), (3, "none")]
    ),
    padding=st.sampled_from(["zero", "one"]),
    binary=st.booleans(),
)
def test_unit_equals_its_formula(
    seed: int, inputs: int, side: int, form: tuple[int, Shortcut], padding: Padding, binary: bool
) -> None:
    rng = np.random.default_rng(seed)
    unit = make_unit(rng, inputs, form[0], padding, form[1], binary=binary)
    x = rng.normal(size=(2, inputs, side, side))
    y = reference.unit(unit, x)
    for image in range(2):
        np.testing.assert_allclose(y[image], slow_unit(unit, x[image]), rtol=1e-12, atol=1e-12)


def test_a_value_on_the_threshold_counts_as_plus_one_and_nan_as_minus_one() -> None:
    unit = Unit(
        threshold=np.array([0.5]),
        weight=np.ones((1, 1, 1, 1), np.int8),
        scale=np.array([1000.0]),
        bias=np.zeros(1),
        slope=np.ones(1),
        stride=1,
        padding="zero",
        shortcut="identity",
    )
    x = np.array([0.5, np.nextafter(0.5, 0), np.inf, -np.inf]).reshape(1, 1, 2, 2)
    assert reference.unit(unit, x).ravel().tolist() == [1000.5, np.nextafter(0.5, 0) - 1000, np.inf, -np.inf]
    # The shortcut of a NaN is NaN, so look at the bit through a 3x3 neighbour instead.
    wide = Unit(unit.threshold, np.ones((1, 1, 3, 3), np.int8), *[np.ones(1)] * 3, 1, "zero", "identity")
    x = np.full((1, 1, 2, 2), 2.0)
    x[0, 0, 0, 0] = np.nan
    assert reference.unit(wide, x)[0, 0, 1, 1] == (3 - 1) * 1 + 1 + 2


@pytest.mark.parametrize("stride", [1, 2])
def test_stem_and_head_equal_pytorch(stride: int) -> None:
    from edgebnn.graph import Head, Linear

    rng = np.random.default_rng(stride)
    stem = Stem(rng.normal(size=(4, 3, 3, 3)), rng.normal(size=4), stride)
    images = rng.normal(size=(2, 3, 8, 8))
    arrays = [torch.from_numpy(value) for value in (images, stem.weight, stem.bias)]
    expected = F.conv2d(*arrays, stride=stride, padding=1)
    x = reference.stem(stem, images)
    np.testing.assert_allclose(x, expected.numpy(), rtol=1e-12, atol=1e-12)

    first = Linear(rng.normal(size=(5, 4)), rng.normal(size=5), relu=True)
    second = Linear(rng.normal(size=(2, 5)), rng.normal(size=2))
    head = Head(rng.normal(size=4), (first, second))
    pooled = expected.mean((2, 3)) + torch.from_numpy(head.offset)
    hidden = F.linear(pooled, torch.from_numpy(first.weight), torch.from_numpy(first.bias)).relu()
    logits = F.linear(hidden, torch.from_numpy(second.weight), torch.from_numpy(second.bias))
    np.testing.assert_allclose(reference.head(head, x), logits.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("pool", [False, True])
def test_a_7x7_stem_and_max_pool_equal_pytorch(pool: bool) -> None:
    rng = np.random.default_rng(3)
    stem = Stem(rng.normal(size=(4, 3, 7, 7)), rng.normal(size=4) - 100, 2, pool)
    images = rng.normal(size=(2, 3, 24, 16))
    arrays = [torch.from_numpy(value) for value in (images, stem.weight, stem.bias)]
    expected = F.conv2d(*arrays, stride=2, padding=3)
    if pool:
        # Every value is far below 0: a border of zeros would win.
        expected = F.max_pool2d(expected, 3, stride=2, padding=1)
    assert expected.max() < 0
    np.testing.assert_allclose(reference.stem(stem, images), expected.numpy(), rtol=1e-12, atol=1e-12)
    assert reference.stem(stem, images).shape[2] == 24 // stem.reduction


def test_parts_that_do_not_fit_are_refused() -> None:
    rng = np.random.default_rng(0)
    good = make_unit(rng, 4, 3, "zero", "identity")
    with pytest.raises(UserError, match="shortcut 'pool' does not fit 4 -> 4 channels at stride 1"):
        Unit(good.threshold, good.weight, good.scale, good.bias, good.slope, 1, "zero", "pool")
    with pytest.raises(UserError, match="bias has shape"):
        Unit(good.threshold, good.weight, good.scale, good.bias[:3], good.slope, 1, "zero", "identity")
    with pytest.raises(UserError, match=r"shortcut 'downsample' needs \(4, 4\)"):
        Unit(good.threshold, good.weight, good.scale, good.bias, good.slope, 2, "zero", "downsample")
    with pytest.raises(UserError, match=r"the stem's bias has shape \(1,\) for 4 outputs"):
        Stem(np.ones((4, 3, 3, 3)), np.ones(1), 1)
    with pytest.raises(UserError, match="the stem's kernel is"):
        Stem(np.zeros((4, 3, 5, 5)), np.zeros(4), 1)
