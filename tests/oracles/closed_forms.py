"""Results known without any data: entropies, limits and caps, as Python floats; special functions by mpmath."""

from __future__ import annotations

import math

import mpmath

DIGITS = 40


def log_sphere_area(D: int) -> float:
    """log of the area of the unit sphere in R^D, 2π^{D/2} / Γ(D/2)."""
    with mpmath.workdps(DIGITS):
        return float(mpmath.log(2 * mpmath.pi ** (mpmath.mpf(D) / 2) / mpmath.gamma(mpmath.mpf(D) / 2)))


def log_hyp0f1(b: float, x: float) -> float:
    """log ₀F₁(; b; x)."""
    with mpmath.workdps(DIGITS):
        return float(mpmath.log(mpmath.hyp0f1(mpmath.mpf(b), mpmath.mpf(x))))


def vmf_log_normaliser(D: int, kappa: float) -> float:
    """log ∫ e^{κ⟨x, μ⟩} dx over the unit sphere in R^D."""
    return log_sphere_area(D) + log_hyp0f1(D / 2, kappa * kappa / 4)


def vmf_entropy(D: int, kappa: float) -> float:
    """The normaliser's logarithm minus κ A, A = E⟨x, μ⟩ = (κ/D) ₀F₁(; D/2 + 1; κ²/4) / ₀F₁(; D/2; κ²/4)."""
    x = kappa * kappa / 4
    mean_cosine = kappa / D * math.exp(log_hyp0f1(D / 2 + 1, x) - log_hyp0f1(D / 2, x))
    return vmf_log_normaliser(D, kappa) - kappa * mean_cosine


def gaussian_entropy(D: int, log_det: float = 0.0) -> float:
    """(D/2) log 2πe + ½ log det Σ."""
    return 0.5 * D * math.log(2 * math.pi * math.e) + 0.5 * log_det


def loo_entropy_limit(D: int, h: float) -> float:
    """What the leave-one-out entropy of N(0, I) with a Gaussian kernel of width h tends to: E −log N(0, (1 + h²) I)."""
    variance = 1 + h * h
    return 0.5 * D * math.log(2 * math.pi * variance) + 0.5 * D / variance


def uniformity_limit(D: int, t: float) -> float:
    """log E e^{−t‖x − y‖²} of two points uniform on the unit sphere in R^D: −2t + log ₀F₁(; D/2; t²)."""
    return -2 * t + log_hyp0f1(D / 2, t * t)


def resubstitution_cap(N: int, log_kernel_at_zero: float) -> float:
    """log N − log K(0), which the resubstitution entropy of N points never exceeds."""
    return math.log(N) - log_kernel_at_zero


def correlated_gaussian_information(D: int, rho: float) -> float:
    """I(X; Y) of D independent pairs with correlation ρ: −(D/2) log(1 − ρ²)."""
    return -0.5 * D * math.log1p(-rho * rho)
