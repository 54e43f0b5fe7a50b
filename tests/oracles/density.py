"""Kernel-density estimates and the entropies built on them."""

from __future__ import annotations

import math

import torch
from scipy.integrate import quad
from torch import Tensor

from .precision import random_last_bit, unit
from .reductions import distances, excluded, log_compact, logsumexp, squared_distances

Width = float | Tensor


def log_kernel(
    query: Tensor,
    data: Tensor,
    *,
    kernel: str = "gaussian",
    bandwidth: Width | None = None,
    concentration: Width | None = None,
    df: float | None = None,
) -> Tensor:
    """log K(query_i, data_j), (N, M). Each kernel integrates to 1: on R^D, or on the unit sphere for vmf.

    gaussian   exp(−½ Σ_d ((q_d − z_d)/h_d)²) / Π_d h_d √(2π)
    laplace    exp(−‖(q − z)/h‖) / (area(S^{D−1}) Γ(D) Π_d h_d)
    student    (1 + r²/ν)^{−(ν+D)/2} Γ((ν+D)/2) / (Γ(ν/2) (νπ)^{D/2} Π_d h_d),  r = ‖(q − z)/h‖
    compact    1, 1 − r², 1 − r or cos(πr/2) for r < 1, over its integral by quadrature, area(S^{D−1}) ∫ f(r) r^{D−1} dr
    vmf        exp(κ⟨q, z⟩) / (area(S^{D−1}) ₀F₁(; D/2; κ²/4)), of the directions of q and z
    """
    D = query.shape[1]
    if kernel == "vmf":
        cosine = random_last_bit(unit(query) @ unit(data).T)
        return concentration * cosine - log_sphere_area(D) - log_hyp0f1_of_half_square(D / 2, concentration, query)
    h = torch.as_tensor(bandwidth, dtype=query.dtype)
    log_volume = h.log().sum() if h.dim() else D * h.log()
    # One width for all dimensions divides the distance: points divided by a small one would be rounded before they differ.
    (query, data), h = ((query / h, data / h), 1.0) if h.dim() else ((query, data), h)
    if kernel == "gaussian":
        return -0.5 * squared_distances(query, data) / h**2 - log_volume - 0.5 * D * math.log(2 * math.pi)
    if kernel == "student":
        square = squared_distances(query, data) / h**2
        log_integral = 0.5 * D * math.log(df * math.pi) + math.lgamma(0.5 * df) - math.lgamma(0.5 * (df + D))
        return -0.5 * (df + D) * torch.log1p(square / df) - log_volume - log_integral
    if kernel != "laplace":
        return log_compact(kernel, squared_distances(query, data) / h**2) - log_volume - log_compact_integral(kernel, D)
    return -random_last_bit(distances(query, data)) / h - log_volume - log_sphere_area(D) - math.lgamma(D)


def log_compact_integral(kernel: str, D: int) -> float:
    """log ∫ of a compact kernel of width 1 over R^D."""
    f = {
        "tophat": lambda r: 1.0,
        "epanechnikov": lambda r: 1 - r * r,
        "linear": lambda r: 1 - r,
        "cosine": lambda r: math.cos(0.5 * math.pi * r),
    }[kernel]
    return log_sphere_area(D) + math.log(quad(lambda r: f(r) * r ** (D - 1), 0, 1, epsabs=0, epsrel=1e-13)[0])


def log_sphere_area(D: int) -> float:
    """log of the area of the unit sphere in R^D."""
    return math.log(2) + 0.5 * D * math.log(math.pi) - math.lgamma(0.5 * D)


def log_hyp0f1_of_half_square(b: float, kappa: Width, like: Tensor) -> Tensor:
    """log ₀F₁(; b; κ²/4) = log Σ_k (κ²/4)^k Γ(b) / (k! Γ(b + k)), 0-d.

    In fp64 whatever the dtype, as whoever takes it from a library of special functions gets it.
    """
    kappa = torch.as_tensor(kappa, dtype=like.dtype).double()
    k = torch.arange(1, 2 * int(kappa.detach()) + 200, dtype=torch.float64)
    log_terms = 2 * k * (kappa / 2).log() - torch.lgamma(k + 1) - torch.lgamma(b + k) + math.lgamma(b)
    # The term k = 0 is 1. κ = 0 has no logarithm, but the value 0 and the derivative 0.
    log_sum = torch.logaddexp(torch.logsumexp(log_terms, dim=0), torch.zeros_like(kappa))
    return (log_sum if kappa > 0 else 0 * kappa).to(like.dtype)


def kde_log_density(query: Tensor, data: Tensor, *, weights: Tensor | None = None, **width) -> Tensor:
    """log Σ_j w_j K(q_i, z_j), (N,); weights are divided by their sum, None are equal ones."""
    w = normalized(weights, data)
    return logsumexp(w.log()[None, :] + log_kernel(query, data, **width))


def kde_entropy(z: Tensor, *, estimator: str = "loo", weights: Tensor | None = None, **width) -> Tensor:
    """The entropy, 0-d: minus a weighted sum of log p̂ at the points.

    loo                −Σ_i w_i log p̂_{−i}(z_i),  p̂_{−i} = Σ_{j≠i} w_j K_ij / (1 − w_i)
    resubstitution     −Σ_i w_i log p̂(z_i)
    plugin             −Σ_i p̂(z_i) log p̂(z_i)
    plugin_normalized  −Σ_i (p̂(z_i) / Σ_j p̂(z_j)) log p̂(z_i)
    """
    w = normalized(weights, z)
    s = w.log()[None, :] + log_kernel(z, z, **width)
    log_density = logsumexp(s)
    if estimator == "loo":
        log_density = logsumexp(s, excluded(len(z), len(z), diagonals=(0,))) - torch.log1p(-w)
    if estimator.startswith("plugin"):
        w = log_density.exp()
        w = w / w.sum() if estimator == "plugin_normalized" else w
    return -torch.where(w == 0, 0.0, w * log_density).sum()


def normalized(weights: Tensor | None, data: Tensor) -> Tensor:
    weights = torch.ones(len(data), dtype=data.dtype) if weights is None else weights.to(data.dtype)
    return weights / weights.sum()


def bandwidth_rule(rule: str, data: Tensor, weights: Tensor | None = None) -> Tensor:
    """h_d = factor · σ_d, (D,): factor n^{−1/(D+4)} (Scott) or (n(D+2)/4)^{−1/(D+4)} (Silverman).

    Unweighted, σ_d divides by n − 1. With weights, n = 1/Σw² and σ_d² = Σ w (z − mean)² / (1 − Σw²), as in scipy.
    """
    w, D = normalized(weights, data), data.shape[1]
    n = 1 / w.square().sum()
    mean = (w[:, None] * data).sum(dim=0)
    variance = (w[:, None] * (data - mean).square()).sum(dim=0) / (1 - 1 / n)
    return (n if rule == "scott" else n * (D + 2) / 4) ** (-1 / (D + 4)) * variance.sqrt()
