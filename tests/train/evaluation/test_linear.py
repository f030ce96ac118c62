"""Linear evaluations: what moves, what is counted, how other data are normalised, and what the record says."""

from copy import copy
from pathlib import Path

import pytest
import torch
import yaml

from edgebnn import checkpoint, records
from edgebnn.errors import UserError
from edgebnn.graph import ModelInfo
from edgebnn.ssl.views import Augmentation
from edgebnn.train.__main__ import main
from edgebnn.train.data.order import epoch_order
from edgebnn.train.data.sources import Digits
from edgebnn.train.data.subset import Subset
from edgebnn.train.engine.optim import OptimizerConfig
from edgebnn.train.evaluation.base import pretraining_data
from edgebnn.train.evaluation.linear import BurnLinearEvaluation, LinearEvaluation
from edgebnn.train.methods.measured import accuracies, count_correct, data_name
from tests.train.conftest import BINARY, REAL, moved, snapshot, train_one_step


def saved(path: Path, head: tuple[int, ...], *, relu: bool = False, mean: float = 0.3053) -> str:
    info = ModelInfo("any", 32, (mean,) * 3, (0.3760,) * 3, tuple("0123456789"))
    checkpoint.save_checkpoint(path, REAL.with_head(head, head_relu=relu), info)
    return str(path)


def test_burns_protocol_trains_its_fc_and_the_classifier(digits: Digits, tmp_path: Path) -> None:
    path = saved(tmp_path / "burn.safetensors", (64,), relu=True)
    method = BurnLinearEvaluation(path)
    method.prepare(digits)
    burn = checkpoint.load_checkpoint(path).model
    assert method.network.config.head == (64, 10)
    images = torch.randn(4, 3, 32, 32)
    # BURN's layer keeps its weights and its ReLU; only the classifier is new.
    hidden = torch.relu(burn.features(images) @ burn.head[0].weight.T + burn.head[0].bias)
    expected = hidden @ method.network.head[2].weight.T
    torch.testing.assert_close(method.network.eval()(images), expected, rtol=1e-4, atol=1e-6)
    before = snapshot(method)
    train_one_step(method, digits)
    layers = ("network.head.0", "network.head.2")
    assert moved(method, before) == {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    assert not any(module.training for module in method.network.modules())


@pytest.mark.parametrize("head", [(), (10,), (64, 24)])
def test_burns_protocol_refuses_a_network_without_its_fc(head: tuple[int, ...], digits: Digits, tmp_path: Path) -> None:
    path = saved(tmp_path / "other.safetensors", head)
    with pytest.raises(UserError, match="has no fc layer of BURN"):
        BurnLinearEvaluation(path).prepare(digits)


def test_counts_of_batches_add_up_to_the_whole() -> None:
    scores, labels = torch.randn(101, 7), torch.randint(7, (101,))
    counts = sum(count_correct(part.topk(5).indices, some) for part, some in zip(scores.split(13), labels.split(13)))
    first = fifth = 0
    for row, label in zip(scores.tolist(), labels.tolist()):
        better = sum(score > row[label] for score in row)
        first, fifth = first + (better == 0), fifth + (better < 5)
    assert isinstance(counts, torch.Tensor)
    assert accuracies(counts, 7) == {"top1": 100 * first / 101, "top5": 100 * fifth / 101}
    assert accuracies(counts, 5).keys() == {"top1"}


def test_other_data_take_the_networks_normalisation_unless_they_have_one() -> None:
    theirs, other = (ModelInfo("m", 32, (mean,) * 3, (0.25,) * 3) for mean in (0.5, 0.4))
    data = Digits(batch_size=32)
    data.setup("fit")
    (raw,), _ = next(iter(data.val_dataloader()))
    pixels = raw * torch.tensor(data.std)[:, None, None] + torch.tensor(data.mean)[:, None, None]
    data.use_normalisation(theirs, needed_by="checkpoint c")
    (images,), _ = next(iter(data.val_dataloader()))
    torch.testing.assert_close(images, (pixels - 0.5) / 0.25, rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match="leave them out"):
        data.use_normalisation(other, needed_by="the teacher")
    with pytest.raises(UserError, match="checkpoint c expects images normalised by"):
        Digits(mean=(0.3, 0.3, 0.3)).use_normalisation(theirs, needed_by="checkpoint c")


def test_a_record_names_the_data_and_those_of_the_pretraining(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.safetensors", (64, 24), mean=0.5)
    assert pretraining_data(path) is None
    before = {"class_path": "edgebnn.train.data.sources.ImageFolder", "init_args": {"root": "/data/imagenet/"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"data": before}))
    config = {
        "run": str(tmp_path / "linear"),
        "name": "tiny",
        "model": {"class_path": "LinearEvaluation", "init_args": {"checkpoint": path, "method": "ours"}},
        "data": {"class_path": "Digits", "init_args": {"batch_size": 32}},
        "trainer": {"max_epochs": 1, "limit_train_batches": 2, "accelerator": "cpu", "enable_progress_bar": False},
    }
    (tmp_path / "linear.yaml").write_text(yaml.safe_dump(config))
    main(["fit", "--config", str(tmp_path / "linear.yaml")])
    (record,) = records.read_records(tmp_path / "linear")
    expected = {
        "protocol": "linear, frozen features",
        "data": "Digits",
        "pretrained_on": "ImageFolder imagenet",
        "epochs": 1,
        "seed": 0,
        "images": 359,
        "method": "ours",
        "checkpoint": path,
        "trained_parameters": 650,
    }
    assert {key: record.context[key] for key in expected} == expected
    assert checkpoint.load_checkpoint(tmp_path / "linear/model.safetensors").info.mean == (0.5,) * 3


STILL = Augmentation(crop=(1, 1), jitter_probability=0, gray_probability=0, blur_probability=0, flip_probability=0)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_images_left_over_make_a_last_step_of_their_mean_loss(accumulate: int) -> None:
    # Steps of 4, 4 and 3 images, of which the last does not share out among two batches.
    data = Digits(batch_size=4, subset=Subset(per_class=2), drop_last=False, augmentation=STILL, seed=3)
    data.setup()
    images, labels = data.parts["train"]
    kept = [*range(0, 20, 2), 1]
    data.parts["train"] = images[kept], labels[kept]
    method = LinearEvaluation(student=REAL, optimizer=OptimizerConfig(name="sgd", lr=0.5, schedule="constant"))
    method.prepare(data)
    ((images,), labels) = next(iter(whole(data).fixed_train_dataloader()))
    weight, bias = (tensor.detach().clone().requires_grad_() for tensor in method.network.head[0].parameters())
    sgd = torch.optim.SGD([weight, bias], lr=0.5, momentum=0.9)
    with torch.no_grad():
        features = method.network.eval().features(images)
    order = torch.from_numpy(epoch_order(11, 3, 0))
    for step in (order[:4], order[4:8], order[8:]):
        sgd.zero_grad()
        torch.nn.functional.cross_entropy(features[step] @ weight.T + bias, labels[step]).backward()
        sgd.step()
    train_one_step(method, data, max_epochs=1, max_steps=-1, accumulate_grad_batches=accumulate)
    assert method.global_step == 3
    # Sums of float32 in another order, which depends on the number of threads: 1.1e-5 with one.
    torch.testing.assert_close(method.network.head[0].weight, weight, rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(method.network.head[0].bias, bias, rtol=1e-4, atol=2e-5)


def whole(data: Digits) -> Digits:
    """The same data in one batch."""
    one = copy(data)
    one.batch_size = 100
    return one


def test_one_class_is_no_classification(digits: Digits) -> None:
    digits.labels = ("0",)
    with pytest.raises(UserError, match="the data have 1 class"):
        LinearEvaluation(student=BINARY).prepare(digits)
    assert data_name(digits) == "Digits"
