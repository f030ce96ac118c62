"""Resumes a run with another learning rate, batch, precision, accumulation or number of epochs.

The run goes on at the image where it stopped. If the batch changes, an epoch has another number of optimizer steps.
The step is then counted anew, as if the run had had the new batch from its start:

    step = finished epochs * steps per epoch + images of this epoch // batch_size

Learning-rate schedules, momenta and draws depend on the step, so they go on at the same share of the run. Up to one
batch of images may be seen twice in that epoch.
"""

from dataclasses import dataclass, field
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

CHANGEABLE_KEYS = (
    "model.init_args.optimizer.",
    "data.init_args.batch_size",
    *(
        f"trainer.{key}"
        for key in (
            "max_epochs",
            "accumulate_grad_batches",
            "precision",
            "gradient_clip_val",
            "gradient_clip_algorithm",
            "sync_batchnorm",
        )
    ),
)
"""Keys, or starts of keys, that `resume_with_changes` may change. The optimizer's state must fit, so not its name."""

FLAG = "--resume_with_changes true"


def is_changeable(key: str) -> bool:
    """Returns whether a resumed run may have another value of this key, if the user asks for it."""
    return key.startswith(CHANGEABLE_KEYS) and key != "model.init_args.optimizer.name"


@dataclass(frozen=True)
class Start:
    """The state from which a run starts.

    Attributes:
        history: the changes of the configuration so far, each with its `epoch`, `step` and `changes`
            ({key: [old value, new value]}). It is empty for a run whose configuration never changed.
        changed: keys that differ from those of the checkpoint.
        old_config: text of the checkpoint's `config.yaml`, if keys differ.
        old_batch: `data.batch_size` of the checkpoint, over all processes.
        old_accumulate: `trainer.accumulate_grad_batches` of the checkpoint.
    """

    history: list[dict[str, Any]] = field(default_factory=list)
    changed: tuple[str, ...] = ()
    old_config: str = ""
    old_batch: int = 1
    old_accumulate: int = 1


class ResumeWithChanges(Callback):
    """Fits the state of a checkpoint to a changed configuration.

    Args:
        start: the checkpoint's old configuration.
    """

    def __init__(self, start: Start) -> None:
        self.start = start

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        method: Any = pl_module
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        loops = checkpoint["loops"]["fit_loop"]
        batches = loops["epoch_loop.batch_progress"]
        accumulate = trainer.accumulate_grad_batches
        if (data.batch_size, accumulate) == (self.start.old_batch, self.start.old_accumulate):
            return
        steps_per_epoch: int = method.steps_per_epoch
        current = batches["current"]
        if batches["is_last_batch"]:
            # `processed` counts this epoch already.
            position, finished = steps_per_epoch, 0
        else:
            images = current["ready"] // self.start.old_accumulate * self.start.old_batch
            finished = position = min(images // data.batch_size, steps_per_epoch - 1)
        # A checkpoint within an epoch is written before its batch counts as completed.
        shift = current["completed"] - current["ready"]
        for name in current:
            current[name] = position * accumulate + (shift if name == "completed" else 0)
        was = checkpoint["global_step"]
        now = loops["epoch_progress"]["current"]["processed"] * steps_per_epoch + finished
        checkpoint["global_step"] = now
        total = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]
        total.update(dict.fromkeys(total, now))
        loops["epoch_loop.state_dict"]["_batches_that_stepped"] += now - was

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The optimizer and its schedule were loaded with the checkpoint's rates.
        fresh: Any = pl_module.configure_optimizers()
        (optimizer,) = trainer.optimizers
        for group, wanted in zip(optimizer.param_groups, fresh["optimizer"].param_groups):
            group.update({key: value for key, value in wanted.items() if key != "params"})
        scheduler: Any = trainer.lr_scheduler_configs[0].scheduler
        scheduler.base_lrs = fresh["lr_scheduler"]["scheduler"].base_lrs
        scheduler.last_epoch = trainer.global_step
        rates = [rate * rule(trainer.global_step) for rate, rule in zip(scheduler.base_lrs, scheduler.lr_lambdas)]
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate
        scheduler._last_lr = rates
