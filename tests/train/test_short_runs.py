"""Short runs on bundled data: every method lowers its loss, and its features beat the untrained network's."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch.nn import functional as F

from edgebnn import checkpoint
from edgebnn.graph import ModelInfo
from edgebnn.nn import Network
from edgebnn.ssl.views import Augmentation
from train.burn import BURN
from train.burn_code import BURNCode
from train.byol import BYOL
from train.data import Digits
from train.distill import Distill
from train.evaluation import measure_norms
from train.method import Method
from train.moco import MoCoV2
from train.moco_distill import MoCoV2Distill
from train.optim import OptimizerConfig
from train.student import Student
from train.supervised import Supervised
from train.swav import SwAV

BINARY = Student(width=1 / 8, stem_stride=1)
REAL = replace(BINARY, binary_activations=False, binary_weights=False)
ADAM = OptimizerConfig(lr=3e-3)
VIEWS = Augmentation(
    crop=(0.6, 1.0), jitter=(0.4, 0.4, 0, 0), gray_probability=0, blur_probability=0, flip_probability=0
)
EPOCHS = 3
MARGIN = 5.0
"""Points of top-1 by which training must beat chance of initialisation."""


class Losses(Callback):
    def __init__(self) -> None:
        self.found: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: Method, outputs: dict, *rest: object) -> None:
        self.found.append(float(outputs["loss"]))


def digits() -> Digits:
    data = Digits(resolution=16, batch_size=64, augmentation=VIEWS)
    data.setup("fit")
    return data


def trained(method: Method, data: Digits, epochs: int = EPOCHS) -> tuple[float, float]:
    """Mean loss of the first and of the last 15 steps of a whole run."""
    torch.manual_seed(0)
    method.prepare(data)
    losses = Losses()
    Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        limit_val_batches=0,
        enable_model_summary=False,
        reload_dataloaders_every_n_epochs=1,
        callbacks=[losses],
    ).fit(method, datamodule=data)
    return sum(losses.found[:15]) / 15, sum(losses.found[-15:]) / 15


@torch.no_grad()
def knn(network: Network, data: Digits, k: int = 5) -> float:
    """Share of the held-out digits, in percent, whose k nearest training digits by cosine mostly are of their class."""
    network.eval()
    parts = []
    for loader in (data.fixed_train_dataloader(), data.val_dataloader()):
        batches = [(network.features(images), labels) for (images,), labels in loader]
        features, labels = (torch.cat(part) for part in zip(*batches))
        parts.append((F.normalize(features, dim=1), labels))
    (bank, known), (queries, wanted) = parts
    nearest = (queries @ bank.T).topk(k, dim=1).indices
    return 100 * (known[nearest].mode(dim=1).values == wanted).double().mean().item()


@pytest.fixture(scope="module")
def data() -> Digits:
    return digits()


@pytest.fixture(scope="module")
def untrained(data: Digits) -> float:
    torch.manual_seed(0)
    network = BINARY.with_head(())
    measure_norms(network, data.fixed_train_dataloader(shuffled=True))
    return knn(network, data)


@pytest.fixture(scope="module")
def teacher(data: Digits, tmp_path_factory: pytest.TempPathFactory) -> str:
    method = MoCoV2(REAL, optimizer=ADAM, dim=32, queue=512, momentum=0.99, key_groups=2)
    first, last = trained(method, data, epochs=4)
    print("MARGIN teacher", first, last, knn(method.network, data))
    path = tmp_path_factory.mktemp("teacher") / "model.safetensors"
    checkpoint.save(path, method.network, ModelInfo("teacher", 16, data.mean, data.std, data.labels))
    return str(path)


METHODS: dict[str, Callable[[str], Method]] = {
    "moco-v2": lambda teacher: MoCoV2(BINARY, optimizer=ADAM, dim=32, queue=512, momentum=0.99, key_groups=2),
    "moco-v2-distill": lambda teacher: MoCoV2Distill(
        BINARY, teacher, optimizer=ADAM, queue=512, momentum=0.99, key_groups=2
    ),
    "distill": lambda teacher: Distill(BINARY, teacher, optimizer=ADAM),
    "burn": lambda teacher: BURN(BINARY, teacher, optimizer=ADAM, classes=128),
    "burn-code": lambda teacher: BURNCode(BINARY, teacher, optimizer=ADAM, classes=128),
    "byol": lambda teacher: BYOL(BINARY, optimizer=ADAM, hidden=128, dim=32, momentum=0.9),
    "swav": lambda teacher: SwAV(
        BINARY, optimizer=ADAM, hidden=128, dim=32, prototypes=30, small_views=0, frozen_steps=5
    ),
    "supervised": lambda teacher: Supervised(BINARY, optimizer=ADAM),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_short_run_learns(name: str, teacher: str, untrained: float, data: Digits) -> None:
    method = METHODS[name](teacher)
    first, last = trained(method, data)
    accuracy = knn(method.network, data)
    print("MARGIN", name, first, last, accuracy, untrained)
    assert last < first
    assert accuracy > untrained + MARGIN
