"""Density kernels: the score that is their exponent, and the logarithm of their integral.

With r = ‖x‖/h, and ball and sphere the volume of the unit ball and the area of the unit sphere in D dimensions:

    gaussian      exp(−r²/2)                      Σ_d log h_d + (D/2) log 2π
    student       (1 + r²/ν)^{−(ν+D)/2}           Σ_d log h_d + (D/2) log νπ + log Γ(ν/2) − log Γ((ν + D)/2)
    laplace       exp(−r)                         Σ_d log h_d + log sphere + log Γ(D)
    tophat        1           for r < 1           Σ_d log h_d + log ball
    epanechnikov  1 − r²      for r < 1           Σ_d log h_d + log ball + log 2/(D + 2)
    linear        1 − r       for r < 1           Σ_d log h_d + log ball − log(D + 1)
    cosine        cos(πr/2)   for r < 1           Σ_d log h_d + log sphere + log ∫₀¹ cos(πr/2) r^{D−1} dr
    vmf           exp(κ⟨x, μ⟩) on the sphere      log sphere + log ₀F₁(; D/2; κ²/4)

A bandwidth (D,) divides the points first, and a covariance (D, D) whitens them by its Cholesky factor; the h above is then 1, and
Σ_d log h_d is half the logarithm of the covariance's determinant.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .._checks import accumulation_dtype, widest
from ..literals import Kind
from ..problem.phi import COSINE, EPANECHNIKOV, LAPLACE, LINEAR, TOPHAT, Phi, student


@dataclass(frozen=True)
class Kernel:
    """A density kernel.

    kind, phi, scale  the score whose exponential is the kernel
    log_normaliser    the logarithm of its integral, 0-d
    place             a function of the points before they are compared
    pull              takes a gradient at a placed point back to the point
    """

    kind: Kind
    phi: Phi | None
    scale: Tensor
    log_normaliser: Tensor
    place: Callable[[Tensor], Tensor]
    pull: Callable[[Tensor], Tensor] = lambda gradient: gradient

    @property
    def compact(self) -> bool:
        """Whether it is 0 beyond a distance."""
        return self.phi is not None and self.phi.compact


class Widths(NamedTuple):
    """1/h² for the exponent, Σ_d log h_d, and what h does to points and to gradients."""

    scale: Tensor
    log_volume: Tensor
    place: Callable[[Tensor], Tensor]
    pull: Callable[[Tensor], Tensor]


def gaussian(h: Tensor, data: Tensor) -> Kernel:
    """The Gaussian kernel of width h, 0-d, (D,) or a covariance (D, D), for a sample (N, D)."""
    scale, log_volume, *ways = widths(h, data)
    return Kernel("sqdist", None, 0.5 * scale, log_volume + 0.5 * data.shape[1] * math.log(2 * math.pi), *ways)


def student_t(h: Tensor, data: Tensor, df: float) -> Kernel:
    """The kernel of Student's t with df degrees of freedom. Its φ has a slope of at most 1 because c/ν is in the scale."""
    D = data.shape[1]
    scale, log_volume, *ways = widths(h, data)
    power = 0.5 * (df + D)
    half = torch.full((), 0.5 * df, dtype=log_volume.dtype, device=log_volume.device)
    log_integral = 0.5 * D * (2 * math.pi * half).log() + torch.lgamma(half) - torch.lgamma(half + 0.5 * D)
    return Kernel("sqdist", student(power), scale * (power / df), log_volume + log_integral, *ways)


def radial(name: str, h: Tensor, data: Tensor) -> Kernel:
    """The kernel of this name in `RADIAL`."""
    phi, log_integral = RADIAL[name]
    scale, log_volume, *ways = widths(h, data)
    return Kernel("sqdist", phi, scale, log_volume + log_integral(data.shape[1]), *ways)


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


def log_ball_volume(D: int) -> float:
    """log of the volume of the unit ball in R^D, π^{D/2} / Γ(D/2 + 1)."""
    return log_sphere_area(D) - math.log(D)


def log_cosine_integral(D: int) -> float:
    """log ∫ cos(π‖x‖/2) over the unit ball of R^D.

    ∫₀¹ cos(πr/2) r^{D−1} dr = Σ_k (−1)^k (π/2)^{2k+1} (D − 1)! / (D + 2k + 1)!, whose terms fall quickly. By parts it is a sum of
    powers of 2/π that cancel: from D ≈ 20 on nothing of it is left in fp64.
    """
    ratio = 1.0
    for k in range(20, 0, -1):
        ratio = 1 - (0.5 * math.pi) ** 2 / ((D + 2 * k) * (D + 2 * k + 1)) * ratio
    return log_sphere_area(D) + math.log(0.5 * math.pi * ratio / (D * (D + 1)))


# A kernel's φ of −r², and the logarithm of its integral for h = 1.
RADIAL: dict[str, tuple[Phi, Callable[[int], float]]] = {
    "laplace": (LAPLACE, lambda D: log_sphere_area(D) + math.lgamma(D)),
    "tophat": (TOPHAT, log_ball_volume),
    "epanechnikov": (EPANECHNIKOV, lambda D: log_ball_volume(D) + math.log(2 / (D + 2))),
    "linear": (LINEAR, lambda D: log_ball_volume(D) - math.log(D + 1)),
    "cosine": (COSINE, log_cosine_integral),
}


def widths(h: Tensor, data: Tensor) -> Widths:
    """What a bandwidth, 0-d, (D,) or a covariance (D, D), means for a sample."""
    if h.dim() == 0:
        return Widths(h.square().reciprocal(), data.shape[1] * h.log(), lambda z: z, lambda g: g)

    # Centred first: a mean far from 0, divided by a small width, would cost every difference its last digits.
    def centred(z: Tensor) -> Tensor:
        return z.to(h.dtype) - data.detach().mean(dim=0)

    one = h.new_ones((), dtype=widest(h.device))
    if h.dim() == 1:
        return Widths(one, h.log().sum(), lambda z: centred(z) / h, lambda g: g / h)
    factor, _ = torch.linalg.cholesky_ex(h)

    def whitened(z: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(factor, centred(z).mT, upper=False).mT

    def back(gradient: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(factor.mT, gradient.to(h.dtype).mT, upper=True).mT

    return Widths(one, factor.diagonal().log().sum(), whitened, back)
