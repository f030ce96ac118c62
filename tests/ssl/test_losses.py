"""The losses against their formulas written out as sums over plain numbers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgebnn.ssl.losses import distillation, info_nce


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
