"""What a run leaves behind, every file of it whole or absent."""

import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from edgebnn import checkpoint as checkpoints
from edgebnn.errors import UserError
from edgebnn.files import atomic_path
from edgebnn.graph import ModelInfo

MODEL = "model.safetensors"
CONFIG = "config.yaml"
LAST = "last.ckpt"


class LastCheckpoint(Checkpoint):
    """Writes `last.ckpt`, all that a run needs to go on: after every epoch, and within epochs as often as asked.

    Within an epoch it is written only after an optimiser's step, since accumulated gradients are not kept, and not
    after the epoch's last batch, since the epoch's end follows. A run that `max_steps` or `max_time` ends within an
    epoch is saved as one that stands there.

    Args:
        run: the run folder.
        minutes: at most about so many minutes of work are lost; None saves by steps and epochs alone.
        steps: save every so many optimiser steps, too.
    """

    def __init__(self, run: Path, minutes: float | None, steps: int | None) -> None:
        self.path = run / LAST
        self.minutes, self.steps = minutes, steps
        self.saved = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.saved = time.monotonic()
        if trainer.is_global_zero:
            # A run that was killed while it saved leaves half a file each time.
            for name in (LAST, MODEL):
                for left in self.path.parent.glob(f".{name}.*.part"):
                    left.unlink(missing_ok=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        accumulating = (batch_idx + 1) % trainer.accumulate_grad_batches != 0
        if not accumulating and not _epoch_is_over(trainer) and self._due(trainer):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if _epoch_is_over(trainer):
            self._save(trainer)

    def _due(self, trainer: Trainer) -> bool:
        step = trainer.global_step
        # Lightning's callbacks that stop a run agree on it in all processes first.
        ends = step == trainer.max_steps or trainer.fit_loop.epoch_loop.done
        if ends or (self.steps is not None and step % self.steps == 0):
            return True
        # Clocks differ, so one process decides; asking it costs a wait, so it is not asked at every step.
        if self.minutes is None or step % log_interval(trainer):
            return False
        return trainer.strategy.broadcast(time.monotonic() - self.saved >= 60 * self.minutes)

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self.saved = time.monotonic()


def log_interval(trainer: Trainer) -> int:
    """Optimiser steps between logged ones, 1 or more."""
    interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return max(1, interval)


def _epoch_is_over(trainer: Trainer) -> bool:
    return trainer.fit_loop.batch_idx + 1 >= trainer.num_training_batches


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own way writes into the system's temporary folder and moves the file, often across disks."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with atomic_path(path) as temporary:
            try:
                torch.save(checkpoint, temporary)
            except RuntimeError as error:  # torch's word for a full disk
                raise UserError(f"cannot write {path} ({str(error).splitlines()[0]}); free space and resume") from None


class Finite(Callback):
    """Ends a run whose loss or weights are no numbers, before anything is saved of it.

    The loss is looked at when the step is logged, and at every save: looking costs a GPU a wait.
    """

    def __init__(self) -> None:
        self.loss: Tensor | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["loss"].detach()
        # The first loss that is no number stays; what comes after it is of no interest.
        self.loss = loss if self.loss is None else torch.where(self.loss.isfinite(), loss, self.loss)
        if trainer.global_step % log_interval(trainer) == 0:
            self.check_loss(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.check_loss(trainer)
        external = getattr(pl_module, "external", ())
        state = {name: tensor for name, tensor in checkpoint["state_dict"].items() if tensor.is_floating_point()}
        own = [name for name in state if not name.startswith(external)]
        good = torch.stack([state[name].isfinite().all() for name in own]).tolist()
        bad = [name for name, finite in zip(own, good) if not finite]
        if bad:
            raise UserError(
                f"{bad[0]} holds values that are no numbers in epoch {trainer.current_epoch}; the last good "
                "checkpoint stays, go on from it with a lower model.optimizer.lr"
            )

    def check_loss(self, trainer: Trainer) -> None:
        """Raises `UserError` if a loss so far was infinite or no number."""
        if self.loss is not None and not self.loss.isfinite():
            raise UserError(
                f"the loss is {self.loss.item():g} in epoch {trainer.current_epoch}; lower model.optimizer.lr"
            )


class SaveModel(Callback):
    """Writes `model.safetensors` with every checkpoint.

    The checkpoint carries the configuration too, under "config".
    """

    def __init__(self, run: Path, name: str, config: str) -> None:
        self.run, self.name, self.config = run, name, config

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"] = self.config
        if not trainer.is_global_zero:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        info = ModelInfo(self.name, data.resolution, data.mean, data.std, data.labels)
        network: Any = pl_module.network
        checkpoints.save_checkpoint(self.run / MODEL, network, info)
