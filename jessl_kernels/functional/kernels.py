"""Density kernels: the score that is their exponent, and the logarithm of their integral.

    gaussian   exp(−‖x‖²/2h²) on R^D       Σ_d log h_d + (D/2) log 2π
    laplace    exp(−‖x‖/h) on R^D          Σ_d log h_d + log area(S^{D−1}) + log Γ(D)
    vmf        exp(κ⟨x, μ⟩) on S^{D−1}     log area(S^{D−1}) + log ₀F₁(; D/2; κ²/4)

A bandwidth (D,) divides the points first; the h above is then 1 in the exponent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .._checks import accumulation_dtype, widest
from ..literals import Kind
from ..problem.phi import LAPLACE, Phi


@dataclass(frozen=True)
class Kernel:
    """A density kernel.

    kind, phi, scale  the score whose exponential is the kernel
    log_normaliser    the logarithm of its integral, 0-d
    place             a function of the points before they are compared
    """

    kind: Kind
    phi: Phi | None
    scale: Tensor
    log_normaliser: Tensor
    place: Callable[[Tensor], Tensor]


def gaussian(h: Tensor, data: Tensor) -> Kernel:
    """The Gaussian kernel of width h, 0-d or (D,), for a sample (N, D)."""
    D = data.shape[1]
    scale, log_h, place = _widths(h, data)
    return Kernel("sqdist", None, 0.5 * scale, log_h + 0.5 * D * math.log(2 * math.pi), place)


def laplace(h: Tensor, data: Tensor) -> Kernel:
    """The radial Laplace kernel of width h, 0-d or (D,), for a sample (N, D)."""
    D = data.shape[1]
    scale, log_h, place = _widths(h, data)
    return Kernel("sqdist", LAPLACE, scale, log_h + log_sphere_area(D) + math.lgamma(D), place)


def vmf(concentration: Tensor, D: int, place: Callable[[Tensor], Tensor]) -> Kernel:
    """The von Mises–Fisher kernel on the unit sphere of R^D."""
    log_normaliser = log_sphere_area(D) + log_hyp0f1_of_half_square(D / 2, concentration)
    return Kernel("dot", None, concentration, log_normaliser, lambda z: place(z.to(accumulation_dtype(z.dtype))))


def log_sphere_area(D: int) -> float:
    """log of the surface area of the unit sphere in R^D, 2π^{D/2} / Γ(D/2)."""
    return math.log(2) + 0.5 * D * math.log(math.pi) - math.lgamma(0.5 * D)


def log_hyp0f1_of_half_square(b: float, concentration: Tensor) -> Tensor:
    """log ₀F₁(; b; κ²/4), the mean of e^{κ x₁} over the unit sphere of dimension 2b; 0-d like κ, differentiable.

    Up to κ = 2000 it is the series Σ_k (κ²/4)^k Γ(b) / (k! Γ(b + k)), all of whose terms are positive: a log-sum-exp of 2048
    terms, the largest near k = κ/2. Above, it is the uniform expansion of I_ν(κ), ν = b − 1 (DLMF 10.41.3), whose first
    omitted term is below 1e-13 there. Both are computed in fp64, on the host if the device has none, and selected without
    reading κ.
    """
    kappa = concentration.to(
        "cpu" if widest(concentration.device) != torch.float64 else concentration.device, torch.float64
    )
    low = kappa.clamp(1e-100, 2000.0)  # log κ stays finite at 0, where the derivative is 0
    k = torch.arange(2048, dtype=torch.float64, device=kappa.device)
    series = torch.logsumexp(
        2 * k * (low / 2).log() - torch.lgamma(k + 1) - torch.lgamma(b + k) + math.lgamma(b), dim=0
    )
    high = kappa.clamp_min(2000.0)
    nu = b - 1
    r = (nu * nu + high.square()).sqrt()
    p2 = (nu / r).square()
    debye = (
        1
        + (3 - 5 * p2) / (24 * r)
        + (81 - 462 * p2 + 385 * p2**2) / (1152 * r**2)
        + (30375 - 369603 * p2 + 765765 * p2**2 - 425425 * p2**3) / (414720 * r**3)
    )
    log_bessel = r + nu * (high / (nu + r)).log() - 0.5 * (2 * math.pi * r).log() + debye.log()
    expansion = log_bessel + math.lgamma(b) - nu * (high / 2).log()
    return torch.where(kappa < 2000.0, series, expansion).to(concentration.device, concentration.dtype)


def _widths(h: Tensor, data: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
    """1/h² for the exponent, Σ_d log h_d, and the division of the points if each dimension has its own width."""
    if h.dim() == 0:
        return h.square().reciprocal(), data.shape[1] * h.log(), lambda z: z
    # Centred first: a mean far from 0, divided by a small width, would cost every difference its last digits.
    return (
        h.new_ones((), dtype=widest(h.device)),
        h.log().sum(),
        lambda z: (z.to(h.dtype) - data.detach().mean(dim=0)) / h,
    )
