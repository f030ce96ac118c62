"""Callbacks that write the files of a run. Each file is written whole or not at all."""

import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from edgebnn import checkpoint as checkpoints
from edgebnn.errors import UserError
from edgebnn.files import atomic_path
from edgebnn.graph import ModelInfo

from ..parallel.launch import process_place
from ..parallel.stop_signal import ASK_STEPS, StoppedBySignalError, StopSignal
from .changes import FLAG

MODEL = "model.safetensors"
CONFIG = "config.yaml"
LAST = "last.ckpt"


class LastCheckpoint(Checkpoint):
    """Writes `last.ckpt`, from which a run resumes, after every epoch and within epochs.

    Within an epoch it is written only after an optimizer step, because accumulated gradients are not saved. It is not
    written after the last batch of the epoch, because the end of the epoch follows. A run that `max_steps` or
    `max_time` ends within an epoch is saved at that step. So is a run that gets SIGTERM or SIGUSR1.

    Args:
        run: the run folder.
        minutes: minutes between two writes within an epoch. None turns these writes off.
        steps: optimizer steps between two writes within an epoch. None turns these writes off.
    """

    def __init__(self, run: Path, minutes: float | None, steps: int | None) -> None:
        self.path = run / LAST
        self.minutes, self.steps = minutes, steps
        self.saved = time.monotonic()
        self.signal = StopSignal()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.saved = time.monotonic()
        # Lightning has set its own handlers before.
        self.signal.listen()
        if trainer.is_global_zero:
            # A run that is killed while it saves leaves a temporary file.
            for name in (LAST, MODEL):
                for left in self.path.parent.glob(f".{name}.*.part"):
                    left.unlink(missing_ok=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        accumulating = (batch_idx + 1) % trainer.accumulate_grad_batches != 0
        if not accumulating and not _epoch_is_over(trainer) and self._due(trainer):
            self._save(trainer)
            self.signal.raise_if_received()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if _epoch_is_over(trainer):
            self._save(trainer)
            if self.signal.agree(trainer):
                self.signal.raise_if_received()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Between the epochs of a training, a signal waits for the end of the validation. A validation by itself has
        # nothing to save.
        if trainer.state.fn != TrainerFn.FITTING:
            self.signal.stop_listening()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        # The launcher ends all processes by a signal when one has failed. The others then fail because of it, and the
        # launcher reports the first failure.
        followed = process_place() is not None and not isinstance(exception, UserError | StoppedBySignalError)
        if followed and self.signal.number is not None:
            raise KeyboardInterrupt

    def _due(self, trainer: Trainer) -> bool:
        step = trainer.global_step
        # Lightning's callbacks stop a run in all processes at the same step.
        ends = step == trainer.max_steps or trainer.fit_loop.epoch_loop.done
        if self._stops(trainer):
            return True
        if ends or (self.steps is not None and step % self.steps == 0):
            return True
        # Clocks differ, so the first process decides. Asking it takes a wait, so it is asked at logged steps only.
        if self.minutes is None or step % log_interval(trainer):
            return False
        return trainer.strategy.broadcast(time.monotonic() - self.saved >= 60 * self.minutes)

    def _stops(self, trainer: Trainer) -> bool:
        """Returns whether a process got a signal. Several processes ask each other only now and then."""
        alone = trainer.world_size == 1
        asks = trainer.global_step % min(ASK_STEPS, log_interval(trainer)) == 0
        return (alone or asks) and self.signal.agree(trainer)

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self.saved = time.monotonic()


def log_interval(trainer: Trainer) -> int:
    """Returns the number of optimizer steps from one log entry to the next, 1 or more."""
    interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return max(1, interval)


def _epoch_is_over(trainer: Trainer) -> bool:
    return trainer.fit_loop.batch_idx + 1 >= trainer.num_training_batches


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically, into a temporary file in the same folder.

    Lightning's own class uses the system's temporary folder, which is often on another disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with atomic_path(path) as temporary:
            try:
                torch.save(checkpoint, temporary)
            except RuntimeError as error:  # torch raises it when the disk is full
                raise UserError(f"cannot write {path} ({str(error).splitlines()[0]}); free space and resume") from None


class FiniteCheck(Callback):
    """Ends a run whose loss or weights are not finite, before it saves them.

    The loss is checked at logged steps and at every save, because each check waits for the GPU.
    """

    def __init__(self) -> None:
        self.loss: Tensor | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["loss"].detach()
        # The first loss that is not finite is kept for the message.
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
                f"{bad[0]} holds values that are not finite in epoch {trainer.current_epoch}; the last good "
                f"checkpoint is kept; resume from it with a lower model.optimizer.lr and {FLAG}"
            )

    def check_loss(self, trainer: Trainer) -> None:
        """Raises `UserError` if a loss so far was not finite."""
        if self.loss is not None and not self.loss.isfinite():
            raise UserError(
                f"the loss is {self.loss.item():g} in epoch {trainer.current_epoch}; lower model.optimizer.lr, and "
                f"resume from the last good checkpoint with {FLAG}"
            )


class SaveModel(Callback):
    """Writes `model.safetensors` with every checkpoint, and adds the configuration to the checkpoint as "config".

    Args:
        run: the run folder.
        name: the model's name.
        config: the text of `config.yaml`.

    Attributes:
        history: changes of the configuration so far (`train.engine.changes.Start`).
        inputs: SHA-256 of the files that the configuration names under `model`, by key.
    """

    def __init__(self, run: Path, name: str, config: str) -> None:
        self.run, self.name, self.config = run, name, config
        self.history: list[dict[str, Any]] = []
        self.inputs: dict[str, str] = {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["config"], checkpoint["inputs"] = self.config, self.inputs
        if self.history:
            checkpoint["changes"] = self.history
        if not trainer.is_global_zero:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        # A pretrained network ends in a projection, whose outputs are no classes.
        labels = data.labels if getattr(pl_module, "classifies", False) else ()
        info = ModelInfo(self.name, data.resolution, data.mean, data.std, labels)
        network: Any = pl_module.network
        checkpoints.save_checkpoint(self.run / MODEL, network, info)
