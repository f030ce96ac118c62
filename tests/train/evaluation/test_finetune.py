"""Fine-tuning moves the whole network, what is binary stays binary, and a share of labels is one of every class."""

from pathlib import Path

import pytest
import torch

from edgebnn import checkpoint
from edgebnn.errors import UserError
from edgebnn.graph import ModelInfo
from edgebnn.train.data.sources import Digits
from edgebnn.train.data.subset import Subset
from edgebnn.train.engine.optim import OptimizerConfig
from edgebnn.train.evaluation.base import images_of_classes
from edgebnn.train.evaluation.finetune import FineTune
from edgebnn.train.methods.measured import label_share
from tests.train.conftest import BINARY, moved, snapshot, train_one_step


@pytest.fixture
def pretrained(digits: Digits, tmp_path: Path) -> str:
    path = tmp_path / "model.safetensors"
    checkpoint.save_checkpoint(path, BINARY.with_projection(24), ModelInfo("any", 32, digits.mean, digits.std))
    return str(path)


def test_everything_moves_and_stays_binary(pretrained: str, digits: Digits, tmp_path: Path) -> None:
    method = FineTune(pretrained)
    method.prepare(digits)
    backbone = checkpoint.load_checkpoint(pretrained).model
    assert torch.equal(method.network.units[3].conv.weight, backbone.units[3].conv.weight)
    before = snapshot(method.network)
    train_one_step(method, digits)
    assert moved(method.network, before) == set(before)
    # Saved and read again it is a classifier of the same binary network.
    path = tmp_path / "tuned.safetensors"
    checkpoint.save_checkpoint(path, method.network, ModelInfo("tuned", 32, digits.mean, digits.std, digits.labels))
    found = checkpoint.load_checkpoint(path).model
    assert (found.config.head, found.config.binary_weights, found.config.binary_activations) == ((10,), True, True)
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(found(images), method.network.eval()(images), rtol=1e-5, atol=1e-6)


def test_a_single_image_left_over_is_a_step_that_batchnorm_takes(pretrained: str) -> None:
    # The last maps are of one pixel: a single image would give BatchNorm a single value a channel.
    data = Digits(batch_size=23, subset=Subset(per_class=7), drop_last=False)
    data.setup()
    method = FineTune(pretrained)
    method.prepare(data)
    train_one_step(method, data, max_epochs=1, max_steps=-1)
    assert method.global_step == 4


def test_the_classifier_has_a_rate_of_its_own(pretrained: str, digits: Digits) -> None:
    sgd = OptimizerConfig(name="sgd", lr=1e-3, momentum=0.0, schedule="constant")
    steps = []
    for factor in (1, 10):
        torch.manual_seed(3)
        method = FineTune(pretrained, optimizer=sgd, head_lr_factor=factor)
        method.prepare(digits)
        before = snapshot(method.network)
        train_one_step(method, digits)
        steps.append({name: tensor - before[name] for name, tensor in method.network.state_dict().items()})
    for name, step in steps[0].items():
        times = 10 if name.startswith("head.") else 1
        torch.testing.assert_close(steps[1][name], times * step, rtol=1e-2, atol=1e-7, msg=name)
    assert steps[0]["head.0.weight"].abs().max() > 1e-6
    with pytest.raises(UserError, match="head_lr_factor 0 is not positive"):
        FineTune(pretrained, head_lr_factor=0).prepare(digits)


def test_a_share_of_labels_is_balanced_and_named(pretrained: str) -> None:
    found = []
    for seed in (0, 0, 1):
        data = Digits(batch_size=64, subset=Subset(share=0.1), seed=seed)
        data.setup("fit")
        # A tenth of each class' 139 to 146 training images.
        assert set(images_of_classes(data).tolist()) <= {14, 15}
        found.append(data.parts["train"][0])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert label_share(data) == ", 10% of labels"
    data.parts["train"] = tuple(tensor[data.parts["train"][1] != 4] for tensor in data.parts["train"])  # type: ignore
    with pytest.raises(UserError, match="class 4 has no training image; correct data.subset or data.root"):
        FineTune(pretrained).prepare(data)
