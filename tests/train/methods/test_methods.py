"""One step of every method moves what it should, and nothing else."""

import math
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from edgebnn import checkpoint
from edgebnn.errors import UserError
from edgebnn.graph import ModelInfo
from edgebnn.train.data.sources import Digits
from edgebnn.train.engine.callbacks import LastCheckpoint
from edgebnn.train.engine.optim import OptimizerConfig
from edgebnn.train.evaluation.base import measure_batchnorms
from edgebnn.train.evaluation.linear import LinearEvaluation, with_classifier
from edgebnn.train.methods.burn import BURN
from edgebnn.train.methods.burn_code import BURNCode
from edgebnn.train.methods.distill import Distill
from edgebnn.train.methods.moco import MoCoV2
from edgebnn.train.methods.moco_distill import MoCoV2Distill
from edgebnn.train.methods.student import Student
from tests.train.conftest import BINARY, REAL, STEP1, moved, snapshot, train_one_step

ADAM = OptimizerConfig()


def parameters(module: torch.nn.Module) -> set[str]:
    return {name for name, _ in module.named_parameters()}


def buffers(module: torch.nn.Module) -> set[str]:
    return {name for name, _ in module.named_buffers()}


@pytest.mark.parametrize("student", [BINARY, REAL])
def test_moco_moves_the_student_and_the_key_encoder_follows_by_momentum(student: Student, digits: Digits) -> None:
    method = MoCoV2(student, dim=16, queue_size=64, momentum=0.9, key_groups=2)
    method.prepare(digits)
    before = snapshot(method)
    train_one_step(method, digits)
    changed = moved(method, before)
    assert {f"network.{name}" for name in parameters(method.network) | buffers(method.network)} <= changed
    # It normalises by its groups' statistics and keeps none.
    assert buffers(method.key_encoder) == set()
    for (name, key), query in zip(method.key_encoder.named_parameters(), method.network.parameters()):
        expected = 0.9 * before[f"key_encoder.{name}"] + 0.1 * query
        torch.testing.assert_close(key, expected, rtol=1e-5, atol=1e-7)
    assert int(method.queue.head) == 32
    assert not torch.equal(method.queue.keys[:32], before["queue.keys"][:32])
    assert torch.equal(method.queue.keys[32:], before["queue.keys"][32:])


def test_momentum_is_once_a_step_and_the_queue_sees_every_batch(digits: Digits) -> None:
    method = MoCoV2(REAL, dim=16, queue_size=64, momentum=0.9, key_groups=2)
    method.prepare(digits)
    before = snapshot(method)
    train_one_step(method, digits, accumulate_grad_batches=2, max_steps=1)
    assert int(method.queue.head) == 32
    key, query = method.key_encoder.stem.weight, method.network.stem.weight
    torch.testing.assert_close(key, 0.9 * before["key_encoder.stem.weight"] + 0.1 * query, rtol=1e-5, atol=1e-7)


def test_moco_keys_are_those_of_random_groups_in_the_order_of_their_images(
    digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = MoCoV2(REAL, dim=16, queue_size=64, key_groups=4)
    method.prepare(digits)
    monkeypatch.setattr(method, "generator", lambda: torch.Generator().manual_seed(3))
    images = torch.randn(32, 3, 32, 32)
    keys = method.encode_keys(images)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(3)).tolist()
    for start in (0, 8, 16, 24):
        members = order[start : start + 8]
        expected = method.key_encoder(torch.stack([images[member] for member in members]))
        for member, key in zip(members, expected):
            torch.testing.assert_close(keys[member], key, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            {"queue_size": 16},
            "a queue of 16 keys does not hold whole batches of 32; use a queue of 32 or data.batch_size 16",
        ),
        ({"queue_size": 80}, "use a queue of 96 or data.batch_size 20"),
        ({"queue_size": 64, "key_groups": 5}, "use model.key_groups 1, 2, 4, 8, 16$"),
        ({"queue_size": 64, "key_groups": 32}, "two or more per group"),
        ({"queue_size": 64, "momentum": 1.5}, "not from 0 to 1"),
        ({"queue_size": 64, "temperature": 0}, "temperature of 0 is not positive"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_some_that_do(
    arguments: dict[str, int], reason: str, digits: Digits
) -> None:
    with pytest.raises(UserError, match=reason):
        MoCoV2(REAL, dim=16, **arguments).prepare(digits)


def test_moco_with_distillation_adds_the_teachers_loss_one_to_one(teacher: str, digits: Digits) -> None:
    method = MoCoV2Distill(BINARY, teacher, queue_size=64, key_groups=2)
    method.prepare(digits)
    before = snapshot(method)
    train_one_step(method, digits)
    changed = moved(method, before)
    assert {f"network.{name}" for name in parameters(method.network) | buffers(method.network)} <= changed
    assert {name.split(".")[0] for name in changed} == {"network", "key_encoder", "queue"}
    metrics = method.trainer.callback_metrics
    together = metrics["train/contrastive"] + metrics["train/distillation"]
    torch.testing.assert_close(metrics["train/loss"], together, rtol=1e-6, atol=0)
    # Both are cross-entropies in nats, of one among 65 and of distributions over the teacher's 24 outputs.
    assert metrics["train/contrastive"] > 0
    assert 0 < metrics["train/distillation"] < 2 * math.log(24)


@pytest.mark.parametrize("student", [BINARY, STEP1])
def test_burn_moves_student_and_target_classifier_and_nothing_of_the_extractor(
    student: Student, teacher: str, digits: Digits
) -> None:
    # BURN's own warm-up starts with steps that are lost in rounding.
    method = BURN(student, teacher, classifier_dim=40, optimizer=ADAM)
    method.prepare(digits)
    before = snapshot(method)
    train_one_step(method, digits)
    changed = moved(method, before)
    trained = {
        f"{part}.{name}"
        for part in ("network", "classifier", "target_classifier")
        for name in parameters(getattr(method, part)) | buffers(getattr(method, part))
    }
    assert changed == trained
    assert not method.extractor.network.training
    assert method.target_classifier.training
    # Student and extractor are as wide here; see test_burn_matches_features_of_other_widths.
    assert isinstance(method.match, torch.nn.Identity)


def test_burn_code_leaves_the_target_classifier_as_it_was_drawn(teacher: str, digits: Digits) -> None:
    method = BURNCode(BINARY, teacher, classifier_dim=40, optimizer=ADAM)
    method.prepare(digits)
    before = snapshot(method)
    train_one_step(method, digits)
    changed = moved(method, before)
    trained = {f"network.{name}" for name in parameters(method.network) | buffers(method.network)}
    trained |= {f"classifier.{name}" for name in parameters(method.classifier) | buffers(method.classifier)}
    # BatchNorm's running statistics move with the batches; nothing reads them.
    assert changed == trained | {f"target_classifier.{name}" for name in buffers(method.target_classifier)}


@pytest.mark.parametrize("kind", [BURN, BURNCode])
def test_burn_starts_as_the_stages_of_its_code_do(kind: type[BURN], teacher: str, digits: Digits) -> None:
    for initial in ("kaiming", "torch"):
        method = kind(STEP1, teacher, classifier_dim=200, weight_init=initial)
        method.prepare(digits)
        weights = {name: tensor for name, tensor in method.network.named_parameters() if tensor.ndim == 4}
        assert {"stem.weight", "units.0.conv.weight", "units.25.conv.weight"} <= weights.keys()
        heads = (method.classifier, method.target_classifier)
        weights |= {f"{number}.{layer}": head[layer].weight for number, head in enumerate(heads) for layer in (0, 3)}
        for name, weight in weights.items():
            inputs = weight[0].numel()
            # A variance of 2 / n, or that of a uniform number within 1 / sqrt(n): a third of 1 / n.
            variance = 2 / inputs if initial == "kaiming" else 1 / (3 * inputs)
            if weight.numel() > 1000:
                assert weight.var().item() == pytest.approx(variance, rel=0.2), name
            assert (weight.abs().max() <= inputs**-0.5) == (initial == "torch"), name
        for head in heads:
            for layer in (0, 3):
                bound = head[layer].in_features ** -0.5 if initial == "torch" else 0
                assert bound / 2 <= head[layer].bias.abs().max() <= bound


def test_burn_matches_features_of_other_widths(teacher: str, digits: Digits) -> None:
    method = BURN(Student(width=1 / 8), teacher, classifier_dim=40)
    method.prepare(digits)
    assert method.match.weight.shape == (64, 128)
    before = snapshot(method)
    train_one_step(method, digits)
    assert "match.weight" in moved(method, before)


@pytest.mark.parametrize("kind", [BURN, BURNCode])
def test_burns_loss_is_that_of_both_crossings(kind: type[BURN], teacher: str, digits: Digits) -> None:
    method = kind(REAL, teacher, classifier_dim=40, kl_weight=(0.25, 0.25))
    method.prepare(digits)
    train_one_step(method, digits, limit_train_batches=1)
    views = [torch.randn(6, 3, 32, 32) for _ in range(2)]
    expected = 0.0
    for seen, aimed in ((0, 1), (1, 0)):
        f, g = method.network(views[seen]), method.extractor.network.features(views[aimed])
        s, t = method.classifier(f), method.target_classifier(g)
        near, far = (f, g) if kind is BURN else (s, t)
        for row in range(6):
            a, b = near[row] / near[row].norm(), far[row] / far[row].norm()
            p, q = (t[row] / 0.2).softmax(0), (s[row] / 0.2).softmax(0)
            expected += 0.75 * ((a - b) ** 2).sum() / 6 + 0.25 * (p * (p / q).log()).sum() / 6
    first, second = (method.student_outputs(view) for view in views)
    loss = method.crossing_loss(first, method.target_outputs(views[1]), 0.25) + method.crossing_loss(
        second, method.target_outputs(views[0]), 0.25
    )
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def test_burns_balance_rises_by_a_half_cosine_over_all_steps(teacher: str, digits: Digits) -> None:
    method = BURN(REAL, teacher, classifier_dim=8)
    method.prepare(digits)
    seen = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer: Trainer, *rest: object) -> None:
            seen.append(float(trainer.callback_metrics["train/balance"]))

    train_one_step(method, digits, max_steps=-1, max_epochs=2, limit_train_batches=4, callbacks=[Watch()])
    steps = 8
    expected = [0.3 - 0.2 * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)]
    assert seen == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", [BURN, BURNCode])
def test_burns_stage_2_goes_on_with_the_classifiers_of_stage_1(
    kind: type[BURN], teacher: str, digits: Digits, tmp_path: Path
) -> None:
    first = kind(STEP1, teacher, classifier_dim=24)
    first.prepare(digits)
    run = tmp_path / "stage1"
    train_one_step(
        first, digits, default_root_dir=run, enable_checkpointing=True, callbacks=[LastCheckpoint(run, None, 1)]
    )
    checkpoint.save_checkpoint(
        run / "model.safetensors", first.network, ModelInfo("stage1", 32, digits.mean, digits.std)
    )
    torch.manual_seed(9)
    second = kind(BINARY, teacher, classifier_dim=24, init_checkpoint=str(run / "model.safetensors"))
    second.prepare(digits)
    for part in ("network", "classifier", "target_classifier"):
        assert moved(getattr(second, part), getattr(first, part).state_dict()) == set()
    with pytest.raises(UserError, match=r"classifier.0.bias is \(24,\), this stage expects \(25,\)"):
        kind(BINARY, teacher, classifier_dim=25, init_checkpoint=str(run / "model.safetensors")).prepare(digits)
    (run / "heads.safetensors").unlink()
    with pytest.raises(UserError, match="heads of the stage before .* does not exist"):
        kind(BINARY, teacher, classifier_dim=24, init_checkpoint=str(run / "model.safetensors")).prepare(digits)


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


def test_a_temperature_that_makes_no_distribution_is_refused(teacher: str, digits: Digits) -> None:
    with pytest.raises(UserError, match="temperature of -0.2 is not positive"):
        Distill(BINARY, teacher, temperature=-0.2).prepare(digits)


def test_step_2_starts_from_the_weights_of_step_1(teacher: str, digits: Digits, tmp_path: Path) -> None:
    first = Distill(STEP1, teacher)
    first.prepare(digits)
    train_one_step(first, digits)
    path = tmp_path / "step1.safetensors"
    checkpoint.save_checkpoint(path, first.network, ModelInfo("step1", 32, digits.mean, digits.std))
    torch.manual_seed(9)
    second = Distill(BINARY, teacher, init_checkpoint=str(path))
    second.prepare(digits)
    assert moved(second.network, first.network.state_dict()) == set()
    assert second.network.config.binary_weights
    assert not first.network.config.binary_weights
    with pytest.raises(UserError, match="same width"):
        Distill(Student(width=1 / 32), teacher, init_checkpoint=str(path)).prepare(digits)


@pytest.mark.parametrize("student", [BINARY, REAL])
def test_linear_evaluation_moves_the_classifier_alone(student: Student, digits: Digits, tmp_path: Path) -> None:
    trained = student.with_projection(24)
    path = tmp_path / "model.safetensors"
    checkpoint.save_checkpoint(path, trained, ModelInfo("any", 32, digits.mean, digits.std))
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
    measure_batchnorms(network, digits.fixed_train_dataloader(shuffled=True))
    assert moved(network, before) == buffers(network)
    # The stem's statistics are those of its outputs over all batches, one by one.
    torch.manual_seed(0)
    outputs = [
        network.stem(images).transpose(0, 1).flatten(1) for (images,), _ in digits.fixed_train_dataloader(shuffled=True)
    ]
    network.load_state_dict(before)
    torch.manual_seed(0)
    measure_batchnorms(network, digits.fixed_train_dataloader(shuffled=True))
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
