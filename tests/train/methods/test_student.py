from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgebnn import checkpoint
from edgebnn.errors import UserError
from edgebnn.graph import ModelInfo
from edgebnn.nn import BiRealNet, ReActNet, ResNet
from edgebnn.train.data.sources import Digits
from edgebnn.train.methods.moco import MoCoV2
from edgebnn.train.methods.student import Student, load_initial_weights
from tests.train.conftest import train_one_step

SMALL = 1 / 16
ARCHS = {
    "reactnet-a": (ReActNet, 64),
    "reactnet-18": (BiRealNet, 32),
    "birealnet-18": (BiRealNet, 32),
    "resnet-18": (ResNet, 32),
    "resnet-34": (ResNet, 32),
    "resnet-50": (ResNet, 128),
}


@pytest.mark.parametrize("arch", ARCHS)
def test_every_arch_trains_and_its_file_starts_the_next(arch: str, digits: Digits, tmp_path: Path) -> None:
    student = Student(arch=arch, width=SMALL, stem_stride=1)  # type: ignore[arg-type]
    kind, features = ARCHS[arch]
    assert student.num_features == features
    method = MoCoV2(student, dim=8, queue_size=64)
    method.prepare(digits)
    assert type(method.network) is kind
    before = {name: tensor.clone() for name, tensor in method.network.named_parameters()}
    train_one_step(method, digits)
    still = [name for name, tensor in method.network.named_parameters() if torch.equal(tensor, before[name])]
    assert still == []
    path = tmp_path / "model.safetensors"
    checkpoint.save_checkpoint(path, method.network, ModelInfo("any", 32, digits.mean, digits.std))
    following = student.with_projection(8)
    load_initial_weights(following, str(path), digits)
    trained = method.network.state_dict()
    assert [name for name, tensor in following.state_dict().items() if not torch.equal(tensor, trained[name])] == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"arch": "resnet-50", "binary_weights": False}, "has no binary_weights; .* default: binary_weights True"),
        ({"arch": "resnet-18", "padding": "one"}, "a resnet-18 is real-valued and has no padding"),
        ({"arch": "vgg"}, "Unknown arch 'vgg'. Valid values are reactnet-a, "),
        ({"arch": "reactnet-18", "width": 0.3}, "multiple of 1/64"),
    ],
)
def test_what_makes_no_network_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Student(**fields).with_projection(8)  # type: ignore[arg-type]


def test_an_initial_checkpoint_that_does_not_fit_is_refused(digits: Digits, tmp_path: Path) -> None:
    student = Student(arch="birealnet-18", width=SMALL, stem_stride=1, binary_weights=False)
    path = tmp_path / "step1.safetensors"
    checkpoint.save_checkpoint(path, student.with_projection(8), ModelInfo("any", 32, digits.mean, digits.std))
    load_initial_weights(replace(student, binary_weights=True).with_projection(8), str(path), digits)
    for other in (replace(student, arch="reactnet-18"), replace(student, arch="resnet-18", binary_weights=True)):
        with pytest.raises(UserError, match="give both the same width, arch"):
            load_initial_weights(other.with_projection(8), str(path), digits)
    checkpoint.save_checkpoint(path, student.with_projection(8), ModelInfo("any", 32))
    with pytest.raises(UserError, match="initial checkpoint .* expects images normalised by"):
        load_initial_weights(student.with_projection(8), str(path), digits)
