"""Our TFLite files against those of LCE's and TensorFlow's converters, in the same interpreter."""

from pathlib import Path

import numpy as np
import pytest

from edgebnn.export.tflite import lce, plain
from edgebnn.export.verify.against_converter import compare_with_converter
from edgebnn.graph import InferenceGraph
from edgebnn.graph.shapes import Padding, UnitShape
from tests.export.random_graph import graph_of, random_graph
from tests.needs import needs_lce

pytestmark = needs_lce

SAMPLE = 3
"""Random networks in `make test`; `make test-all` converts all."""


def random_case(seed: int) -> InferenceGraph:
    """A ReActNet-A of random width, padding, stem stride and resolution, down to maps of 1x1; or a few odd units."""
    rng = np.random.default_rng(seed)
    padding: Padding = ("zero", "one")[int(rng.integers(2))]
    if seed % 3:
        width = int(rng.integers(1, 13)) / 32
        resolution, stem_stride = int(rng.choice([32, 64, 96])), int(rng.integers(1, 3))
        return random_graph(rng, width=width, resolution=resolution, stem_stride=stem_stride, padding=padding)
    channels = int(rng.integers(1, 70))
    shapes = (
        UnitShape(channels, channels, 3, 1, "identity"),
        UnitShape(channels, channels, int(rng.choice([1, 3])), 2, "pool"),
        UnitShape(channels, 2 * channels, 1, 1, "repeat"),
        UnitShape(2 * channels, 2 * channels, 3, int(rng.integers(1, 3)), "none"),
    )
    return graph_of(rng, shapes, channels=channels, resolution=int(rng.choice([8, 16])), padding=padding)


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[] if seed < SAMPLE else [pytest.mark.long]) for seed in range(30)]
)
def test_our_lce_file_gives_the_bits_of_the_converters_with_no_more_operators(seed: int, tmp_path: Path) -> None:
    graph = random_case(seed)
    side = graph.info.resolution
    images = np.random.default_rng(seed).normal(size=(2, 3, side, side)).astype(np.float32)
    path = tmp_path / "ours.tflite"
    path.write_bytes(lce.convert_to_lce(graph))
    found = compare_with_converter(graph, path, images, format_="lce")
    assert found.failures == []
    assert found.parts == len(graph.units) + 2
    assert found.bytes < found.converter_bytes


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.long), pytest.param(2, marks=pytest.mark.long)])
def test_our_plain_file_has_the_operators_of_tensorflows(seed: int, tmp_path: Path) -> None:
    graph = random_case(seed)
    side = graph.info.resolution
    images = np.random.default_rng(seed).normal(size=(2, 3, side, side)).astype(np.float32)
    for name, network in (("plain", graph), ("twin", plain.real_valued(graph))):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(plain.convert_to_tflite(network))
        found = compare_with_converter(network, path, images, format_="tflite")
        assert found.failures == []


def test_a_comparison_names_what_differs(tmp_path: Path) -> None:
    graph = random_case(0)
    side = graph.info.resolution
    images = np.random.default_rng(0).normal(size=(1, 3, side, side)).astype(np.float32)
    path = tmp_path / "other.tflite"
    # The plain file of the same network has other operators, and its units other last bits.
    path.write_bytes(plain.convert_to_tflite(graph))
    found = compare_with_converter(graph, path, images, format_="lce")
    assert any("CONV_2D" in failure for failure in found.failures)
