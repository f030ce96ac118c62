"""Callbacks that log a training: collapse of the outputs, flips of binary weights, speed, memory.

All values are computed at logged steps only, over all processes.
"""

import sys
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from edgebnn.nn.layers import BinaryConv2d

from ..data.sources import Images
from ..parallel.distributed import gather, world_size
from .callbacks import log_interval
from .changes import FLAG

COLLAPSED = 0.05
"""Below this spread, outputs contain almost nothing about their images."""


def output_spread(outputs: Tensor) -> Tensor:
    """Returns how far apart the outputs of different images point (Chen and He, CVPR 2021, section 4.1).

    It is the standard deviation of each dimension of the normalised outputs, averaged over the dimensions, times
    sqrt(D). It is 1 if the directions cover the whole sphere, and 0 if all images have one direction.

    Args:
        outputs: outputs of the network (N, D).

    Returns:
        A scalar.
    """
    unit = F.normalize(outputs.float(), dim=1)
    return unit.std(dim=0, correction=0).mean() * unit.shape[1] ** 0.5


def binary_weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """Returns the real-valued weights behind the binary convolutions, by layer name."""
    return {
        name: module.weight
        for name, module in network.named_modules()
        if isinstance(module, BinaryConv2d) and module.binary and module.weight.requires_grad
    }


def is_logged(trainer: Trainer, step: int) -> bool:
    """Returns whether the metrics of this optimizer step are logged."""
    return step % log_interval(trainer) == 0


def has_stepped(trainer: Trainer, batch_idx: int) -> bool:
    """Returns whether an optimizer step followed this batch. Otherwise more batches are accumulated."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0


class OutputSpread(Callback):
    """Logs `train/spread` of the network's outputs over the whole batch, and warns if they collapse."""

    def __init__(self) -> None:
        self.outputs: Tensor | None = None
        self.warned = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        network: Any = pl_module.network

        def keep(module: nn.Module, inputs: Any, outputs: Tensor) -> None:
            # The first view of a step is measured.
            if self.outputs is None and module.training and is_logged(trainer, trainer.global_step + 1):
                self.outputs = outputs.detach()

        self.hook = network.register_forward_hook(keep)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.hook.remove()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        found, self.outputs = self.outputs, None
        # The last of the accumulated batches is measured.
        if found is None or not has_stepped(trainer, batch_idx):
            return
        value = output_spread(gather(found))
        pl_module.log("train/spread", value)
        if getattr(pl_module, "may_collapse", True) and not self.warned and float(value) < COLLAPSED:
            self.warned = True
            if trainer.is_global_zero:
                print(
                    f"warning: outputs have nearly collapsed at step {trainer.global_step}: their spread is "
                    f"{float(value):.3f} (1: all directions, 0: all equal); lower model.optimizer.lr (a resumed run "
                    f"with {FLAG}), or check the loss's temperature and the augmentation",
                    file=sys.stderr,
                    flush=True,
                )


class WeightFlips(Callback):
    """Logs `train/flips`: the share of binary weights whose sign the logged step changed.

    TensorBoard also gets the share of each layer.
    """

    def __init__(self) -> None:
        self.signs: dict[str, Tensor] = {}

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if is_logged(trainer, trainer.global_step + 1):
            network: Any = pl_module.network
            self.signs = {name: weight.detach() >= 0 for name, weight in binary_weights(network).items()}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self.signs or not has_stepped(trainer, batch_idx):
            return
        network: Any = pl_module.network
        weights = binary_weights(network)
        flipped = torch.stack([((weights[name] >= 0) != was).sum() for name, was in self.signs.items()]).tolist()
        counts = [was.numel() for was in self.signs.values()]
        pl_module.log("train/flips", sum(flipped) / sum(counts))
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                for name, changed, count in zip(self.signs, flipped, counts):
                    logger.experiment.add_scalar(f"flips/{name}", changed / count, trainer.global_step)
        self.signs = {}


class Throughput(Callback):
    """Logs `train/images_per_s` of all processes since the last log entry, and on GPUs the peak memory.

    Time between epochs, for validation and for saving is left out.
    """

    def __init__(self) -> None:
        self._start_anew()

    def _start_anew(self) -> None:
        self.images = 0
        self.began: float | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start_anew()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start_anew()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._start_anew()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.began is None:
            self.began = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        _, labels = batch
        self.images += len(labels) * world_size()
        if self.began is None or not (has_stepped(trainer, batch_idx) and is_logged(trainer, trainer.global_step)):
            return
        pl_module.log("train/images_per_s", self.images / (time.monotonic() - self.began), prog_bar=True)
        self.images, self.began = 0, time.monotonic()
        if pl_module.device.type == "cuda":
            pl_module.log("train/peak_gib", torch.cuda.max_memory_allocated(pl_module.device) / 2**30)
        data: Images = trainer.datamodule  # type: ignore[attr-defined]
        pl_module.log("train/skipped_images", float(len(data.skipped())))
