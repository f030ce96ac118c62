"""k nearest neighbours against slow loops."""

import math
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from edgebnn import checkpoint
from edgebnn.errors import UserError
from edgebnn.graph import ModelInfo
from edgebnn.nn import Network
from edgebnn.records import Record
from edgebnn.train.data.sources import Digits
from edgebnn.train.evaluation import knn
from edgebnn.train.evaluation.features import FeatureEvaluation
from edgebnn.train.evaluation.knn import KNN, rank_classes
from tests.train.conftest import BINARY, REAL

QUIET = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}


def measured(method: FeatureEvaluation, data: Digits, **trainer: object) -> list[Record]:
    """The records of an evaluation run by the real trainer."""
    method.prepare(data)
    Trainer(**{**QUIET, **trainer}, enable_model_summary=False).validate(method, datamodule=data, verbose=False)
    return method.records("tiny", epochs=0)


@torch.no_grad()
def slow_knn(network: Network, data: Digits, k: int, temperature: float) -> tuple[float, float, int]:
    """Top-1 and top-5 in percent and the images counted: one query, one bank image at a time."""
    images, labels = {}, {}
    for part, loader in (("train", data.fixed_train_dataloader()), ("val", data.val_dataloader())):
        batches = list(loader)
        images[part] = torch.cat([network.features(views[0]) for views, _ in batches]).double()
        labels[part] = [int(label) for _, some in batches for label in some]
    first = fifth = 0
    bank = list(zip((images["train"] / images["train"].norm(dim=1, keepdim=True)), labels["train"]))
    for query, label in zip(images["val"], labels["val"]):
        unit = query / query.norm()
        near = sorted(((float(unit @ row), number) for row, number in bank), reverse=True)[:k]
        votes: dict[int, float] = {}
        for cosine, number in near:
            votes[number] = votes.get(number, 0.0) + math.exp(cosine / temperature)
        ranked = sorted(votes, key=lambda number: -votes[number])
        first += ranked[0] == label
        fifth += label in ranked[:5]
    count = len(labels["val"])
    return 100 * first / count, 100 * fifth / count, count


@pytest.fixture
def few() -> Digits:
    """180 digits to look among and 40 to classify."""
    data = Digits(batch_size=32)
    data.setup("fit")
    (images, labels), (held, held_labels) = data.parts["train"], data.parts["val"]
    data.parts = {"train": (images[::8], labels[::8]), "val": (held[::9], held_labels[::9])}
    return data


def test_accuracy_equals_a_double_loop(few: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two queries a chunk.
    monkeypatch.setattr(knn, "FLOATS", 2 * (few.count("train") + 60 * 10))
    method = KNN(student=REAL, k=60)
    (record,) = measured(method, few)
    top1, top5, count = slow_knn(method.network, few, 60, 0.07)
    assert record.values["top1"] == pytest.approx(top1, abs=1e-3)
    # 60 neighbours of 180 have more than five classes, so no class without a vote counts.
    assert record.values["top5"] == pytest.approx(top5, abs=1e-3)
    assert top1 > 50
    assert (record.context["images"], record.context["bank"]) == (count, few.count("train"))
    assert (record.context["protocol"], record.context["method"]) == ("kNN, k = 60", "untrained")


def test_votes_weigh_by_similarity() -> None:
    angle = torch.tensor([0.1, 0.5, 0.6, 2.0])
    bank = torch.stack([angle.cos(), angle.sin()], dim=1)
    query = torch.tensor([[1.0, 0.0]])
    labels = torch.tensor([1, 0, 0, 2])
    # cos 0.1, 0.5, 0.6 = 0.995, 0.878, 0.825: at T = 0.07 one near neighbour outweighs two, at T = 1 it does not.
    assert rank_classes(query, bank, labels, 3, 3, 0.07).tolist() == [[1, 0, 2]]
    assert rank_classes(query, bank, labels, 3, 3, 1.0).tolist() == [[0, 1, 2]]


def test_a_checkpoint_is_looked_at_as_it_is(few: Digits, tmp_path: Path) -> None:
    network = BINARY.with_projection(24)
    path = tmp_path / "model.safetensors"
    checkpoint.save_checkpoint(path, network, ModelInfo("any", 32, few.mean, few.std))
    method = KNN(str(path), k=5, method="ours")
    (record,) = measured(method, few)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, method.network.state_dict()[name]), name
    assert record.context["checkpoint"] == str(path)
    assert (record.context["method"], record.context["epochs"]) == ("ours", 0)
    assert record.values["top1"] == pytest.approx(slow_knn(network.eval(), few, 5, 0.07)[0], abs=1e-3)


def test_what_makes_no_neighbours_is_refused(few: Digits) -> None:
    bank = few.count("train")
    with pytest.raises(UserError, match=f"k {bank + 1} for a bank of {bank} training images; use 1 to {bank}"):
        KNN(student=BINARY, k=bank + 1).prepare(few)
    with pytest.raises(UserError, match="temperature of 0"):
        KNN(student=BINARY, k=5, temperature=0).prepare(few)
    with pytest.raises(UserError, match="give one of the two"):
        KNN(k=5).prepare(few)
    few.labels = ("0",)
    with pytest.raises(UserError, match="two or more"):
        KNN(student=BINARY, k=5).prepare(few)
