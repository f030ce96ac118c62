"""A network and data small enough to train in a second."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer

from edgebnn import checkpoint
from edgebnn.graph import ModelInfo
from edgebnn.train.data.sources import Digits
from edgebnn.train.methods.base import Method
from edgebnn.train.methods.student import Student

WIDTH = 1 / 16
BINARY = Student(width=WIDTH)
STEP1 = Student(width=WIDTH, binary_weights=False)
REAL = Student(width=WIDTH, binary_activations=False, binary_weights=False)
Snapshot = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def digits() -> Digits:
    data = Digits(batch_size=32)
    data.setup("fit")
    return data


@pytest.fixture
def teacher(tmp_path: Path, digits: Digits) -> str:
    """A real-valued network with MoCo's head and BatchNorm statistics that are not the initial ones."""
    model = REAL.with_projection(24)
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.add_(torch.rand_like(buffer))
    path = tmp_path / "teacher.safetensors"
    checkpoint.save_checkpoint(path, model, ModelInfo("teacher", 32, digits.mean, digits.std, digits.labels))
    return str(path)


def snapshot(module: torch.nn.Module) -> Snapshot:
    """Parameters and buffers, copied."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def moved(module: torch.nn.Module, before: Snapshot) -> set[str]:
    """Names of what has changed since."""
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


def train_one_step(method: Method, data: Digits, **trainer: object) -> LightningModule:
    """One step of the real trainer, of a method that is prepared."""
    options = {"max_steps": 1, "max_epochs": 2, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    options |= {"enable_progress_bar": False, "limit_val_batches": 0, "enable_model_summary": False}
    Trainer(**{**options, **trainer}).fit(method, datamodule=data)
    return method
