"""ψ, the scalar function that a sum over pairs adds up: Σ_j ψ(s_ij).

Each is defined here once, beside its derivative, as torch operations on a block of scores; a backend in another language repeats
it once, in its own table. To add a ψ, write `value` and `slope` with ψ(−inf) = 0 and ψ'(−inf) = 0, and enter it into `PSIS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Psi:
    """A function summed over pairs: value ψ(s) with ψ(−inf) = 0, and slope ψ'(s) with ψ'(−inf) = 0."""

    name: str
    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]


def _log1m_exp(s: Tensor) -> Tensor:
    # Above −log 2 e^s is close to 1, and expm1 avoids the subtraction of nearly equal numbers; below, log1p is exact.
    return torch.where(s > -0.6931471805599453, torch.log(-torch.expm1(s)), torch.log1p(-torch.exp(s)))


def _log1m_exp_slope(s: Tensor) -> Tensor:
    # −e^s / (1 − e^s) = 1 / (1 − e^{−s}), which is 0 at −inf and NaN at NaN.
    return 1 / -torch.expm1(-s)


# Above 40 softplus(s) − s = e^{−40} ≈ 4e-18 is below the last bit of a double; torch's own threshold, 20, is not.
SOFTPLUS = Psi("softplus", value=lambda s: torch.nn.functional.softplus(s, threshold=40.0), slope=torch.sigmoid)
# For scores below 0: at 0 it is −inf, above it NaN. With a row's bias −L_i it leaves each pair out of L_i in turn.
LOG1M_EXP = Psi("log1m_exp", value=_log1m_exp, slope=_log1m_exp_slope)
# Counts the scores above a row's threshold, which is minus its bias. A NaN stays NaN.
STEP = Psi("step", value=lambda s: torch.where(s.isnan(), s, (s > 0).to(s.dtype)), slope=torch.zeros_like)

PSIS = {psi.name: psi for psi in (SOFTPLUS, LOG1M_EXP, STEP)}
