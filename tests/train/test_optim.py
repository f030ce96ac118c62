"""Schedules against their formulas."""

import pytest
import torch
from torch import nn

from train.optim import OptimizerConfig


def rates(config: OptimizerConfig, epochs: int) -> list[float]:
    parts = config.build([nn.Parameter(torch.zeros(1))], epochs)
    found = []
    for _ in range(epochs):
        found.append(parts["optimizer"].param_groups[0]["lr"])
        parts["optimizer"].step()
        parts["lr_scheduler"].step()
    return found


def test_linear_decay_is_by_the_epoch() -> None:
    assert rates(OptimizerConfig(lr=3e-4), 200) == pytest.approx([3e-4 * (1 - e / 200) for e in range(200)], rel=1e-9)


def test_steps_divide_by_ten_at_each_milestone() -> None:
    config = OptimizerConfig(name="sgd", lr=0.1, schedule="steps", milestones=(60, 80))
    assert rates(config, 100) == pytest.approx([0.1] * 60 + [0.01] * 20 + [0.001] * 20, rel=1e-9)


def test_settings_reach_the_optimiser() -> None:
    sgd = OptimizerConfig(name="sgd", momentum=0.7, weight_decay=0.2).build([nn.Parameter(torch.zeros(1))], 1)
    assert isinstance(sgd["optimizer"], torch.optim.SGD)
    assert sgd["optimizer"].defaults["momentum"] == 0.7
    assert sgd["optimizer"].defaults["weight_decay"] == 0.2
    adam = OptimizerConfig(weight_decay=1e-4).build([nn.Parameter(torch.zeros(1))], 1)
    assert isinstance(adam["optimizer"], torch.optim.Adam)
    assert adam["optimizer"].defaults["weight_decay"] == 1e-4
