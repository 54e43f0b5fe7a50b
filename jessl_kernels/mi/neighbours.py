"""Nearest-neighbour references: Kraskov's estimate of the mutual information, and Kozachenko and Leonenko's entropy. In nats.

Distances are made in strips of rows, and no N×N of them. They are exact and without gradients, in fp64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from .._checks import choice, embeddings, fail, integer

STRIP_BYTES = 64 << 20  # of the distances of a strip
NORMS = {"euclidean": 2.0, "max": math.inf}


def ksg(x: Tensor, y: Tensor, *, k: int = 3, type: int = 1) -> Tensor:
    """Kraskov, Stögbauer and Grassberger's estimate of I(X;Y) (Phys. Rev. E 69, 066138, eqs. 8 and 9), 0-d in fp64.

        type 1   ψ(k) + ψ(N) − mean_i (ψ(n_x,i + 1) + ψ(n_y,i + 1))          n: points nearer than the k-th neighbour
        type 2   ψ(k) − 1/k + ψ(N) − mean_i (ψ(n_x,i) + ψ(n_y,i))            n: within the sides of the k neighbours' box

    Distances are maxima over dimensions, of x, of y, and of both for the neighbours. Scale x and y alike before: a side that
    is large beside the other decides alone who is a neighbour. A point that coincides with k others has n = 0 there.

    x, y   (N, D_x) and (N, D_y) float tensors, N > k; row i of both a pair
    k      neighbours, ≥ 1: few have little bias and much variance

    It is asymptotically unbiased, and reads badly low in more than some ten dimensions: of 2.0 nats it finds about 1.0 in 8 + 8
    dimensions and 0.24 in 32 + 32.

    Raises ValueError or TypeError naming the argument at fault.
    """
    function = "ksg"
    x, y = _points(function, "x", x), _points(function, "y", y)
    if len(x) != len(y):
        fail(function, "y", f"of {len(y)} rows", f"must have {len(x)} like x: row i of both is a pair")
    k = _neighbours(function, k, len(x))
    if type not in (1, 2):
        fail(function, "type", type, "must be 1 or 2")
    N, found = len(x), []
    for strip in _strips(N, 3):
        dx, dy = (_distances(z, strip, math.inf) for z in (x, y))
        both = torch.maximum(dx, dy)
        if type == 1:
            radius = both.kthvalue(k, dim=1, keepdim=True).values
            counts = [(d < radius).sum(dim=1) + 1 for d in (dx, dy)]
        else:
            nearest = both.topk(k, dim=1, largest=False).indices
            counts = [(d <= d.gather(1, nearest).amax(dim=1, keepdim=True)).sum(dim=1) for d in (dx, dy)]
        found.append(sum(torch.digamma(n.double()) for n in counts))
    constant = torch.digamma(torch.tensor([float(k), float(N)], dtype=torch.float64)).sum()
    return constant - (1 / k if type == 2 else 0.0) - torch.cat(found).mean().cpu()  # pyright: ignore[reportArgumentType]


def knn_entropy(z: Tensor, *, k: int = 3, norm: str = "euclidean") -> Tensor:
    """Kozachenko and Leonenko's estimate of the differential entropy, 0-d in fp64.

        ψ(N) − ψ(k) + log V_D + (D/N) Σ_i log ε_i          ε_i the distance of z_i's k-th neighbour, V_D the unit ball's volume

    z     (N, D) float tensor, N > k; −inf where a point coincides with k others
    norm  "euclidean", or "max" over dimensions

    Raises ValueError or TypeError naming the argument at fault.

    >>> knn_entropy(torch.tensor([[0.0], [1.0], [3.0]]), k=1)       # ψ(3) − ψ(1) + log 2 + (log 1 + log 1 + log 2)/3
    tensor(2.4242, dtype=torch.float64)
    """
    function = "knn_entropy"
    z = _points(function, "z", z)
    k = _neighbours(function, k, len(z))
    p = NORMS[choice(function, "norm", norm, tuple(NORMS))]
    N, D = z.shape
    radii = torch.cat([_distances(z, strip, p).kthvalue(k, dim=1).values for strip in _strips(N, 1)])
    log_volume = D * math.log(2) if p == math.inf else D / 2 * math.log(math.pi) - math.lgamma(D / 2 + 1)
    digamma = torch.digamma(torch.tensor([float(N), float(k)], dtype=torch.float64))
    return digamma[0] - digamma[1] + log_volume + D * radii.log().mean().cpu()


def _points(function: str, name: str, z: Tensor) -> Tensor:
    embeddings(function, name, z)
    z = z.detach().double()
    if not bool(z.isfinite().all()):
        fail(function, name, "not finite", "must have neither NaN nor infinities: they have no neighbours")
    return z


def _neighbours(function: str, k: int, N: int) -> int:
    k = integer(function, "k", k)
    if not 1 <= k < N:
        fail(function, "k", k, f"must be between 1 and {N - 1}, one less than the number of rows")
    return k


def _strips(N: int, matrices: int) -> Iterator[slice]:
    rows = max(1, STRIP_BYTES // (8 * N * matrices))
    return (slice(i, min(i + rows, N)) for i in range(0, N, rows))


def _distances(z: Tensor, strip: slice, p: float) -> Tensor:
    """Of the strip's rows to all others, by differences; a row's own is infinite."""
    d = torch.cdist(z[strip], z, p=p, compute_mode="donot_use_mm_for_euclid_dist")
    rows = torch.arange(strip.start, strip.stop, device=z.device)
    d[rows - strip.start, rows] = torch.inf
    return d
