import pytest

from edgebnn.errors import UserError
from edgebnn.graph import ops
from edgebnn.graph.shapes import check_resolution, reactnet_channels, reactnet_units


def test_reactnet_a_at_224_counts_as_the_published_table() -> None:
    # Published: 0.12 x 10^8 FLOPs, 48.2 x 10^8 BOPs, 0.87 x 10^8 OPs (ReActNet, table 1).
    totals = ops.totals(ops.count(ops.reactnet_a(), 224))
    assert totals["flops"] == 11_862_016
    assert totals["bops"] == 4_816_896_000
    assert totals["ops"] == 87_126_016
    assert totals["binary_weights"] == 28_253_184


def test_binary_resnet_18_at_224_counts_as_the_published_table() -> None:
    # Published for Bi-Real-Net-18: 1.39 x 10^8 FLOPs, 1.68 x 10^9 BOPs, 1.63 x 10^8 OPs (ReActNet, table 1).
    layers = ops.count(ops.resnet18(), 224)
    totals = ops.totals(layers)
    assert round(totals["bops"] / 1e9, 2) == 1.68
    assert totals["flops"] == pytest.approx(1.39e8, rel=0.01)
    assert totals["ops"] == pytest.approx(1.63e8, rel=0.01)
    # By hand: the stem's 7x7 at 112 x 112 before the pool; three 1x1 convolutions, each of 128 * 64 * 28 * 28.
    assert layers[0].flops == 64 * 3 * 49 * 112 * 112
    assert layers[0].output == (64, 56, 56)
    assert totals["flops"] == layers[0].flops + 3 * 128 * 64 * 28 * 28 + 512 * 1000


def test_counts_of_a_small_network_worked_out_by_hand() -> None:
    # Stem of 2 channels, stride 1, at 16 x 16: 2 * 3 * 9 weights at 256 places.
    layers = ops.count(ops.reactnet_a(width=1 / 16, stem_stride=1, classes=5), 16)
    assert (layers[0].flops, layers[0].bops) == (2 * 27 * 256, 0)
    # First unit: 3x3, 2 -> 2 channels at 16 x 16; floats: 2 thresholds, 2 scales, 2 biases, 2 slopes.
    assert (layers[1].bops, layers[1].binary_weights, layers[1].floats) == (2 * 2 * 9 * 256, 36, 8)
    assert layers[1].bytes == 5 + 32
    # Third unit halves the resolution: 3x3, 4 -> 4 at 8 x 8.
    assert layers[3].bops == 4 * 4 * 9 * 64
    # Head: 64 features to 5 classes.
    assert (layers[-1].flops, layers[-1].floats) == (320, 325)


def test_the_real_valued_twin_does_the_same_work_in_floats() -> None:
    binary, real = (ops.totals(ops.count(ops.reactnet_a(binary=flag), 224)) for flag in (True, False))
    assert real["flops"] == binary["flops"] + binary["bops"]
    assert real["bops"] == 0
    assert real["parameters"] == binary["parameters"]
    assert real["bytes"] == binary["bytes"] + 28_253_184 * 4 - 28_253_184 // 8


def test_widths_scale_channels_and_refuse_broken_ones() -> None:
    assert reactnet_channels(0.25) == (8, 16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256)
    with pytest.raises(UserError, match=r"width 0\.3 .* multiple of 1/32"):
        reactnet_channels(0.3)


@pytest.mark.parametrize(("resolution", "nearest"), [(28, "32 or 64"), (100, "96 or 128"), (0, "32 or 64")])
def test_a_resolution_the_network_cannot_take_is_refused_with_the_nearest(resolution: int, nearest: str) -> None:
    with pytest.raises(UserError, match=f"resolution {resolution} .* use {nearest}"):
        check_resolution(resolution, 2, reactnet_units())
