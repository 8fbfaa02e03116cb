"""The losses of the papers as pure functions. Each returns a sum; the mean is taken over the global count.

Shapes: B rows, T tokens, D width, V vocabulary, H heads, M scored positions, P real positions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def kl_sum(log_p: Tensor, log_q: Tensor) -> Tensor:
    """sum over all entries of p (log p - log q), from log-probabilities of the same shape."""
    return torch.sum(log_p.exp() * (log_p - log_q))


def mlm_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """-sum over M of log softmax(logits)[label]. Rohanian et al. 2023, eq. 1. logits [M, V], labels [M]."""
    return functional.cross_entropy(logits, labels, reduction="sum")


def output_kl_sum(student: Tensor, teacher: Tensor, *, temperature: float, teacher_first: bool = True) -> Tensor:
    """T^2 sum over M of KL between softmax(logits / T) of both sides; both [M, V].

    Rohanian et al. 2023, eq. 2; the factor T^2 keeps gradients comparable (Hinton et al. 2015).
    `teacher_first` is KL(teacher || student).
    """
    log_s = functional.log_softmax(student / temperature, dim=-1)
    log_t = functional.log_softmax(teacher / temperature, dim=-1)
    pair = (log_t, log_s) if teacher_first else (log_s, log_t)
    return temperature**2 * kl_sum(*pair)


def cosine_sum(student: Tensor, teacher: Tensor, real: Tensor) -> Tensor:
    """sum over P of 1 - cos(h_s, h_t). Rohanian et al. 2023, eq. 3 and 8. Hidden states [B, T, D], real [B, T]."""
    return torch.sum(1.0 - functional.cosine_similarity(student[real], teacher[real], dim=-1))


def attention_kl_sum(student: Tensor, teacher: Tensor, real: Tensor, *, teacher_first: bool = True) -> Tensor:
    """sum over H heads and P query rows of the KL between rows of attention. Rohanian et al. 2023, eq. 8.

    student, teacher: log-probabilities [B, H, T, T] over keys, padding keys at probability 0; real [B, T].
    """
    log_p, log_q = (teacher, student) if teacher_first else (student, teacher)
    rows = torch.sum(log_p.exp() * (log_p - log_q), dim=-1)
    return torch.sum(rows * real[:, None, :])
