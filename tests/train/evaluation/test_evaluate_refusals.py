"""What `train evaluate` refuses, in one line, and the data that it finds by a short text."""

from pathlib import Path

import pytest
import torch

from edgebnn import checkpoint
from edgebnn.errors import UserError
from edgebnn.graph import ModelInfo
from edgebnn.nn import ReActNetConfig
from edgebnn.train.__main__ import main
from edgebnn.train.data.by_name import open_data
from edgebnn.train.methods.measured import data_name
from tests.networks import random_network
from tests.published import make_state
from tests.train.data.test_data import write_cifar10

HEADS = {
    (): "ends in pooled features and has no classifier; run a linear evaluation first",
    (24,): "has 24 outputs and data digits has 10 classes; give the data that it classifies, or if it was pretrained",
    (16, 24): "look like a projection from pretraining: run a linear evaluation first",
}


@pytest.mark.parametrize("head", HEADS)
def test_a_network_without_a_classifier_for_the_data_is_refused(head: tuple[int, ...], tmp_path: Path) -> None:
    model = random_network(0, ReActNetConfig(width=1 / 16, head=head))
    checkpoint.save_checkpoint(tmp_path / "model", model, ModelInfo("model", 32))
    with pytest.raises(UserError, match=HEADS[head]):
        main(["evaluate", str(tmp_path / "model"), "--data", "digits"])


def test_burns_hidden_layer_is_no_classifier(tmp_path: Path) -> None:
    torch.save({"state_dict": make_state("burn")}, tmp_path / "burn.pth")
    with pytest.raises(UserError, match="burn.pth ends in a hidden layer and has no classifier; run a linear"):
        main(["evaluate", str(tmp_path / "burn.pth"), "--data", "digits"])


def test_scores_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    model = random_network(0, ReActNetConfig(width=1 / 16, head=(10,)))
    model.head[0].bias[3] = torch.nan
    checkpoint.save_checkpoint(tmp_path / "model", model, ModelInfo("model", 32))
    with pytest.raises(UserError, match="returns scores that are not finite"):
        main(["evaluate", str(tmp_path / "model"), "--data", "digits"])


def test_cifar10_is_found_under_the_folder_after_the_colon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, labels = write_cifar10(tmp_path, monkeypatch)
    data = open_data(f"cifar10:{tmp_path}", batch_size=4)
    (((view,), found),) = data.val_dataloader()
    assert (data_name(data), view.shape, found.tolist()) == ("Cifar10", (4, 3, 32, 32), labels)
    with pytest.raises(UserError, match="no CIFAR-100 under .*evaluate.*--data cifar100:ROOT"):
        open_data(f"cifar100:{tmp_path}")


def test_folders_without_test_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder, nor one of digits, mnist5k, cifar10, cifar100; check the path"):
        open_data(str(tmp_path / "none"))
    with pytest.raises(UserError, match="holds no images in class folders .*; give a folder with one folder per class"):
        open_data(str(tmp_path))
    (tmp_path / "train" / "a").mkdir(parents=True)
    with pytest.raises(UserError, match="has train/ and no val/; give the folder of the test images"):
        open_data(str(tmp_path))
