"""One step of every method moves what it should, and nothing else."""

from pathlib import Path

import pytest
import torch

from edgebnn import checkpoint
from edgebnn.errors import UserError
from edgebnn.graph import ModelInfo
from tests.train.conftest import BINARY, REAL, STEP1, moved, snapshot, train_one_step
from train.data import Digits
from train.distill import Distill
from train.evaluation import measure_norms
from train.linear import LinearEvaluation, with_classifier
from train.moco import MoCoV2
from train.student import Student


def parameters(module: torch.nn.Module) -> set[str]:
    return {name for name, _ in module.named_parameters()}


def buffers(module: torch.nn.Module) -> set[str]:
    return {name for name, _ in module.named_buffers()}


@pytest.mark.parametrize("student", [BINARY, REAL])
def test_moco_moves_the_student_and_the_key_encoder_follows_by_momentum(student: Student, digits: Digits) -> None:
    method = MoCoV2(student, dim=16, queue=40, momentum=0.9, key_groups=2)
    method.prepare(digits)
    with torch.no_grad():
        for parameter in method.network.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    before = snapshot(method)
    train_one_step(method, digits)
    changed = moved(method, before)
    assert {f"network.{name}" for name in parameters(method.network) | buffers(method.network)} <= changed
    assert {f"key_encoder.{name}" for name in buffers(method.key_encoder)} <= changed
    for name, key in method.key_encoder.named_parameters():
        # The key encoder follows before the student's step, so both old values are at hand.
        expected = 0.9 * before[f"key_encoder.{name}"] + 0.1 * before[f"network.{name}"]
        torch.testing.assert_close(key, expected, rtol=1e-5, atol=1e-7)
    assert int(method.queue.head) == 32
    assert not torch.equal(method.queue.keys[:32], before["queue.keys"][:32])
    assert torch.equal(method.queue.keys[32:], before["queue.keys"][32:])


def test_moco_keys_come_back_in_the_order_of_their_images(digits: Digits) -> None:
    method = MoCoV2(REAL, dim=16, queue=40, key_groups=3)
    method.prepare(digits)
    method.eval()
    images = torch.randn(8, 3, 32, 32)
    torch.testing.assert_close(method.encode_keys(images), method.key_encoder(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("student", [BINARY, STEP1])
def test_distillation_moves_the_whole_student_and_nothing_of_the_teacher(
    student: Student, teacher: str, digits: Digits
) -> None:
    method = Distill(student, teacher)
    method.prepare(digits)
    before = snapshot(method)
    train_one_step(method, digits)
    assert moved(method, before) == {f"network.{name}" for name in parameters(method.network) | buffers(method.network)}
    assert not method.teacher.training
    assert method.network.training


def test_step_2_starts_from_the_weights_of_step_1(teacher: str, digits: Digits, tmp_path: Path) -> None:
    first = Distill(STEP1, teacher)
    first.prepare(digits)
    train_one_step(first, digits)
    path = tmp_path / "step1.safetensors"
    checkpoint.save(path, first.network, ModelInfo("step1", 32, digits.mean, digits.std))
    torch.manual_seed(9)
    second = Distill(BINARY, teacher, init=str(path))
    second.prepare(digits)
    assert moved(second.network, first.network.state_dict()) == set()
    assert second.network.config.binary_weights
    assert not first.network.config.binary_weights
    with pytest.raises(UserError, match="same width"):
        Distill(Student(width=1 / 32), teacher, init=str(path)).prepare(digits)


@pytest.mark.parametrize("student", [BINARY, REAL])
def test_linear_evaluation_moves_the_classifier_alone(student: Student, digits: Digits, tmp_path: Path) -> None:
    trained = student.with_projection(24)
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, trained, ModelInfo("any", 32, digits.mean, digits.std))
    method = LinearEvaluation(str(path))
    method.prepare(digits)
    assert torch.equal(method.network.units[7].conv.weight, trained.units[7].conv.weight)
    # A normal distribution's sample deviation over 640 values: 0.01 within five standard errors.
    assert method.network.head[0].weight.std().item() == pytest.approx(0.01, rel=0.15)
    before = snapshot(method)
    train_one_step(method, digits)
    assert moved(method, before) == {"network.head.0.weight", "network.head.0.bias"}
    assert not any(module.training for module in method.network.modules())


def test_untrained_baseline_measures_its_norms_and_trains_no_weight(digits: Digits) -> None:
    network = BINARY.with_head(())
    before = snapshot(network)
    measure_norms(network, digits.fixed_train_dataloader(shuffled=True))
    assert moved(network, before) == buffers(network)
    # The stem's statistics are those of its outputs over all batches, one by one.
    torch.manual_seed(0)
    outputs = [
        network.stem(images).transpose(0, 1).flatten(1) for (images,), _ in digits.fixed_train_dataloader(shuffled=True)
    ]
    network.load_state_dict(before)
    torch.manual_seed(0)
    measure_norms(network, digits.fixed_train_dataloader(shuffled=True))
    mean = torch.stack([output.mean(dim=1) for output in outputs]).mean(dim=0)
    torch.testing.assert_close(network.stem_norm.running_mean, mean, rtol=1e-4, atol=1e-5)
    variance = torch.stack([output.var(dim=1) for output in outputs]).mean(dim=0)
    torch.testing.assert_close(network.stem_norm.running_var, variance, rtol=1e-4, atol=1e-5)
    assert network.stem_norm.momentum == 0.1


def test_accuracy_is_the_share_of_right_answers(digits: Digits, tmp_path: Path) -> None:
    method = LinearEvaluation(student=BINARY)
    method.prepare(digits)
    train_one_step(method, digits, limit_val_batches=1.0, max_steps=-1, max_epochs=1, limit_train_batches=3)
    (record,) = method.records("tiny", epochs=1)
    right = within5 = count = 0
    for (images,), labels in digits.val_dataloader():
        for scores, label in zip(method.network(images).tolist(), labels.tolist()):
            rank = sum(score > scores[label] for score in scores)
            right, within5, count = right + (rank == 0), within5 + (rank < 5), count + 1
    assert record.values["top1"] == pytest.approx(100 * right / count, abs=1e-3)
    assert record.values["top5"] == pytest.approx(100 * within5 / count, abs=1e-3)
    assert record.context["images"] == count == 359
    assert record.context["method"] == "untrained"


def test_classifier_keeps_the_backbone() -> None:
    network = BINARY.with_projection(24)
    result = with_classifier(network, 7)
    assert result.config.head == (7,)
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(result.eval().features(images), network.eval().features(images), rtol=0, atol=0)


def test_normalisation_of_another_data_set_is_refused(teacher: str) -> None:
    data = Digits(mean=(0.5, 0.5, 0.5), batch_size=32)
    data.setup("fit")
    with pytest.raises(UserError, match="the teacher expects images normalised by"):
        Distill(BINARY, teacher).prepare(data)
