"""Batches on which a kernel can go wrong.

    x, y = pairs("clustered", 129, 64, seed=0, dtype=torch.bfloat16)
    x, y = converged(129, 64, temperature=0.07, loss=0.01, seed=0)

The same numbers, rounded, in every dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tests.oracles.contrastive import info_nce

Pair = tuple[Tensor, Tensor]


def given(t: Tensor, dtype: torch.dtype) -> Tensor:
    """t as a test receives it in this dtype."""
    return t.to(dtype)


def normals(*shape: int, seed: int) -> Tensor:
    """Standard normal fp64 numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random(n: int, d: int, seed: int) -> Pair:
    """Two unrelated batches: what a network gives before training."""
    z = normals(2, n, d, seed=seed)
    return z[0], z[1]


def clustered(n: int, d: int, seed: int, clusters: int = 8, spread: float = 0.1) -> Pair:
    """Views of items that lie in a few tight clusters: most scores are either large or small."""
    centers = normals(clusters, d, seed=seed)
    which = torch.arange(n) % clusters
    noise = normals(2, n, d, seed=seed + 1)
    return centers[which] + spread * noise[0], centers[which] + spread * noise[1]


def duplicates(n: int, d: int, seed: int) -> Pair:
    """Every row of x occurs in it twice, and again in y."""
    x = normals((n + 1) // 2, d, seed=seed).repeat(2, 1)[:n]
    return x, x.flip(0)


def all_equal(n: int, d: int, seed: int) -> Pair:
    """A collapsed encoder: every row of both is the same."""
    row = normals(1, d, seed=seed)
    return row.repeat(n, 1), row.repeat(n, 1)


def huge(n: int, d: int, seed: int, norm: float = 1e4) -> Pair:
    """Rows of norm 1e4."""
    x, y = random(n, d, seed)
    return norm * _unit(x), norm * _unit(y)


KINDS: dict[str, Callable[[int, int, int], Pair]] = {
    "random": random,
    "clustered": clustered,
    "duplicates": duplicates,
    "all_equal": all_equal,
    "huge": huge,
}


def pairs(kind: str, n: int, d: int, *, seed: int, dtype: torch.dtype = torch.float32) -> Pair:
    """Two (n, d) batches of a named kind; row i of both belong together."""
    x, y = KINDS[kind](n, d, seed)
    return given(x, dtype), given(y, dtype)


def converged(
    n: int, d: int, *, temperature: float, loss: float, seed: int, dtype: torch.dtype = torch.float32
) -> Pair:
    """Unit rows whose InfoNCE loss at this temperature is `loss`, up to the rounding to `dtype`: a trained batch.

    y is x with the amount of noise that gives this loss. Raises ValueError if even y = x has a larger loss, which is about
    n·e^{−1/temperature} with n rows.
    """
    x, noise = _unit(normals(n, d, seed=seed)), normals(n, d, seed=seed + 1) / d**0.5

    def loss_at(level: float) -> float:
        return float(info_nce(x, _unit(x + level * noise), temperature=temperature).mean())

    least = loss_at(0.0)
    if not least < loss:
        raise ValueError(
            f"converged: {n} rows in {d} dimensions at temperature {temperature} have a loss of {least:.3g} at least"
        )
    low, high = 0.0, 1.0
    while loss_at(high) < loss:
        low, high = high, 2 * high
        if high > 2**20:
            raise ValueError(f"converged: a loss of {loss} is above that of {n} unrelated rows")
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if loss_at(middle) < loss else (low, middle)
    return given(x, dtype), given(_unit(x + low * noise), dtype)


def clusters_with_labels(n: int, d: int, *, labels: int, seed: int, dtype: torch.dtype = torch.float32) -> Pair:
    """(n, d) features in clusters and their (n,) labels in random order; with n = 2·labels + 1 or more, some label is alone."""
    label = torch.randint(labels, (n,), generator=torch.Generator().manual_seed(seed))
    centers, noise = normals(labels, d, seed=seed + 1), normals(n, d, seed=seed + 2)
    return given(centers[label] + 0.5 * noise, dtype), label


def every_other_column(t: Tensor) -> Tensor:
    """The same numbers, with a stride of two elements between columns and a row stride that fits no vector."""
    wide = t.new_empty(t.shape[0], 2 * t.shape[1] + 1)
    return wide[:, : 2 * t.shape[1] : 2].copy_(t)


def column_major(t: Tensor) -> Tensor:
    """The same numbers, stored by columns."""
    return t.T.contiguous().T


def unaligned(t: Tensor) -> Tensor:
    """The same numbers, row after row, from an address that no vector load takes."""
    return t.new_empty(t.numel() + 1)[1:].view(t.shape).copy_(t)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "every_other_column": every_other_column,
    "column_major": column_major,
    "unaligned": unaligned,
}


def _unit(t: Tensor) -> Tensor:
    return t / torch.linalg.vector_norm(t, dim=-1, keepdim=True)


def correlated(N: int, D: int, rho: float, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Pairs of standard normal points (N, D) with correlation ρ in each dimension: −D/2 · log(1 − ρ²) nats."""
    x, noise = torch.randn(2, N, D, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return x, rho * x + math.sqrt(1 - rho**2) * noise
