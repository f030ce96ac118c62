"""Schedules against their formulas, step by step."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edgebnn.errors import UserError
from edgebnn.train.engine.optim import OptimizerConfig


def rates(config: OptimizerConfig, epochs: int, steps: int = 1) -> list[float]:
    """The learning rate of every step of a run."""
    parts = config.build([nn.Parameter(torch.zeros(1))], epochs, steps)
    found = []
    for _ in range(epochs * steps):
        found.append(parts["optimizer"].param_groups[0]["lr"])
        parts["optimizer"].step()
        parts["lr_scheduler"]["scheduler"].step()
    assert parts["lr_scheduler"]["interval"] == "step"
    return found


def test_linear_decay_is_by_the_epoch() -> None:
    expected = [3e-4 * (1 - epoch / 200) for epoch in range(200) for _ in range(3)]
    assert rates(OptimizerConfig(lr=3e-4), 200, 3) == pytest.approx(expected, rel=1e-9)


def test_steps_divide_by_ten_at_each_milestone() -> None:
    config = OptimizerConfig(name="sgd", lr=0.1, schedule="steps", milestones=(60, 80))
    expected = [0.1] * 120 + [0.01] * 40 + [0.001] * 40
    assert rates(config, 100, 2) == pytest.approx(expected, rel=1e-9)


def test_milestones_that_a_run_does_not_come_to_are_known() -> None:
    config = OptimizerConfig(schedule="steps", milestones=(60, 80))
    assert [config.unreached(epochs) for epochs in (60, 61, 80, 81)] == [[60, 80], [80], [80], []]
    assert OptimizerConfig(milestones=(60, 80)).unreached(1) == []


def test_cosine_of_moco_is_by_the_epoch_and_constant_is_constant() -> None:
    expected = [0.03 * 0.5 * (1 + math.cos(math.pi * epoch / 20)) for epoch in range(20) for _ in range(4)]
    assert rates(OptimizerConfig(name="sgd", lr=0.03, schedule="cosine"), 20, 4) == pytest.approx(expected, rel=1e-9)
    assert rates(OptimizerConfig(lr=0.5, schedule="constant"), 3, 2) == [0.5] * 6


def test_burns_rate_is_a_cosine_by_epoch_times_a_warm_up_by_step() -> None:
    config = OptimizerConfig(lr=3e-4, schedule="cosine", warmup_epochs=10, warmup_start_factor=1e-4)
    expected = []
    for epoch in range(40):
        for batch in range(5):
            rate = 3e-4 * 0.5 * (1 + math.cos(math.pi * epoch / 40))
            done = (epoch * 5 + batch) / 50
            # mmcv: lr (1 - (1 - done) (1 - ratio)) for as long as it warms up.
            expected.append(rate * (1 - (1 - done) * (1 - 1e-4)) if done < 1 else rate)
    assert rates(config, 40, 5) == pytest.approx(expected, rel=1e-9)


@settings(deadline=None, max_examples=30)
@given(
    epochs=st.integers(1, 12),
    steps=st.integers(1, 5),
    warmup=st.integers(0, 12),
    start=st.floats(0, 1),
    final=st.floats(0, 1),
)
def test_swavs_rate_rises_and_then_falls_by_step(
    epochs: int, steps: int, warmup: int, start: float, final: float
) -> None:
    config = OptimizerConfig(
        name="sgd",
        lr=4.8,
        schedule="cosine",
        cosine_by="step",
        warmup_epochs=warmup,
        warmup_start_factor=start,
        cosine_from="warmup",
        cosine_final_factor=final,
    )
    rising, expected = warmup * steps, []
    for step in range(epochs * steps):
        if step < rising:
            expected.append(4.8 * (start + (1 - start) * step / rising))
        else:
            share = (step - rising) / (epochs * steps - rising)
            expected.append(4.8 * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * share))))
    assert rates(config, epochs, steps) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_settings_reach_the_optimiser() -> None:
    sgd = OptimizerConfig(name="sgd", momentum=0.7, weight_decay=0.2).build([nn.Parameter(torch.zeros(1))], 1, 1)
    assert isinstance(sgd["optimizer"], torch.optim.SGD)
    assert sgd["optimizer"].defaults["momentum"] == 0.7
    assert sgd["optimizer"].defaults["weight_decay"] == 0.2
    adam = OptimizerConfig(weight_decay=1e-4).build([nn.Parameter(torch.zeros(1))], 1, 1)
    assert isinstance(adam["optimizer"], torch.optim.Adam)
    assert adam["optimizer"].defaults["weight_decay"] == 1e-4


def test_groups_keep_their_rates_under_one_schedule() -> None:
    backbone, head = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(3))
    config = OptimizerConfig(name="sgd", lr=0.1, schedule="linear", weight_decay=0.5)
    parts = config.build([{"params": [backbone]}, {"params": [head], "lr": 1.0}], 4, 1)
    for epoch in range(4):
        found = [group["lr"] for group in parts["optimizer"].param_groups]
        assert found == pytest.approx([0.1 * (1 - epoch / 4), 1 - epoch / 4], rel=1e-9)
        parts["optimizer"].step()
        parts["lr_scheduler"]["scheduler"].step()


def test_decay_of_weights_alone_leaves_norms_and_biases_as_they_are() -> None:
    layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    config = OptimizerConfig(name="sgd", lr=0.1, momentum=0, weight_decay=0.5, decay_on="weights")
    optimizer = config.build([{"params": layers.parameters()}], 1, 1)["optimizer"]
    before = [parameter.clone() for parameter in layers.parameters()]
    for parameter in layers.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for parameter, was in zip(layers.parameters(), before):
        torch.testing.assert_close(parameter, was * (0.95 if parameter.ndim > 1 else 1), rtol=1e-6, atol=0)


def test_lars_scales_a_weights_step_by_its_length_and_takes_plain_steps_elsewhere() -> None:
    weight, bias = nn.Parameter(torch.tensor([[3.0, 4.0]])), nn.Parameter(torch.tensor([2.0]))
    config = OptimizerConfig(name="lars", lr=2.0, momentum=0.9, weight_decay=0.1, decay_on="weights")
    optimizer = config.build([weight, bias], 1, 1)["optimizer"]
    weight.grad, bias.grad = torch.tensor([[0.0, 2.0]]), torch.tensor([0.5])
    optimizer.step()
    # You et al., equation 6: trust |w| / (|g| + decay |w|), on g + decay w.
    local = 0.001 * 5 / (2 + 0.1 * 5)
    expected = [3 - 2 * local * 0.3, 4 - 2 * local * 2.4]
    assert weight[0].tolist() == pytest.approx(expected, rel=1e-6)
    assert bias.item() == pytest.approx(2 - 2 * 0.5, rel=1e-6)


def test_lars_without_decay_scales_the_step_of_every_tensor_as_simsiams_evaluation_does() -> None:
    weight, bias = nn.Parameter(torch.tensor([[3.0, 4.0]])), nn.Parameter(torch.tensor([0.0]))
    optimizer = OptimizerConfig(name="lars", lr=1.6, momentum=0.9, schedule="cosine").build([weight, bias], 1, 1)[
        "optimizer"
    ]
    expected, velocity = [3.0, 4.0, 0.0], [0.0] * 3
    for slope in ([0.0, 2.0, 0.5], [1.0, -1.0, 0.25]):
        weight.grad, bias.grad = torch.tensor([slope[:2]]), torch.tensor(slope[2:])
        optimizer.step()
        # LARC without clipping: g <- 0.001 |w| / |g| g where neither is 0, then SGD with momentum.
        for tensor in (slice(0, 2), slice(2, 3)):
            long, steep = (math.hypot(*values[tensor]) for values in (expected, slope))
            scale = 0.001 * long / steep if long and steep else 1
            velocity[tensor] = [0.9 * v + scale * g for v, g in zip(velocity[tensor], slope[tensor])]
            expected[tensor] = [w - 1.6 * v for w, v in zip(expected[tensor], velocity[tensor])]
        assert [*weight[0].tolist(), *bias.tolist()] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "values",
    [
        {"lr": 0.0},
        {"lr": float("inf")},
        {"weight_decay": -1.0},
        {"warmup_epochs": -1},
        {"warmup_start_factor": 2.0},
        {"schedule": "steps"},
        {"schedule": "steps", "milestones": (3,), "step_factor": 0.0},
    ],
)
def test_values_that_make_no_optimiser_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(UserError, match="; give"):
        OptimizerConfig(**values).check()
