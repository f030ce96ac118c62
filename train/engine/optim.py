"""Optimisers and learning-rate schedules, as values of a configuration."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn, optim

from edgebnn.errors import UserError
from edgebnn.ssl.schedules import half_cosine, warm_up

Group = Mapping[str, Any]
"""`params`, and what of them differs from the configuration: `lr`, `weight_decay`."""

NO_DECAY = torch.finfo(torch.float32).tiny
"""A weight decay that is none, and not 0."""


@dataclass(frozen=True)
class OptimizerConfig:
    """An optimiser and how its learning rate moves.

    Attributes:
        name: adam; sgd with `momentum`; lars: SGD whose step in every tensor is proportional to the tensor's
            length (You et al., 2017; lightly's), with a trust coefficient of 0.001.
        lr: learning rate.
        weight_decay: L2 penalty.
        decay_on: what the penalty falls on. all: every parameter. weights: all but biases, norms and other
            parameters of one dimension; those take plain steps with lars.
        momentum: of sgd and lars.
        schedule: constant. linear: lr * (1 - epoch / epochs), S2-BNN's "cos" flag. steps: lr times
            `step_factor` from every milestone on. cosine: from lr to `cosine_final_factor` by half a cosine.
        cosine_by: whether `cosine` moves with every epoch (MoCo's and BURN's code) or every step (SwAV, BYOL).
        milestones: epochs, counted from 0, at which `steps` lowers the rate.
        step_factor: by what `steps` lowers it.
        warmup_epochs: epochs in which the rate rises, step by step, from `warmup_start_factor` of what it would be.
        warmup_start_factor: factor of the first step.
        cosine_from: whether `cosine` counts from the run's start, as in BURN's code, or from the end of the
            warm-up, as in SwAV and BYOL.
        cosine_final_factor: the least rate of `cosine`, as a factor of lr.
    """

    name: Literal["adam", "sgd", "lars"] = "adam"
    lr: float = 3e-4
    weight_decay: float = 0.0
    decay_on: Literal["all", "weights"] = "all"
    momentum: float = 0.9
    schedule: Literal["constant", "linear", "steps", "cosine"] = "linear"
    cosine_by: Literal["epoch", "step"] = "epoch"
    milestones: tuple[int, ...] = ()
    step_factor: float = 0.1
    warmup_epochs: int = 0
    warmup_start_factor: float = 0.0
    cosine_from: Literal["start", "warmup"] = "start"
    cosine_final_factor: float = 0.0

    def check(self) -> None:
        """Raises `UserError` for values that make no optimiser.

        Not in the constructor, whose errors jsonargparse buries in its own.
        """
        if not (self.lr > 0 and math.isfinite(self.lr) and self.weight_decay >= 0 and 0 <= self.momentum < 1):
            raise UserError(
                f"lr {self.lr}, weight_decay {self.weight_decay}, momentum {self.momentum} make no optimiser; "
                "give lr > 0, weight_decay >= 0, momentum from 0 to below 1"
            )
        if self.warmup_epochs < 0 or not (0 <= self.warmup_start_factor <= 1 and 0 <= self.cosine_final_factor <= 1):
            raise UserError(
                f"warmup_epochs {self.warmup_epochs}, warmup_start_factor {self.warmup_start_factor}, "
                f"cosine_final_factor {self.cosine_final_factor} make no schedule; "
                "give 0 epochs or more, and factors from 0 to 1"
            )

        if self.schedule == "steps" and not (self.milestones and self.step_factor > 0):
            raise UserError(
                f"schedule steps with milestones {list(self.milestones)}, step_factor {self.step_factor} makes no "
                "steps; give epochs and a positive factor, or schedule constant"
            )

    def unreached(self, epochs: int) -> list[int]:
        """Milestones that a run of so many epochs does not come to."""
        return [milestone for milestone in self.milestones if milestone >= epochs] if self.schedule == "steps" else []

    def factor(self, step: int, epochs: int, steps_per_epoch: int) -> float:
        """What the learning rate is multiplied by in optimiser step `step`, counted from 0."""
        epoch = step // steps_per_epoch
        rising = self.warmup_epochs * steps_per_epoch
        rate = 1.0
        if self.schedule == "linear":
            rate = 1 - epoch / epochs
        elif self.schedule == "steps":
            rate = self.step_factor ** sum(epoch >= milestone for milestone in self.milestones)
        elif self.schedule == "cosine":
            done = step if self.cosine_by == "step" else epoch * steps_per_epoch
            skipped = rising if self.cosine_from == "warmup" else 0
            # A run no longer than its warm-up ends before the decay begins.
            left = max(epochs * steps_per_epoch - skipped, 1)
            rate = half_cosine(max(done - skipped, 0) / left, 1, self.cosine_final_factor)
        return rate * (warm_up(step / rising, self.warmup_start_factor) if rising else 1)

    def build(self, parameters: Iterable[nn.Parameter | Group], epochs: int, steps_per_epoch: int) -> dict[str, Any]:
        """Optimiser and scheduler of a run, in the form Lightning takes them.

        Args:
            parameters: what is trained, or groups of it that may have an `lr` of their own; the schedule
                multiplies the rate of each.
            epochs: of the run.
            steps_per_epoch: the optimiser's steps in one of them.
        """
        optimizer = self._optimizer(self._groups(list(parameters)))
        scheduler = optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.factor(step, epochs, steps_per_epoch))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _groups(self, parameters: list[nn.Parameter | Group]) -> list[dict[str, Any]]:
        groups = [dict(entry) for entry in parameters if isinstance(entry, Mapping)]
        groups = groups or [{"params": parameters}]
        if self.decay_on == "all":
            return groups
        parts = []
        for group in groups:
            members = list(group["params"])
            parts.append({**group, "params": [tensor for tensor in members if tensor.ndim > 1]})
            parts.append({**group, "params": [tensor for tensor in members if tensor.ndim <= 1], "weight_decay": 0.0})
        return [part for part in parts if part["params"]]

    def _optimizer(self, groups: list[dict[str, Any]]) -> optim.Optimizer:
        # Fused: a network of 26 units has 250 small tensors, and a loop over them costs as much as a forward pass.
        if self.name == "adam":
            return optim.Adam(groups, self.lr, weight_decay=self.weight_decay, fused=True)
        if self.name == "sgd":
            return optim.SGD(groups, self.lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=True)
        from lightly.utils.lars import LARS

        # Lightly's takes no decay as a word for plain steps, which `_groups` says of the tensors that take them.
        return LARS(groups, self.lr, momentum=self.momentum, weight_decay=max(self.weight_decay, NO_DECAY))
