"""Optimisers and learning-rate schedules, as values of a configuration."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn, optim

from edgebnn.errors import UserError


@dataclass(frozen=True)
class OptimizerConfig:
    """An optimiser and how its learning rate falls, epoch by epoch.

    Attributes:
        name: adam, or sgd with `momentum`.
        lr: learning rate of the first epoch.
        weight_decay: L2 penalty on every parameter.
        momentum: of sgd.
        schedule: linear: lr * (1 - epoch / epochs), S2-BNN's "cos" flag; steps: lr / 10 from every
            milestone on.
        milestones: epochs, counted from 0, at which `steps` divides the rate by 10.
    """

    name: Literal["adam", "sgd"] = "adam"
    lr: float = 3e-4
    weight_decay: float = 0.0
    momentum: float = 0.9
    schedule: Literal["linear", "steps"] = "linear"
    milestones: tuple[int, ...] = ()

    def check(self) -> None:
        """Raises `UserError` for values that make no optimiser.

        Not in the constructor, whose errors jsonargparse buries in its own.
        """
        if not (self.lr > 0 and math.isfinite(self.lr) and self.weight_decay >= 0 and 0 <= self.momentum < 1):
            raise UserError(
                f"lr {self.lr}, weight_decay {self.weight_decay}, momentum {self.momentum} make no optimiser; "
                "give lr > 0, weight_decay >= 0, momentum from 0 to below 1"
            )

    def build(self, parameters: Iterable[nn.Parameter], epochs: int) -> dict[str, Any]:
        """Optimiser and scheduler for a run of `epochs`, in the form Lightning takes them."""
        # Fused: a network of 26 units has 250 small tensors, and a loop over them costs as much as a forward pass.
        optimizer: optim.Optimizer
        if self.name == "adam":
            optimizer = optim.Adam(parameters, self.lr, weight_decay=self.weight_decay, fused=True)
        else:
            optimizer = optim.SGD(
                parameters, self.lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=True
            )
        scheduler: optim.lr_scheduler.LRScheduler
        if self.schedule == "linear":
            scheduler = optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 - epoch / epochs)
        else:
            scheduler = optim.lr_scheduler.MultiStepLR(optimizer, list(self.milestones))
        return {"optimizer": optimizer, "lr_scheduler": scheduler}
