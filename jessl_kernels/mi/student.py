"""Quantiles of Student's t, for intervals of a mean over a few blocks."""

from __future__ import annotations

import math

MOST = 1000  # degrees of freedom; beyond, t is 0.1 % above its limit


def quantile(inside: float, degrees: int) -> float:
    """t with P(|T| ≤ t) = inside, by bisection of the closed form of whole degrees of freedom (Abramowitz and Stegun 26.7.3, 26.7.4)."""
    degrees = min(degrees, MOST)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, degrees) < inside else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _inside(angle: float, degrees: int) -> float:
    """P(|T| ≤ √degrees · tan angle)."""
    odd = degrees % 2
    sine, cosine = math.sin(angle), math.cos(angle)
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(1 + odd, degrees, 2):
        total += term
        term *= cosine**2 * k / (k + 1)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
