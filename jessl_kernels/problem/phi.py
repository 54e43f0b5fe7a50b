"""φ, the scalar function of a score.

A score is s_ij = φ(u_ij) + r_i + c_j with u_ij = α⟨x_i, y_j⟩ or −α‖x_i − y_j‖². Each φ is defined here once, beside its
derivative, as torch operations on a block of scores. A backend in another language repeats it once, in its own table.

To add a φ, write `value` and `slope`, state the score kinds it is defined for, and enter it into `PHIS`. Backends that do
not know its name decline, so it works at once on the backends written in torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .._checks import fail, number


@dataclass(frozen=True)
class Phi:
    """A function applied to every score before the biases are added.

    name        the key in `PHIS`, by which native backends know it
    value       value(u, *parameters) → φ(u), may overwrite u
    slope       slope(u, *parameters) → φ'(u), finite everywhere
    kinds       the score kinds it is defined for
    parameters  floats handed to value and slope
    lipschitz   |φ'| is bounded, so that an error in u stays an error of that size in φ(u)
    """

    name: str
    value: Callable[..., Tensor]
    slope: Callable[..., Tensor]
    kinds: tuple[str, ...] = ("dot", "sqdist")
    parameters: tuple[float, ...] = ()
    lipschitz: bool = True

    def __call__(self, u: Tensor) -> Tensor:
        return self.value(u, *self.parameters)

    def derivative(self, u: Tensor) -> Tensor:
        return self.slope(u, *self.parameters)


def _laplace_slope(u: Tensor) -> Tensor:
    # d/du −√(−u) = 1 / (2√(−u)) grows without bound as two points meet. The distance has no derivative there; 0 is a
    # subgradient, and torch.cdist gives it for coinciding points too.
    root = (-u).sqrt_()
    return torch.where(root > 0, 0.5 / root, torch.zeros_like(root))


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

PHIS = {phi.name: phi for phi in (IDENTITY, CLAMP, LAPLACE)}


def clamp(low: float, high: float) -> Phi:
    """φ(u) = min(max(u, low), high), with derivative 1 on [low, high] and 0 outside (SMILE, arXiv 1910.06222, eq. 9).

    low, high  floats, low < high

    Raises ValueError if low is not below high, TypeError if either is not a number.

    >>> row = jk.pairwise_logsumexp(x, y, phi=jk.phi.clamp(-5.0, 5.0))
    """
    low, high = number("clamp", "low", low), number("clamp", "high", high)
    if not low < high:
        fail("clamp", "high", high, f"must be above low, which is {low}")
    return Phi(CLAMP.name, CLAMP.value, CLAMP.slope, parameters=(low, high))


def build(name: str, parameters: list[float]) -> Phi:
    """The φ that an operator schema spells as a name and a list of floats."""
    known = PHIS[name]
    return Phi(name, known.value, known.slope, known.kinds, tuple(parameters), known.lipschitz)
