"""Losses of self-supervised training: pure functions of outputs."""

import torch
from torch import Tensor
from torch.nn import functional as F


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
    target = F.softmax(F.normalize(teacher.detach(), dim=1) / temperature, dim=1)
    return F.cross_entropy(F.normalize(student, dim=1) / temperature, target)
