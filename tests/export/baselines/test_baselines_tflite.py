from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.resnet import BasicBlock, ResNet

from edgebnn.errors import UserError
from edgebnn.export.baselines import tflite as baselines_tflite
from edgebnn.export.baselines.random_networks import settle
from edgebnn.export.tflite import file as tflite_file
from edgebnn.runtime import load_model
from tests.needs import needs_lce, needs_tensorflow


def small_resnet() -> nn.Module:
    """ResNet-18's parts, each once."""
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10)


@needs_lce
@pytest.mark.parametrize("make", [models.mobilenet_v3_small, small_resnet], ids=["mobilenet_v3_small", "resnet"])
def test_gives_what_torch_gives(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = settle(make(), 33)
    path = tmp_path / "model.tflite"
    path.write_bytes(baselines_tflite.convert_module_to_tflite(model, "some", 33))
    image = np.random.default_rng(2).standard_normal((1, 3, 33, 33), np.float32)
    loaded = load_model(path)
    assert (loaded.info.name, loaded.info.resolution) == ("some", 33)
    wanted = model(torch.from_numpy(image)).numpy()
    # Sums in another order.
    np.testing.assert_allclose(loaded.run(image), wanted, rtol=0, atol=1e-4 * float(np.abs(wanted).max()))
    # A layer is one operator: what a tool is fast at.
    kinds = Counter(each.kind for each in tflite_file.read_operators(path.read_bytes()))
    layers = list(model.modules())
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert kinds["DEPTHWISE_CONV_2D"] == sum(layer.groups > 1 for layer in convolutions)
    assert kinds["CONV_2D"] == sum(layer.groups == 1 for layer in convolutions)
    assert kinds["HARD_SWISH"] == sum(isinstance(layer, nn.Hardswish) for layer in layers)
    assert kinds["FULLY_CONNECTED"] == sum(isinstance(layer, nn.Linear) for layer in layers)


@needs_tensorflow
def test_an_unknown_layer_is_named() -> None:
    with pytest.raises(UserError, match="contains SiLU"):
        baselines_tflite.convert_module_to_tflite(nn.Sequential(nn.SiLU()).eval(), "x", 32)
