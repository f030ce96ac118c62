"""Losses of self-supervised training, as pure functions of a network's outputs. They are computed in float32 or
float64.

Under autocast, outputs have half precision, and matrix products would be computed in half precision. Exponentials of
values divided by a temperature of 0.2 need more precision.
"""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor
from torch.nn import functional as F


def in_float32(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Returns a loss that runs outside autocast, with half-precision arguments converted to float32."""

    @wraps(loss)
    def computed(*values: Tensor | float, **named: Tensor | float) -> Tensor:
        device = next(value.device.type for value in (*values, *named.values()) if isinstance(value, Tensor))
        with torch.autocast(device, enabled=False):
            return loss(*map(full, values), **{name: full(value) for name, value in named.items()})

    def full(value: Tensor | float) -> Tensor | float:
        return float32_at_least(value) if isinstance(value, Tensor) else value

    return computed


def float32_at_least(outputs: Tensor) -> Tensor:
    """Returns half-precision outputs as float32, and other outputs unchanged."""
    return outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs


@in_float32
def info_nce(query: Tensor, key: Tensor, negatives: Tensor, temperature: float = 0.2) -> Tensor:
    """Returns MoCo's InfoNCE loss (He et al., CVPR 2020, equation 1). Each query must find its key among the negatives.

        L = - mean_n log( exp(q_n . k_n / T) / (exp(q_n . k_n / T) + sum_j exp(q_n . neg_j / T)) )

    Args:
        query: student outputs (N, D). They are normalised here.
        key: outputs for the other view of the same images (N, D). They are normalised here, and get no gradient.
        negatives: keys of other images (K, D), of length 1.
        temperature: T; 0.2 in MoCo v2.

    Returns:
        The loss in nats, a scalar.
    """
    query = F.normalize(query, dim=1)
    key = F.normalize(key.detach(), dim=1)
    positive = (query * key).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, query @ negatives.T], dim=1) / temperature
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))


@in_float32
def distillation(student: Tensor, teacher: Tensor, temperature: float = 0.2) -> Tensor:
    """Returns S2-BNN's distillation loss (Shen et al., CVPR 2021, section 3.3). The student imitates the teacher.

        L = - mean_n sum_d softmax(t_n / T)_d log_softmax(s_n / T)_d

    Args:
        student: student outputs s (N, D). They are normalised to length 1 here.
        teacher: teacher outputs t for the same views (N, D). They are normalised here, and get no gradient.
        temperature: T; 0.2 as published.

    Returns:
        The cross-entropy in nats, a scalar. Its smallest value is the teacher's entropy, not 0.
    """
    return soft_cross_entropy(F.normalize(student, dim=1), F.normalize(teacher, dim=1), temperature)


@in_float32
def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Returns ReActNet's distributional loss (Liu et al., ECCV 2020, equation 6) plus the teacher's entropy.

        L = - mean_n sum_c softmax(t_n / T)_c log_softmax(s_n / T)_c

    Args:
        student: logits s (N, C).
        teacher: logits t of the same images (N, C). They get no gradient.
        temperature: T; 1 as published.

    Returns:
        The cross-entropy in nats, a scalar. Its smallest value is the teacher's entropy, not 0.
    """
    return F.cross_entropy(student / temperature, F.softmax(teacher.detach() / temperature, dim=1))


@in_float32
def unit_distance(a: Tensor, b: Tensor) -> Tensor:
    """Returns the mean squared distance of normalised vectors (Grill et al., NeurIPS 2020, equation 2).

        L = mean_n || a_n / |a_n| - b_n / |b_n| ||^2 = mean_n (2 - 2 cos(a_n, b_n))

    Args:
        a: vectors (N, D). They get gradients.
        b: vectors (N, D), one for each vector of `a`. They get gradients too.

    Returns:
        A scalar from 0 to 4.
    """
    return (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(dim=1).mean()


@in_float32
def divergence(student: Tensor, target: Tensor, temperature: float = 0.2) -> Tensor:
    """Returns the divergence of the student's distribution from the target's, as in BURN's public code.

        L = mean_n KL( softmax(t_n / T) || softmax(s_n / T) )

    Args:
        student: s (N, C), not normalised.
        target: t (N, C), not normalised. It gets a gradient, because BURN trains the target's classifier.
        temperature: T; 0.2 in the public code.

    Returns:
        The divergence in nats, a scalar. It is 0 if both are equal.
    """
    given, wanted = (F.log_softmax(outputs / temperature, dim=1) for outputs in (student, target))
    return F.kl_div(given, wanted, reduction="batchmean", log_target=True)
