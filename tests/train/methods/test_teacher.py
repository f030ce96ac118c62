"""A frozen teacher answers as its network does, and nothing that training does reaches it."""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgebnn import checkpoint
from edgebnn.errors import UserError
from edgebnn.graph import ModelInfo
from edgebnn.nn import Network
from edgebnn.nn.network import linear_layers
from edgebnn.train.data.sources import Digits
from edgebnn.train.methods.distill import Distill
from edgebnn.train.methods.teacher import FrozenTeacher, load_teacher
from tests.train.conftest import BINARY, REAL, snapshot, train_one_step


@dataclass(frozen=True)
class Config:
    head: tuple[int, ...] = (6, 5)


class Plain(Network):
    """Convolutions in the forms that a ResNet has: plain, with a bias, strided beside a shortcut, without BatchNorm."""

    num_features = 12

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.conv = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(12, eps=0.1)
        self.down = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(8, 12, 1, bias=False), nn.BatchNorm2d(12))
        self.last = nn.Conv2d(12, 12, 1)
        self.last_norm = nn.BatchNorm2d(12)
        self.head = linear_layers(12, config.head)

    def features(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        x = self.norm(self.conv(x)) + self.down(x)
        # This BatchNorm does not take the convolution's output, so it must stay.
        return self.last_norm(F.relu(self.last(x))).mean(dim=(2, 3))

    def check_resolution(self, resolution: int) -> None:
        pass


def plain() -> Plain:
    torch.manual_seed(4)
    network = Plain(Config())
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight, norm.bias, norm.running_mean):
                nn.init.normal_(tensor)  # type: ignore[arg-type]
            nn.init.uniform_(norm.running_var, 0.2, 3)  # type: ignore[arg-type]
    return network.eval()


def test_the_folded_teacher_answers_as_its_network_in_eval() -> None:
    network = plain().double()
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    teacher = FrozenTeacher(network, 8)
    norms = [name for name, module in teacher.network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms == ["last_norm"]
    torch.testing.assert_close(teacher(images), network(images), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(teacher.features(images), network.features(images), rtol=1e-12, atol=1e-12)
    assert (teacher.outputs, teacher.num_features) == (5, 12)


def test_the_network_it_was_made_of_stays_as_it_is() -> None:
    network = plain()
    before = snapshot(network)
    FrozenTeacher(network, 8)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("autocast", [False, True])
def test_a_loss_may_save_what_it_gives_and_no_gradient_passes(autocast: bool) -> None:
    teacher = FrozenTeacher(plain(), 8)
    images = torch.randn(3, 3, 8, 8, requires_grad=True)
    weight = torch.ones(5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        outputs = teacher(images)
        (outputs * weight).sum().backward()
        features = teacher.features(images)
    assert outputs.dtype == (torch.bfloat16 if autocast else torch.float32)
    assert not outputs.requires_grad
    assert not features.is_inference()
    torch.testing.assert_close(weight.grad, outputs.float().sum(dim=0), rtol=1e-2, atol=1e-2)
    assert images.grad is None
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())


def test_training_and_copies_leave_it_in_eval() -> None:
    parent = nn.Sequential(FrozenTeacher(plain(), 8))
    for holder in (parent.train(), deepcopy(parent).train()):
        assert not any(module.training for module in holder[0].modules())


def test_last_ckpt_holds_nothing_of_it(teacher: str, digits: Digits) -> None:
    method = Distill(BINARY, teacher)
    method.prepare(digits)
    before = snapshot(method.teacher)
    train_one_step(method, digits)
    assert all(torch.equal(tensor, before[name]) for name, tensor in method.teacher.state_dict().items())
    file = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(file)
    assert set(file["state_dict"]) == {f"network.{name}" for name in method.network.state_dict()}


def test_loading_says_what_does_not_fit(teacher: str, digits: Digits, tmp_path: Path) -> None:
    assert load_teacher(teacher, digits, projection=True).outputs == 24
    with pytest.raises(UserError, match="teacher .*gone.* "):
        load_teacher(str(tmp_path / "gone"), digits)
    classifier = tmp_path / "classifier.safetensors"
    checkpoint.save_checkpoint(classifier, REAL.with_head((10,)), ModelInfo("c", 32, digits.mean, digits.std))
    assert load_teacher(str(classifier), digits).outputs == 10
    with pytest.raises(UserError, match="has no projection head"):
        load_teacher(str(classifier), digits, projection=True)
    digits.resolution = 33
    with pytest.raises(UserError, match="resolution 33"):
        load_teacher(teacher, digits)
