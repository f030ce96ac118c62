"""Every path's image convolution against the reference and against a slow formula, bit for bit.

Run as test_unit.py is: under sanitizers, on emulated processors and with emulated instructions.
"""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgebnn.errors import UserError
from edgebnn.graph import Stem, reference
from edgebnn.runtime import kernels
from tests.graph.test_floats import fmaf
from tests.kernels.cases import Values, assert_same
from tests.kernels.image_cases import ImageCase, expected, make_image_case

EXAMPLES = int(os.environ.get("EDGEBNN_EXAMPLES", 200))
paths = pytest.mark.parametrize("isa", kernels.isas())


def check_case(case: ImageCase, isa: str, *, threads: tuple[int, ...] = (1, 3)) -> None:
    """With the next unit's bits and without, on one thread and on several."""
    chained = kernels.KernelImageConv(case.stem, isa=isa, next_threshold=case.next_threshold)
    alone = kernels.KernelImageConv(case.stem, isa=isa)
    assert chained.isa == alone.isa == isa
    for count in threads:
        y, next_bits = chained(case.images, threads=count)
        assert_same(y, case.y, f"{isa}, {count} threads")
        assert next_bits is not None
        assert_same(next_bits, case.next_bits, f"{isa}, {count} threads: next bits")
        y, nothing = alone(case.images, threads=count)
        assert_same(y, case.y, f"{isa}, {count} threads, alone")
        assert nothing is None


@paths
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.integers(1, 5),
    outputs=st.integers(1, 80),
    stride=st.sampled_from([1, 2]),
    size=st.tuples(st.integers(0, 3), st.integers(1, 20), st.integers(1, 40)),
    values=st.sampled_from(["normal", "whole", "extreme"]),
)
def test_random_image_convolutions(
    isa: str, seed: int, channels: int, outputs: int, stride: int, size: tuple[int, int, int], values: Values
) -> None:
    batch, height, width = size
    case = make_image_case(
        seed, channels, outputs, size=(batch, height * stride, width * stride), stride=stride, values=values
    )
    check_case(case, isa)


@paths
@pytest.mark.parametrize(
    ("channels", "outputs", "stride", "size"),
    [
        (3, 32, 2, (1, 224, 224)),  # ReActNet-A's
        (3, 64, 1, (2, 32, 32)),
        (1, 1, 1, (1, 1, 1)),  # all padding except the centre
        (1, 33, 2, (1, 2, 2)),
        (2, 8, 1, (1, 1, 97)),
        (4, 31, 1, (1, 97, 1)),
        (40, 16, 2, (1, 6, 10)),
        (3, 300, 1, (1, 5, 7)),
    ],
)
def test_usual_and_narrow_ones(isa: str, channels: int, outputs: int, stride: int, size: tuple[int, int, int]) -> None:
    for values in ("normal", "extreme"):
        case = make_image_case(7, channels, outputs, size=size, stride=stride, values=values)  # type: ignore[arg-type]
        check_case(case, isa)


def slowly(stem: Stem, images: np.ndarray) -> np.ndarray:
    """The definition, one operation at a time, each the C library's."""
    outputs, channels, _, _ = stem.weight.shape
    batch, _, height, width = images.shape
    y = np.empty((batch, height // stem.stride, width // stem.stride, outputs), np.float32)
    for n, top, left, o in np.ndindex(y.shape):
        total = stem.bias[o]
        for c in range(channels):
            for row in range(3):
                for column in range(3):
                    i, j = top * stem.stride + row - 1, left * stem.stride + column - 1
                    inside = 0 <= i < height and 0 <= j < width
                    seen = images[n, c, i, j] if inside else np.float32(0)
                    total = fmaf(stem.weight[o, c, row, column], seen, total)
        y[n, top, left, o] = total
    return y


@paths
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("values", ["normal", "extreme"])
def test_against_the_definition(isa: str, stride: int, values: Values) -> None:
    case = make_image_case(stride, 3, 10, size=(2, 4, 6), stride=stride, values=values)
    with np.errstate(all="ignore"):
        wanted = slowly(case.stem, case.images)
    assert_same(case.y, wanted, "the reference")
    assert_same(kernels.KernelImageConv(case.stem, isa=isa)(case.images)[0], wanted, isa)


def test_the_order_matters() -> None:
    """Sums of these floats differ with their order, so that the comparisons above can tell."""
    case = make_image_case(0, 3, 32, size=(1, 8, 8))
    backwards = Stem(case.stem.weight[:, ::-1], case.stem.bias, 1)
    assert (reference.stem(backwards, case.images[:, ::-1]).transpose(0, 2, 3, 1) != case.y).any()


@paths
@pytest.mark.parametrize("outputs", [5, 64])
def test_signs_of_zero_and_the_edges_of_the_comparisons(isa: str, outputs: int) -> None:
    """Every sign of zero, NaN and infinity meets every other in image, weight, bias and next threshold."""
    edges = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-45, 1, -1], np.float32)
    rng = np.random.default_rng(outputs)
    for _ in range(20):
        usual = rng.choice(edges[[0, 1, 5, 6, 7, 8]], (outputs, 1, 3, 3))  # or all sums would be NaN
        stem = Stem(
            np.where(rng.random(usual.shape) < 0.05, rng.choice(edges, usual.shape), usual),
            *rng.choice(edges, (1, outputs)),
            1,
        )
        images = rng.choice(edges, (2, 1, 5, 9), p=[0.3, 0.3, *[0.02] * 3, *[0.085] * 4])
        check_case(expected(stem, images, rng.choice(edges, outputs)), isa)


@paths
def test_padding_is_multiplied_and_a_bias_of_minus_zero_stays(isa: str) -> None:
    """By hand: infinity times a 0 of the padding is NaN. Products of -0.0 leave a bias of -0.0, which is >= 0."""
    weight = np.zeros((3, 1, 3, 3), np.float32)
    weight[0, 0, 0, 0] = np.inf
    weight[1] = -0.0
    weight[1, 0, 1, 1] = 1
    weight[2, 0, 1, 1] = 2
    stem = Stem(weight, np.float32([1, -0.0, 3]), 1)
    images = np.float32([[[[-0.0, 5]]]])
    conv = kernels.KernelImageConv(stem, isa=isa, next_threshold=np.float32([0, 0, np.nan]))
    y, next_bits = conv(images)
    assert np.isnan(y[0, 0, :, 0]).all()
    assert y[0, 0, :, 1].view(np.uint32).tolist() == [0x80000000, np.float32(5).view(np.uint32)]
    assert y[0, 0, :, 2].tolist() == [3, 13]
    assert next_bits is not None
    assert next_bits.ravel().tolist() == [2, 2]


@paths
def test_one_convolution_on_many_sizes(isa: str) -> None:
    """Buffers that grow and shrink with the image leave nothing behind."""
    first = make_image_case(3, 3, 40, size=(1, 9, 11))
    conv = kernels.KernelImageConv(first.stem, isa=isa)
    rng = np.random.default_rng(4)
    for batch, height, width in ((1, 2, 3), (2, 30, 20), (1, 1, 1), (0, 4, 4), (3, 5, 5)):
        images = rng.standard_normal((batch, 3, height, width), np.float32)
        case = expected(first.stem, images, first.next_threshold)
        assert_same(conv(images, threads=2)[0], case.y, f"{isa}, {images.shape}")


# ---- what is refused


def test_what_the_kernels_cannot_run_is_refused() -> None:
    one = np.ones(4, np.float32)
    with pytest.raises(UserError, match="a 3x3 kernel and without a pool"):
        kernels.KernelImageConv(Stem(np.ones((4, 3, 7, 7), np.float32), one, 2))
    with pytest.raises(UserError, match="a 3x3 kernel and without a pool"):
        kernels.KernelImageConv(Stem(np.ones((4, 3, 3, 3), np.float32), one, 2, pool=True))
    with pytest.raises(UserError, match="stride must be 1 or 2"):
        kernels.KernelImageConv(Stem(np.ones((4, 3, 3, 3), np.float32), one, 3))
    with pytest.raises(UserError, match="at most 16384"):
        kernels.KernelImageConv(Stem(np.ones((16385, 1, 3, 3), np.float32), np.ones(16385, np.float32), 1))
    with pytest.raises(UserError, match="at least one"):
        kernels.KernelImageConv(Stem(np.ones((4, 0, 3, 3), np.float32), one, 1))
    with pytest.raises(UserError, match="next_threshold must have 4"):
        kernels.KernelImageConv(Stem(np.ones((4, 3, 3, 3), np.float32), one, 1), next_threshold=np.ones(5, np.float32))
    with pytest.raises(UserError, match="sse9"):
        kernels.KernelImageConv(Stem(np.ones((4, 3, 3, 3), np.float32), one, 1), isa="sse9")


def test_images_that_do_not_fit_are_refused() -> None:
    conv = kernels.KernelImageConv(make_image_case(0, 3, 8, size=(1, 4, 4), stride=2).stem)
    for height, width in ((3, 4), (4, 5)):
        with pytest.raises(UserError, match="even"):
            conv(np.zeros((1, 3, height, width), np.float32))
    with pytest.raises(UserError, match="1 to 16384"):
        conv(np.zeros((1, 3, 0, 4), np.float32))
    with pytest.raises(UserError, match=r"must be \(N, 3, H, W\)"):
        conv(np.zeros((1, 4, 4, 4), np.float32))
