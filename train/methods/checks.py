"""Checks of a run before it writes a file: limits on batches, and BatchNorms that need two images."""

from copy import deepcopy

import torch
from lightning.pytorch import Trainer
from torch import nn

from edgebnn.errors import UserError, check

from ..data.module import Images
from .base import Method


def measures(model: Method) -> bool:
    """Returns whether a method measures the held-out images."""
    return type(model).validation_step is not Method.validation_step


def check_limits(trainer: Trainer, model: Method) -> None:
    """Raises `UserError` if a limit on the batches leaves nothing to train, or nothing to measure."""
    if model.trains and trainer.limit_train_batches == 0:
        raise UserError("trainer.limit_train_batches 0 leaves nothing to train; leave it out")
    if not model.trains and trainer.limit_val_batches == 0:
        raise UserError("trainer.limit_val_batches 0 leaves nothing to measure; leave it out")


def check_batchnorms(model: Method, data: Images, trainer: Trainer, *, everywhere: bool) -> None:
    """Raises `UserError` if a process gets one image at a time, and a BatchNorm needs two.

    A BatchNorm after a linear layer has one value per image and channel. So has one after a convolution whose output is
    1x1.

    Args:
        model: the method, after `prepare`.
        data: the images.
        trainer: the trainer, for the number of processes.
        everywhere: whether all BatchNorms cover the batch of all processes.
    """
    images = data.batch_size // (trainer.world_size * trainer.accumulate_grad_batches)
    if images > 1 or (everywhere and trainer.world_size > 1):
        return
    # Frozen parts stay in eval mode.
    model.train()
    shared = {id(module) for part in model.synchronised() for module in part.modules()}
    own = [module for module in model.modules() if trainer.world_size == 1 or id(module) not in shared]
    singles = any(isinstance(module, nn.BatchNorm1d) and module.training for module in own)
    if not singles:
        try:
            with torch.no_grad():
                deepcopy(model.network).features(torch.zeros(1, 3, data.resolution, data.resolution))
        except ValueError:
            singles = True
    check(
        not singles,
        "a process gets one image at a time, and BatchNorm needs two; raise data.batch_size, or lower "
        "trainer.accumulate_grad_batches or trainer.devices",
    )
