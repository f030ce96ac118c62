"""What a run leaves behind, every file of it whole or absent."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from edgebnn import checkpoint as checkpoints
from edgebnn.errors import UserError
from edgebnn.files import atomic_path
from edgebnn.graph import ModelInfo

MODEL = "model.safetensors"
CONFIG = "config.yaml"
LAST = "last.ckpt"


def last_checkpoint(run: Path) -> ModelCheckpoint:
    """Writes `last.ckpt`, all that a run needs to go on, after every epoch."""
    return ModelCheckpoint(
        run, Path(LAST).stem, save_top_k=1, every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False
    )


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own way writes into the system's temporary folder and moves the file, often across disks."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with atomic_path(path) as temporary:
            try:
                torch.save(checkpoint, temporary)
            except RuntimeError as error:  # torch's word for a full disk
                raise UserError(f"cannot write {path} ({str(error).splitlines()[0]}); free space and resume") from None


class SaveModel(Callback):
    """Writes `model.safetensors` with every checkpoint.

    The checkpoint carries the configuration too, under "config".
    """

    def __init__(self, run: Path, name: str, config: str) -> None:
        self.run, self.name, self.config = run, name, config

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = self.config
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        info = ModelInfo(self.name, data.resolution, data.mean, data.std, data.labels)
        network: Any = pl_module.network
        checkpoints.save(self.run / MODEL, network, info)
