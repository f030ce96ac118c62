"""Folding against the PyTorch network, both in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgebnn.errors import UserError
from edgebnn.export.fold import fold
from edgebnn.graph import ModelInfo, reference
from edgebnn.nn import BiRealConfig, ReActNetConfig, ResNetConfig
from tests.networks import noise, random_network

BASE = ReActNetConfig(width=0.125, head=(10,))
BIREAL = BiRealConfig(arch="birealnet-18", width=1 / 16, head=(10,))
REACT18 = replace(BIREAL, arch="reactnet-18")
CASES = [
    replace(BASE, width=width, padding=padding, stem_stride=stem_stride)
    for width in (0.0625, 0.125, 0.21875, 0.25)
    for padding in ("zero", "one")
    for stem_stride in (1, 2)
] + [
    replace(BASE, head=()),
    replace(BASE, head=(7, 5)),
    replace(BASE, head=(9,), head_relu=True),
    replace(BASE, binary_weights=False),
    replace(BASE, binary_weights=False, padding="one"),
    replace(BASE, binary_weights=False, binary_activations=False),
    replace(BASE, binary_weights=False, binary_activations=False, padding="one"),
    replace(BASE, binary_activations=False),
    *(
        replace(config, padding=padding, stem_stride=stem_stride, head=head)
        for config in (BIREAL, REACT18)
        for padding, stem_stride, head in (("zero", 2, (10,)), ("one", 1, ()), ("one", 2, (7, 5)), ("zero", 1, (9,)))
    ),
    replace(BIREAL, binary_weights=False),
    replace(REACT18, binary_weights=False, padding="one"),
    replace(REACT18, binary_weights=False, binary_activations=False),
]


@pytest.mark.parametrize("seed", range(len(CASES)))
def test_the_reference_equals_the_network(seed: int) -> None:
    model = random_network(seed, CASES[seed]).double()
    graph = fold(model, ModelInfo(resolution=64), dtype=np.float64)
    images = noise(seed, 2, 64).astype(np.float64)
    expected = model(torch.from_numpy(images)).numpy()
    found = reference.run(graph, images)
    assert expected.std() > 0
    assert np.abs(found - expected).max() <= 1e-9 * np.abs(expected).max()


@pytest.mark.parametrize("config", [BASE, replace(BIREAL, width=1 / 4), replace(REACT18, width=1 / 4)])
def test_the_networks_tested_exercise_both_bits_and_both_signs_of_gain(config: ReActNetConfig) -> None:
    # A network whose bits are all alike would pass with any threshold.
    graph = fold(random_network(5, config), ModelInfo(resolution=64))
    # The stem hands on what the first unit compares with 0: an operator less in LCE.
    assert not graph.units[0].threshold.any()
    x = reference.stem(graph.stem, noise(5, 2, 64))
    for unit in graph.units:
        share = (x >= unit.threshold[:, None, None]).mean()
        assert 0.05 < share < 0.95
        assert (unit.scale < 0).any()
        assert (unit.scale > 0).any()
        x = reference.unit(unit, x)


def test_weights_that_are_not_finite_are_refused() -> None:
    model = random_network(0, BASE)
    model.units[3].norm.running_var[0] = torch.nan  # type: ignore[union-attr, index]
    with pytest.raises(UserError, match=r"units\.3\.norm\.running_var holds values that are not finite"):
        fold(model, ModelInfo(resolution=64))


def test_networks_without_an_inference_graph_are_refused_with_what_there_is() -> None:
    with pytest.raises(
        UserError, match="a resnet-18 has no binary units.*give a checkpoint of a ReActNet-A, a ReActNet-18"
    ):
        fold(random_network(0, ResNetConfig(arch="resnet-18", width=1 / 16)), ModelInfo(resolution=64))
    with pytest.raises(UserError, match="clips them.*train stage 1"):
        fold(random_network(0, replace(BIREAL, binary_activations=False)), ModelInfo(resolution=64))
