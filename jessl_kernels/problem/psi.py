"""ψ, the scalar function of a sum over pairs: Σ_j ψ(s_ij).

Each ψ stands here once, beside its derivative, as torch operations on a block of scores. A backend in another language repeats
it once, in its own table.
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


# Above 40 softplus(s) − s = e^{−40} ≈ 4e-18 is below the last bit of a double; torch's own threshold, 20, is not.
SOFTPLUS = Psi("softplus", value=lambda s: torch.nn.functional.softplus(s, threshold=40.0), slope=torch.sigmoid)

PSIS = {psi.name: psi for psi in (SOFTPLUS,)}
