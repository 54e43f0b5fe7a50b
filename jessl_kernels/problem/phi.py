"""φ, the scalar function of a score.

A score is s_ij = φ(u_ij) + r_i + c_j with u_ij = α⟨x_i, y_j⟩ or −α‖x_i − y_j‖². Each φ is defined here once, beside its
derivative, as torch operations on a block of scores. A backend in another language repeats it once, in its own table.

To add a φ, write `value` and `slope`, state the score kinds it is defined for, and enter it into `PHIS`. Backends that do
not know its name decline, so it works at once on the backends written in torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .._checks import fail, number, positive


@dataclass(frozen=True)
class Phi:
    """A function applied to every score before the biases are added.

    name        the key in `PHIS`, by which native backends know it
    value       value(u, *parameters) → φ(u), may overwrite u
    slope       slope(u, *parameters) → φ'(u), finite everywhere
    kinds       the score kinds it is defined for
    parameters  floats handed to value and slope
    lipschitz   |φ'| is at most 1, so that an error in u stays an error of that size in φ(u)
    compact     φ is −inf for u ≤ −1 and at most 0 for u ≤ 0: e^φ has a support, beyond which a pair does not count
    """

    name: str
    value: Callable[..., Tensor]
    slope: Callable[..., Tensor]
    kinds: tuple[str, ...] = ("dot", "sqdist")
    parameters: tuple[float, ...] = ()
    lipschitz: bool = True
    compact: bool = False

    def __call__(self, u: Tensor) -> Tensor:
        return self.value(u, *self.parameters)

    def derivative(self, u: Tensor) -> Tensor:
        return self.slope(u, *self.parameters)


def _laplace_slope(u: Tensor) -> Tensor:
    # d/du −√(−u) = 1 / (2√(−u)) grows without bound as two points meet. The distance has no derivative there; 0 is a
    # subgradient, and torch.cdist gives it for coinciding points too.
    root = (-u).sqrt_()
    return torch.where(root == 0, 0.0, 0.5 / root)


IDENTITY = Phi("identity", value=lambda u: u, slope=torch.ones_like)
LAPLACE = Phi(
    "laplace",
    value=lambda u: u.neg_().sqrt_().neg_(),
    slope=_laplace_slope,
    kinds=("sqdist",),
    lipschitz=False,
)


def _clamp_slope(u: Tensor, low: float, high: float) -> Tensor:
    # A NaN score must stay NaN in the gradient: comparisons alone would turn it into a clean 0.
    return torch.where(u.isnan(), u, ((u >= low) & (u <= high)).to(u.dtype))


CLAMP = Phi("clamp", value=lambda u, low, high: u.clamp_(low, high), slope=_clamp_slope)

# −c log(1 − u/c), which tends to u as c grows. Its slope is 1 at u = 0 and falls from there.
STUDENT = Phi(
    "student",
    value=lambda u, power: torch.log1p(u / -power) * -power,
    slope=lambda u, power: power / (power - u),
    kinds=("sqdist",),
)


def _compact(name: str, value: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]) -> Phi:
    """A φ with these values and slopes for u > −1; NaN stays NaN."""
    return Phi(
        name,
        value=lambda u: torch.where(u <= -1, -torch.inf, value(u)),
        slope=lambda u: torch.where(u <= -1, 0.0, slope(u)),
        kinds=("sqdist",),
        lipschitz=False,
        compact=True,
    )


def _distance(u: Tensor) -> Tensor:
    return (-u).clamp_min(0.0).sqrt()  # rounding may leave u a little above 0


def _rest(u: Tensor, r: Tensor) -> Tensor:
    """1 − r for r = √(−u), without the subtraction of numbers that are nearly equal at the edge of the support."""
    return (1 + u) / (1 + r)


def _linear_slope(u: Tensor) -> Tensor:
    r = _distance(u)
    # The distance has no derivative where two points meet; 0 is a subgradient, as for laplace.
    return torch.where(r == 0, 0.0, (1 + r) / (2 * r * (1 + u)))


def _cosine_value(u: Tensor) -> Tensor:
    return torch.sin(0.5 * math.pi * _rest(u, _distance(u))).log()


def _cosine_slope(u: Tensor) -> Tensor:
    r = _distance(u)
    return math.pi**2 / 8 * torch.sinc(0.5 * r) / torch.sin(0.5 * math.pi * _rest(u, r))


# With r = √(−u), the distance of two points in units of the support's radius, e^φ is 1, 1 − r², 1 − r and cos(πr/2).
TOPHAT = _compact("tophat", value=lambda u: 0.0 * u, slope=lambda u: 0.0 * u)
EPANECHNIKOV = _compact("epanechnikov", value=torch.log1p, slope=lambda u: 1 / (1 + u))
LINEAR = _compact("linear", value=lambda u: torch.log1p(u) - torch.log1p(_distance(u)), slope=_linear_slope)
COSINE = _compact("cosine", value=_cosine_value, slope=_cosine_slope)

PHIS = {phi.name: phi for phi in (IDENTITY, CLAMP, LAPLACE, STUDENT, TOPHAT, EPANECHNIKOV, LINEAR, COSINE)}


def clamp(low: float, high: float) -> Phi:
    """φ(u) = min(max(u, low), high), with derivative 1 on [low, high] and 0 outside (SMILE, arXiv 1910.06222, eq. 9).

    low, high  floats, low < high

    Raises ValueError if low is not below high, TypeError if either is not a number.

    >>> row = jk.pairwise_logsumexp(x, y, phi=jk.phi.clamp(-5.0, 5.0))
    """
    low, high = number("clamp", "low", low), number("clamp", "high", high)
    if not low < high:
        fail("clamp", "high", high, f"must be above low, which is {low}")
    return replace(CLAMP, parameters=(low, high))


def student(power: float) -> Phi:
    """φ(u) = −c log(1 − u/c) for u = −scale·‖x − y‖²: e^φ is the kernel (1 + scale·‖x − y‖²/c)^−c of a Student's t density.

    power  c, a float > 0. With c = 1 and scale = 1 it is the Cauchy kernel 1/(1 + ‖x − y‖²) of t-SNE; a density in D
           dimensions with ν degrees of freedom and width h has c = (ν + D)/2 and scale = c/(ν h²) (`kde_log_density`)

    Raises ValueError if c is not above 0, TypeError if it is no number.

    >>> jk.pairwise_logsumexp(torch.zeros(1, 2), torch.ones(1, 2), kind="sqdist", phi=jk.phi.student(1.0))  # −log 3
    tensor([-1.0986])
    """
    return replace(STUDENT, parameters=(positive("student", "power", power),))


def build(name: str, parameters: list[float]) -> Phi:
    """The φ that an operator schema spells as a name and a list of floats."""
    return replace(PHIS[name], parameters=tuple(parameters))
