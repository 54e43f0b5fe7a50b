"""Negatives that are not independent: "lower bounds" above the information (section 4 of the paper).

    (x_i, y_i) = z + ε_i,    ε_i ~ N(0, [[1, 0.9], [0.9, 1]]),    z ~ N(0, [[1, −0.5], [−0.5, 1]])

Each pair has correlation 0.2, so I(X; Y) = −½ log(1 − 0.2²) = 0.0204 nats. With a z for each pair the negatives are draws of
p(x)p(y). With one z for the whole batch they are not, and a critic that sees many pairs of one z tells positives by ε.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from jessl_kernels import mi

from .. import study

RHO_Z, RHO_EPSILON = -0.5, 0.9
INFORMATION = -0.5 * math.log(1 - ((RHO_Z + RHO_EPSILON) / 2) ** 2)
HIDDEN = (10,) * 5


def batch(n: int, shared: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """x, y (n, 1)."""

    def correlated(n: int, rho: float) -> Tensor:
        u, v = torch.randn(2, n, generator=generator)
        return torch.stack([u, rho * u + math.sqrt(1 - rho**2) * v], dim=1)

    pairs = correlated(1 if shared else n, RHO_Z) + correlated(n, RHO_EPSILON)
    return pairs[:, :1], pairs[:, 1:]


def run(bound: Any, shared: bool, batch_size: int, steps: int, rate: float, readings: int, seed: int) -> dict[str, Any]:
    """Mean over new batches of the same kind, after the critic was trained on such batches."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    objective = mi.Objective(bound, mi.Joint(1, 1, hidden=HIDDEN))
    optimizer = torch.optim.Adam(objective.parameters(), lr=rate, fused=True)
    for _ in study.steps(steps):
        optimizer.zero_grad()
        objective(*batch(batch_size, shared, generator)).backward()
        optimizer.step()
    values = [objective.value(*batch(batch_size, shared, generator)).value for _ in range(readings)]
    return {"estimate": sum(values) / readings, "information": INFORMATION}
