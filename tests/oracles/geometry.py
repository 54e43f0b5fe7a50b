"""Measures of representations: alignment, uniformity, retrieval."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .reductions import excluded, score, total_logsumexp


def uniformity(z: Tensor, *, t: float | Tensor = 2.0) -> Tensor:
    """log mean_{i≠j} e^{−t‖z_i − z_j‖²}, 0-d."""
    N = len(z)
    s = score(z, kind="sqdist", scale=t)
    return total_logsumexp(s, excluded(N, N, diagonals=(0,))) - math.log(N * (N - 1))


def alignment(x: Tensor, y: Tensor, *, power: float = 2.0) -> Tensor:
    """‖x_i − y_i‖^power, (N,)."""
    return (x - y).square().sum(dim=1).pow(power / 2)


def recall(x: Tensor, y: Tensor, k: int) -> Tensor:
    """(N,) of 0 and 1: whether fewer than k other rows of y score as high with x_i as y_i does."""
    s = x @ y.T
    rivals = (s >= s.diagonal()[:, None]) & ~torch.eye(len(s), dtype=torch.bool)
    return (rivals.sum(dim=1) < k).to(s.dtype)


def mean_positive(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T).diagonal().mean()


def hardest_negative(x: Tensor, y: Tensor) -> Tensor:
    """mean_i max_{j≠i} ⟨x_i, y_j⟩."""
    return (x @ y.T).masked_fill(torch.eye(len(x), dtype=torch.bool), -torch.inf).amax(dim=1).mean()
