"""The losses of the papers as pure functions. Each returns a sum; the mean is taken over the global count.

Shapes: B rows, T tokens, D width, V vocabulary, H heads, M scored positions, P positions that count, Q queries that
count in a row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


def soft_cross_entropy_sum(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """-sum over M of softmax(teacher / T) . log softmax(student / T); both [M, V]. Jiao et al. 2020, eq. 10; output*
    of Rohanian et al. 2023, eq. 7."""
    log_s = functional.log_softmax(student / temperature, dim=-1)
    return -torch.sum(functional.softmax(teacher / temperature, dim=-1) * log_s)


def squared_error_sum(student: Tensor, teacher: Tensor) -> Tensor:
    """sum over all entries of (s - t)^2. Rohanian et al. 2023, eq. 5 and 6, before the mean."""
    return torch.sum((student - teacher) ** 2)


def cosine_sum(student: Tensor, teacher: Tensor) -> Tensor:
    """sum over P of 1 - cos(h_s, h_t); both [P, D]. Rohanian et al. 2023, eq. 3 and 8."""
    return torch.sum(1.0 - functional.cosine_similarity(student, teacher, dim=-1))


def attention_kl_sum(student: Tensor, teacher: Tensor, queries: Tensor, *, teacher_first: bool = True) -> Tensor:
    """sum over H heads and Q query rows of the KL between rows of attention. Rohanian et al. 2023, eq. 8.

    student, teacher: masked scores [B, H, T, T], the lowest number at keys that are padding. queries [B, T].
    """
    pair = student.log_softmax(dim=-1), teacher.log_softmax(dim=-1)
    log_p, log_q = reversed(pair) if teacher_first else pair
    rows = torch.sum(log_p.exp() * (log_p - log_q), dim=-1)
    return torch.sum(rows * queries[:, None, :])


def attention_squared_error_sum(
    student: Tensor, teacher: Tensor, queries: Tensor, keys: Tensor, *, probabilities: bool = True
) -> Tensor:
    """sum over H heads, Q query rows and real keys of (a_s - a_t)^2. Rohanian et al. 2023, eq. 5.

    student, teacher: masked scores [B, H, T, T]. queries, keys (those that are no padding) [B, T].
    With `probabilities` attention after the softmax is compared, else the scores (Jiao et al. 2020, eq. 7).
    """
    if probabilities:
        student, teacher = student.softmax(dim=-1), teacher.softmax(dim=-1)
    counted = queries[:, None, :, None] & keys[:, None, None, :]
    return torch.sum(torch.where(counted, student - teacher, 0.0) ** 2)


def differentiated_at_once(loss: Callable[..., Tensor], *student: Tensor) -> Tensor:
    """loss(*student), a sum, with its gradients computed on the spot: until the backward pass they are kept, and
    nothing of what lies between, which for rows of attention or of a vocabulary is many times as much."""
    if not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in student)):
        return loss(*student)
    return _AtOnce.apply(loss, *student)


class _AtOnce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Callable[..., Tensor], *student: Tensor) -> Tensor:
        with torch.enable_grad():
            leaves = [tensor.detach().requires_grad_() for tensor in student]
            total = loss(*leaves)
        ctx.save_for_backward(*torch.autograd.grad(total, leaves))
        return total.detach()

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        return None, *(gradient * upstream[0] for gradient in ctx.saved_tensors)
