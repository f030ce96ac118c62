"""Progress of a run in a log file, where a bar cannot be drawn."""

import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from edgebnn.progress import LOG_SECONDS, duration


class LogLines(Callback):
    """Prints a line to stderr after the first step, then every `seconds`, and at the end of every epoch.

    A line holds the epoch, the optimizer step, the newest values that the method shows on a progress bar (such as the
    loss), and the time since the start.

    Args:
        seconds: seconds between two lines within an epoch.
    """

    def __init__(self, seconds: float = LOG_SECONDS) -> None:
        self.seconds = seconds
        self.began = time.monotonic()
        self.printed: float | None = None
        self.validated = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began, self.printed = time.monotonic(), None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._due():
            self._print(trainer, f"batch {batch_idx + 1} of {trainer.num_training_batches}, {_loss(outputs)}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        shown = [
            f"{name} {float(value):.4g}" for name, value in trainer.progress_bar_metrics.items() if name != "v_num"
        ]
        self._print(trainer, ", ".join(["done", *shown]))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validated = 0
        if not trainer.training and not trainer.fit_loop.epoch_progress.current.completed:
            self.began = self.printed = time.monotonic()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._due():
            self._print(trainer, f"held-out batch {batch_idx + 1} of {sum(map(int, trainer.num_val_batches))}")

    def _due(self) -> bool:
        return self.printed is None or time.monotonic() - self.printed >= self.seconds

    def _print(self, trainer: Trainer, text: str) -> None:
        self.printed = time.monotonic()
        if trainer.is_global_zero:
            epoch = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}, step {trainer.global_step}"
            print(f"{epoch}: {text}, {duration(self.printed - self.began)}", file=sys.stderr, flush=True)


def _loss(outputs: Any) -> str:
    loss = outputs["loss"] if isinstance(outputs, dict) else outputs
    return f"loss {float(loss):.4g}" if isinstance(loss, Tensor) else "no loss"
