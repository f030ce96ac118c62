"""The losses against their formulas written out as sums over plain numbers."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgebnn.ssl.losses import distillation, divergence, info_nce, soft_cross_entropy, unit_distance
from edgebnn.ssl.schedules import half_cosine, warm_up


def unit(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b))


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 5), dim=st.integers(1, 6), k=st.integers(1, 7), t=st.floats(0.05, 2), seed=st.integers(0, 999))
def test_info_nce_is_the_papers_equation(n: int, dim: int, k: int, t: float, seed: int) -> None:
    query, key, negatives = (random(size, dim, seed=seed + i) for i, size in enumerate((n, n, k)))
    negatives = torch.tensor([unit(row) for row in negatives.tolist()], dtype=torch.float64)
    expected = 0.0
    for q, p in zip(query.tolist(), key.tolist()):
        positive = math.exp(dot(unit(q), unit(p)) / t)
        others = sum(math.exp(dot(unit(q), other) / t) for other in negatives.tolist())
        expected -= math.log(positive / (positive + others)) / n
    assert info_nce(query, key, negatives, t).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 5), dim=st.integers(1, 8), t=st.floats(0.05, 2), seed=st.integers(0, 999))
def test_distillation_is_the_papers_equation(n: int, dim: int, t: float, seed: int) -> None:
    student, teacher = 3 * random(n, dim, seed=seed), 5 * random(n, dim, seed=seed + 1)
    expected = 0.0
    for s, r in zip(student.tolist(), teacher.tolist()):
        target = softmax([value / t for value in unit(r)])
        given_ = softmax([value / t for value in unit(s)])
        expected -= sum(p * math.log(q) for p, q in zip(target, given_)) / n
    assert distillation(student, teacher, t).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 5), classes=st.integers(1, 8), t=st.floats(0.2, 2), seed=st.integers(0, 999))
def test_soft_cross_entropy_is_reactnets_equation(n: int, classes: int, t: float, seed: int) -> None:
    student, teacher = 3 * random(n, classes, seed=seed), 3 * random(n, classes, seed=seed + 1)
    expected = 0.0
    for s, r in zip(student.tolist(), teacher.tolist()):
        target, given_ = softmax([value / t for value in r]), softmax([value / t for value in s])
        expected -= sum(p * math.log(q) for p, q in zip(target, given_)) / n
    assert soft_cross_entropy(student, teacher, t).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 5), dim=st.integers(1, 8), t=st.floats(0.2, 2), seed=st.integers(0, 999))
def test_burns_two_terms_are_the_public_codes_equations(n: int, dim: int, t: float, seed: int) -> None:
    student, target = 3 * random(n, dim, seed=seed), 3 * random(n, dim, seed=seed + 1)
    distance = kl = 0.0
    for s, r in zip(student.tolist(), target.tolist()):
        distance += sum((a - b) ** 2 for a, b in zip(unit(s), unit(r))) / n
        wanted, given_ = softmax([value / t for value in r]), softmax([value / t for value in s])
        kl += sum(p * math.log(p / q) for p, q in zip(wanted, given_)) / n
    assert unit_distance(student, target).item() == pytest.approx(distance, rel=1e-9, abs=1e-12)
    assert divergence(student, target, t).item() == pytest.approx(kl, rel=1e-9, abs=1e-12)


def test_the_divergence_reaches_the_targets_classifier_too() -> None:
    # By the definition of a derivative: BURN trains both sides, and torch's own KL hands the target no gradient
    # unless its logarithm is given.
    student, target = random(3, 5, seed=0).requires_grad_(), random(3, 5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda s, t: divergence(s, t, 0.7), (student, target))
    assert torch.autograd.gradcheck(unit_distance, (student, target))


@pytest.mark.parametrize("loss", [distillation, divergence, soft_cross_entropy, unit_distance])
def test_losses_of_half_precision_outputs_are_those_of_their_float32_values(loss: Callable[..., torch.Tensor]) -> None:
    a, b = (random(4, 8, seed=seed).to(torch.bfloat16) for seed in (0, 1))
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(a, b)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(loss(a.double(), b.double()).item(), rel=1e-5)


def test_tensors_given_by_name_are_taken_in_float32_as_well() -> None:
    a, b = (random(4, 8, seed=seed).to(torch.bfloat16) for seed in (0, 1))
    assert distillation(student=a, teacher=b).item() == distillation(a, b).item()


def test_info_nce_multiplies_in_float32_under_autocast() -> None:
    query, key, negatives = (random(size, 64, seed=size).float() for size in (4, 4, 50))
    with torch.autocast("cpu", torch.bfloat16):
        found = info_nce(query, key, negatives)
    assert found.item() == pytest.approx(info_nce(query.double(), key.double(), negatives.double()).item(), rel=1e-5)


@settings(deadline=None, max_examples=50)
@given(progress=st.floats(0, 1), start=st.floats(-3, 3), end=st.floats(-3, 3))
def test_half_cosine_is_half_a_cosine(progress: float, start: float, end: float) -> None:
    # As an average of the ends, weighted by cos^2 and sin^2 of half the angle.
    angle = math.pi * progress / 2
    expected = start * math.cos(angle) ** 2 + end * math.sin(angle) ** 2
    assert half_cosine(progress, start, end) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_burns_balance_and_byols_momentum_at_their_ends_and_middle() -> None:
    assert [half_cosine(share, 0.1, 0.3) for share in (0, 0.5, 1)] == pytest.approx([0.1, 0.2, 0.3], rel=1e-12)
    assert [half_cosine(share, 0.99, 1) for share in (0, 0.5, 1)] == pytest.approx([0.99, 0.995, 1], rel=1e-12)


def test_warm_up_rises_evenly_and_stays() -> None:
    found = [warm_up(share, 0.2) for share in (0, 0.25, 0.5, 1, 7)]
    assert found == pytest.approx([0.2, 0.4, 0.6, 1, 1], rel=1e-12)


def test_default_temperatures_are_the_published_ones() -> None:
    a, b, c = random(4, 8, seed=0), random(4, 8, seed=1), torch.eye(8, dtype=torch.float64)
    assert info_nce(a, b, c) == info_nce(a, b, c, 0.2)
    assert distillation(a, b) == distillation(a, b, 0.2)


def test_no_gradient_reaches_keys_or_teacher() -> None:
    student, other = random(4, 8, seed=0).requires_grad_(), random(4, 8, seed=1).requires_grad_()
    (info_nce(student, other, torch.eye(8, dtype=torch.float64)) + distillation(student, other)).backward()
    assert student.grad is not None
    assert student.grad.abs().min() > 0
    assert other.grad is None
