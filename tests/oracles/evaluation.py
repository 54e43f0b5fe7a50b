"""Measures of a representation, from the N×N matrix of cosines or from a decomposition."""

from __future__ import annotations

import math

import torch
from scipy.special import betainc
from torch import Tensor

from .density import log_sphere_area
from .precision import unit


def effective_rank(z: Tensor) -> float:
    """exp of the entropy of the singular values of z, divided by their sum."""
    singular = torch.linalg.svdvals(z.double())
    p = singular / singular.sum()
    return float((-torch.where(p > 0, p * p.log(), 0.0).sum()).exp())


def knn_accuracy(z: Tensor, labels: Tensor, k: int, temperature: float = 0.07) -> float:
    """Leave-one-out: the class with the largest Σ e^{cosine/τ} over the k nearest others."""
    s = (unit(z) @ unit(z).T).fill_diagonal_(-torch.inf)
    values, places = s.topk(k, dim=1)
    votes = torch.zeros(len(z), int(labels.max()) + 1, dtype=s.dtype)
    votes.scatter_add_(1, labels[places], (values / temperature).exp())
    return float((votes.argmax(dim=1) == labels).double().mean())


def log_cap_area(chord: Tensor, D: int) -> Tensor:
    """log area of the cap of S^{D−1} that reaches so far from its pole: a share I_{sin²θ}((D − 1)/2, ½)/2 of the sphere up to
    the equator, and what is left of it beyond."""
    angle = 2 * (chord.double() / 2).asin()
    half = 0.5 * torch.from_numpy(betainc((D - 1) / 2, 0.5, angle.sin().square().numpy()))
    return log_sphere_area(D) + torch.where(angle <= math.pi / 2, half, 1 - half).log()


def sphere_knn_entropy(z: Tensor, k: int) -> float:
    """ψ(N) − ψ(k) + mean log A(ε_i), A the area of the cap that reaches to the k-th neighbour."""
    x = unit(z.double())
    distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    kth = distance.sort(dim=1).values[:, k - 1]
    psi = torch.digamma(torch.tensor([len(z), k], dtype=torch.float64))
    return float(psi[0] - psi[1] + log_cap_area(kth, z.shape[1]).mean())
