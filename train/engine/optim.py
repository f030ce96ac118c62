"""Optimizers and learning-rate schedules, as values of a configuration."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn, optim

from edgebnn.errors import UserError
from edgebnn.ssl.schedules import half_cosine, warm_up

Group = Mapping[str, Any]
"""Parameters (`params`) with a learning rate (`lr`) or weight decay (`weight_decay`) of their own."""

NO_DECAY = torch.finfo(torch.float32).tiny
"""A weight decay that changes no weight and is not 0. lightly's LARS treats 0 as something else."""


@dataclass(frozen=True)
class OptimizerConfig:
    """An optimizer and its learning-rate schedule.

    Attributes:
        name: adam, sgd or lars. LARS is SGD whose step in every tensor is proportional to the tensor's length (You et
            al., 2017). It is lightly's, with a trust coefficient of 0.001.
        lr: learning rate.
        weight_decay: L2 penalty.
        decay_on: the parameters with weight decay. all: every parameter. weights: all except biases, norms and other
            parameters of one dimension. With lars, these exceptions also take plain SGD steps.
        momentum: momentum of sgd and lars.
        schedule: constant. linear: lr * (1 - epoch / epochs), which S2-BNN's code calls cos. steps: lr times
            `step_factor` from every milestone on. cosine: half a cosine from lr to `cosine_final_factor` * lr.
        cosine_by: whether `cosine` changes with every epoch (MoCo's and BURN's code) or every step (SwAV).
        milestones: epochs, counted from 0, at which `steps` lowers the rate.
        step_factor: factor of `steps` at each milestone.
        warmup_epochs: epochs at the start in which the rate rises linearly with every step.
        warmup_start_factor: factor on the rate at the first step of the warm-up.
        cosine_from: whether `cosine` counts from the start of the run (BURN's code) or from the end of the warm-up
            (SwAV).
        cosine_final_factor: lowest rate of `cosine`, as a factor of lr.
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
        """Raises `UserError` if a value is wrong.

        The constructor does not check, because jsonargparse would hide its errors in a long message.
        """
        if not (self.lr > 0 and math.isfinite(self.lr) and self.weight_decay >= 0 and 0 <= self.momentum < 1):
            raise UserError(
                f"lr {self.lr}, weight_decay {self.weight_decay}, momentum {self.momentum} are out of range; "
                "give lr > 0, weight_decay >= 0, momentum from 0 to below 1"
            )
        if self.warmup_epochs < 0 or not (0 <= self.warmup_start_factor <= 1 and 0 <= self.cosine_final_factor <= 1):
            raise UserError(
                f"warmup_epochs {self.warmup_epochs}, warmup_start_factor {self.warmup_start_factor}, "
                f"cosine_final_factor {self.cosine_final_factor} are out of range; "
                "give 0 epochs or more, and factors from 0 to 1"
            )

        if self.schedule == "steps" and not (self.milestones and self.step_factor > 0):
            raise UserError(
                f"schedule steps with milestones {list(self.milestones)} and step_factor {self.step_factor} is "
                "incomplete; give epochs and a positive factor, or schedule constant"
            )

    def unreached(self, epochs: int) -> list[int]:
        """Returns the milestones that a run of this many epochs does not reach."""
        return [milestone for milestone in self.milestones if milestone >= epochs] if self.schedule == "steps" else []

    def factor(self, step: int, epochs: int, steps_per_epoch: int) -> float:
        """Returns the factor on the learning rate.

        Args:
            step: optimizer step, counted from 0.
            epochs: epochs of the run.
            steps_per_epoch: optimizer steps per epoch.
        """
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
            # A run that is not longer than its warm-up ends before the cosine begins.
            left = max(epochs * steps_per_epoch - skipped, 1)
            rate = half_cosine(max(done - skipped, 0) / left, 1, self.cosine_final_factor)
        return rate * (warm_up(step / rising, self.warmup_start_factor) if rising else 1)

    def build(
        self, parameters: Iterable[nn.Parameter | Group], epochs: int, steps_per_epoch: int, *, fused: bool = True
    ) -> dict[str, Any]:
        """Returns the optimizer and the scheduler of a run, in Lightning's form.

        Args:
            parameters: the trained parameters, or groups of them. A group may have its own `lr`, and the schedule
                multiplies it.
            epochs: epochs of the run.
            steps_per_epoch: optimizer steps per epoch.
            fused: whether one kernel updates all tensors. It also unscales the gradients of mixed precision, so they
                cannot be clipped before.
        """
        optimizer = self._optimizer(self._groups(list(parameters)), fused)
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

    def _optimizer(self, groups: list[dict[str, Any]], fused: bool) -> optim.Optimizer:
        # Fused, because a network of 26 units has 250 small tensors. A loop over them takes as long as a forward pass.
        if self.name == "adam":
            return optim.Adam(groups, self.lr, weight_decay=self.weight_decay, fused=fused)
        if self.name == "sgd":
            return optim.SGD(groups, self.lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=fused)
        from lightly.utils.lars import LARS

        # lightly's LARS takes plain SGD steps in tensors without weight decay. `_groups` marks these tensors. All
        # other tensors need a decay that is not 0.
        return LARS(groups, self.lr, momentum=self.momentum, weight_decay=max(self.weight_decay, NO_DECAY))
