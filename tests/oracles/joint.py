"""Entropies of two views under one set of widths, Rényi's entropy of order 2, KoLeo, and the score of a density."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .density import kde_entropy, log_hyp0f1_of_half_square, log_kernel, log_sphere_area
from .precision import random_last_bit, unit
from .reductions import distances, excluded, logsumexp, squared_distances, total_logsumexp


def joint_entropy(x: Tensor, y: Tensor, **width) -> Tensor:
    """H(X, Y), 0-d; of vmf with the product of both kernels."""
    if width.get("kernel") != "vmf":
        return kde_entropy(torch.cat([x, y], dim=1), **width)
    kappa, N = width["concentration"], len(x)
    s = sum(kappa * random_last_bit(unit(z) @ unit(z).T) for z in (x, y))
    log_normaliser = sum(
        log_sphere_area(z.shape[1]) + log_hyp0f1_of_half_square(z.shape[1] / 2, kappa, z) for z in (x, y)
    )
    loo = logsumexp(s, excluded(N, N, diagonals=(0,))) - math.log(N - 1)
    return -loo.mean() + log_normaliser


def marginal(width: dict, dimensions: slice) -> dict:
    h = width.get("bandwidth")
    return width | {"bandwidth": h[dimensions]} if isinstance(h, Tensor) and h.dim() else width


def mutual_information(x: Tensor, y: Tensor, **width) -> Tensor:
    """H(X) + H(Y) − H(X, Y), all with the widths of the joint."""
    D = x.shape[1]
    of_x = kde_entropy(x, **marginal(width, slice(0, D)))
    return of_x + kde_entropy(y, **marginal(width, slice(D, None))) - joint_entropy(x, y, **width)


def conditional_entropy(x: Tensor, y: Tensor, **width) -> Tensor:
    return joint_entropy(x, y, **width) - kde_entropy(y, **marginal(width, slice(x.shape[1], None)))


def renyi2_entropy(z: Tensor, *, bandwidth: float | Tensor, estimator: str = "loo") -> Tensor:
    """−log of the mean of K_{√2 h}(z_i − z_j) over i ≠ j, or over all pairs."""
    N = len(z)
    s = log_kernel(z, z, bandwidth=math.sqrt(2) * torch.as_tensor(bandwidth, dtype=z.dtype))
    out = excluded(N, N, diagonals=(0,)) if estimator == "loo" else None
    return math.log(N * (N - 1 if estimator == "loo" else N)) - total_logsumexp(s, out)


def koleo(z: Tensor, *, k: int = 1, normalize: bool = True) -> Tensor:
    """−mean log(distance + 1e-8) of the k nearest of each row."""
    z = unit(z) if normalize else z
    apart = distances(z, z).masked_fill(torch.eye(len(z), dtype=torch.bool), torch.inf)
    return -(apart.topk(k, dim=1, largest=False).values + 1e-8).log().mean()


def score(query: Tensor, data: Tensor, **width) -> Tensor:
    """∇ log p̂ at each query, by the derivative of each kernel: Σ_j p_ij ∇ log K_ij; on the sphere its tangential part."""
    p = log_kernel(query, data, **width).softmax(dim=1)
    if width.get("kernel") == "vmf":
        q = unit(query)
        pull = width["concentration"] * (p @ unit(data))
        return pull - (pull * q).sum(dim=1, keepdim=True) * q
    h, D = width["bandwidth"], query.shape[1]
    apart = (data[None] - query[:, None]) / h**2  # (N, M, D)
    slope = torch.ones_like(p)
    if width.get("kernel") == "student":
        slope = (width["df"] + D) / (width["df"] + squared_distances(query / h, data / h))
    return (p[:, :, None] * slope[:, :, None] * apart).sum(dim=1)
