"""Binary ResNet-18s as LCE and as plain TFLite files, each part against the reference on its own input."""

from pathlib import Path

import numpy as np
import pytest

from edgebnn.export.fold import fold
from edgebnn.export.tflite import file as tflite_file
from edgebnn.export.tflite import lce, plain
from edgebnn.export.tflite.interpreter import open_interpreter
from edgebnn.export.verify import rounding
from edgebnn.export.verify.parity import Limits, verify
from edgebnn.graph import ModelInfo, reference
from edgebnn.graph.shapes import Padding
from edgebnn.nn import BiRealConfig
from edgebnn.nn.bireal import BiRealArch
from tests.needs import needs_lce
from tests.networks import noise, random_network

pytestmark = needs_lce


def config_of(arch: BiRealArch, padding: Padding, stem_stride: int) -> BiRealConfig:
    return BiRealConfig(arch=arch, width=1 / 8, padding=padding, stem_stride=stem_stride, head=(10,))


@pytest.mark.parametrize(
    ("arch", "padding", "stem_stride", "resolution"),
    [("birealnet-18", "zero", 2, 64), ("reactnet-18", "one", 2, 96), ("reactnet-18", "zero", 1, 16)],
)
def test_every_part_is_the_references_within_rounding(
    arch: BiRealArch, padding: Padding, stem_stride: int, resolution: int
) -> None:
    graph = fold(random_network(5, config_of(arch, padding, stem_stride)), ModelInfo(resolution=resolution))
    images = noise(2, 2, resolution)
    data = lce.convert_to_lce(graph)
    outputs, logits = open_interpreter(data).run(images)
    stem = reference.stem(graph.stem, images)
    assert rounding.share_of_bound(outputs[0], stem, rounding.stem_bound(graph.stem, images)) <= 1
    for unit, x, y in zip(graph.units, outputs, outputs[1:]):
        bound = rounding.unit_bound(unit, x)
        assert rounding.share_of_bound(y, reference.unit(unit, x), bound) <= 1
        # One wrong bit, or one pixel's shift of the shortcut, is far outside.
        assert 2 * np.abs(unit.scale).max() > 10 * np.max(bound)
    np.testing.assert_allclose(logits, reference.head(graph.head, outputs[-1]), rtol=1e-4, atol=1e-5)
    kinds = [operator.kind for operator in tflite_file.read_operators(data)]
    assert (kinds.count("LceBconv2d"), kinds.count("CONV_2D"), kinds.count("AVERAGE_POOL_2D")) == (16, 4, 3)
    assert kinds.count("MAX_POOL_2D") == (1 if stem_stride == 2 else 0)
    assert kinds.count("PRELU") == (0 if arch == "birealnet-18" else 16)


def test_the_plain_tflite_file_verifies(tmp_path: Path) -> None:
    model = random_network(6, config_of("reactnet-18", "zero", 2))
    graph = fold(model, ModelInfo(resolution=64))
    (tmp_path / "model.tflite").write_bytes(plain.convert_to_tflite(graph))
    found = verify(model, graph, tmp_path / "model.tflite", noise(3, 4, 64))
    assert found.failures(Limits()) == []
