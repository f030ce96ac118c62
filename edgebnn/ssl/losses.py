"""Losses of self-supervised training: pure functions of outputs, computed in float32 at least.

Under autocast outputs come in half precision and matrix products would be taken in it; exponentials of
values over a temperature of 0.2 do not bear that.
"""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor
from torch.nn import functional as F


def in_float32(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`loss` outside autocast, its half-precision arguments as float32; others stay as they are."""

    @wraps(loss)
    def computed(*values: Tensor | float, **named: Tensor | float) -> Tensor:
        device = next(value.device.type for value in (*values, *named.values()) if isinstance(value, Tensor))
        with torch.autocast(device, enabled=False):
            return loss(*map(full, values), **{name: full(value) for name, value in named.items()})

    def full(value: Tensor | float) -> Tensor | float:
        return float32_at_least(value) if isinstance(value, Tensor) else value

    return computed


def float32_at_least(outputs: Tensor) -> Tensor:
    """Outputs in half precision as float32, others as they are."""
    return outputs.float() if outputs.dtype in (torch.float16, torch.bfloat16) else outputs


@in_float32
def info_nce(query: Tensor, key: Tensor, negatives: Tensor, temperature: float = 0.2) -> Tensor:
    """MoCo's InfoNCE (He et al., CVPR 2020, equation 1): find each query's key among the negatives.

        L = - mean_n log( exp(q_n . k_n / T) / (exp(q_n . k_n / T) + sum_j exp(q_n . neg_j / T)) )

    Args:
        query: student outputs (N, D), normalised here.
        key: outputs for the other view of the same images (N, D), normalised here; no gradient.
        negatives: keys of other images (K, D), of length 1.
        temperature: T; 0.2 in MoCo v2.

    Returns:
        the loss in nats, a scalar.
    """
    query = F.normalize(query, dim=1)
    key = F.normalize(key.detach(), dim=1)
    positive = (query * key).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, query @ negatives.T], dim=1) / temperature
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))


@in_float32
def distillation(student: Tensor, teacher: Tensor, temperature: float = 0.2) -> Tensor:
    """S2-BNN's distillation loss (Shen et al., CVPR 2021, section 3.3): imitate the teacher's distribution.

        L = - mean_n sum_d softmax(t_n / T)_d log_softmax(s_n / T)_d

    Args:
        student: student outputs s (N, D), normalised to length 1 here.
        teacher: teacher outputs t for the same views (N, D), normalised to length 1 here; no gradient.
        temperature: T; 0.2 as published.

    Returns:
        the cross-entropy in nats, a scalar. Its least value is the teacher's entropy, not 0.
    """
    return soft_cross_entropy(F.normalize(student, dim=1), F.normalize(teacher, dim=1), temperature)


@in_float32
def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """ReActNet's distributional loss (Liu et al., ECCV 2020, equation 6) up to the teacher's entropy.

        L = - mean_n sum_c softmax(t_n / T)_c log_softmax(s_n / T)_c

    Args:
        student: logits s (N, C).
        teacher: logits t of the same images (N, C); no gradient.
        temperature: T; 1 as published.

    Returns:
        the cross-entropy in nats, a scalar. Its least value is the teacher's entropy, not 0.
    """
    return F.cross_entropy(student / temperature, F.softmax(teacher.detach() / temperature, dim=1))


@in_float32
def unit_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of two sets of vectors brought to length 1 (Grill et al., NeurIPS 2020, equation 2).

        L = mean_n || a_n / |a_n| - b_n / |b_n| ||^2 = mean_n (2 - 2 cos(a_n, b_n))

    Args:
        a: vectors (N, D); gradients reach them.
        b: vectors (N, D), one for each of `a`; gradients reach them too.

    Returns:
        a scalar from 0 to 4.
    """
    return (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(dim=1).mean()


@in_float32
def divergence(student: Tensor, target: Tensor, temperature: float = 0.2) -> Tensor:
    """How far the student's distribution is from the target's, in BURN's public code.

        L = mean_n KL( softmax(t_n / T) || softmax(s_n / T) )

    Args:
        student: s (N, C), not normalised.
        target: t (N, C), not normalised; the gradient reaches it, since BURN trains the target's classifier.
        temperature: T; 0.2 in the public code.

    Returns:
        the divergence in nats, a scalar; 0 where both agree.
    """
    given, wanted = (F.log_softmax(outputs / temperature, dim=1) for outputs in (student, target))
    return F.kl_div(given, wanted, reduction="batchmean", log_target=True)
