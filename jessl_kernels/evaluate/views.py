"""What two views of each item have in common: alignment, InfoNCE and retrieval. Every row is a unit vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..autocast import without_autocast
from ..functional.retrieval import Queries
from ..functional.rows import rowwise_dot
from .sample import Sample

TEMPERATURES = (1.0, 0.5, 0.2, 0.1, 0.07, 0.05, 0.02, 0.01)
BLOCK = 16384  # rows whose differences are held at a time


def alignment(x: Tensor, y: Tensor) -> Tensor:
    """(N,) ‖x_i − y_i‖², on the CPU."""
    apart = [torch.linalg.vector_norm(a - b, dim=1) for a, b in zip(x.split(BLOCK), y.split(BLOCK), strict=True)]
    return torch.cat(apart).cpu().square()


def info_nce_losses(x: Tensor, y: Tensor, sample: Sample, temperatures: Sequence[float]) -> list[Tensor]:
    """For each temperature (Q,) log Σ_j e^{s_ij} − s_ii of a query x_i among all y_j, s = cosine / temperature."""
    positive = rowwise_dot(sample.of(x), sample.of(y)).cpu().double()
    sums = sample.log_sums(x, [1 / temperature for temperature in temperatures], keys=y)
    own = [positive / temperature for temperature in temperatures]
    return [torch.logaddexp(others, s) - s for others, s in zip(sums, own, strict=True)]


def ranks(x: Tensor, y: Tensor, sample: Sample) -> Tensor:
    """(Q,) 1 + the number of y_j, j ≠ i, that score as high with a query x_i as y_i does, on the CPU: collapsed views have no
    rank 1."""
    with without_autocast(x.device):
        queries = Queries(sample.of(x), y, partner=sample.index)
        return queries.rank(queries.best, "worst").cpu()
