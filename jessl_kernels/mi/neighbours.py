"""Nearest-neighbour references: Kraskov's estimate of the mutual information, and Kozachenko and Leonenko's entropy. In nats.

They are exact, in fp64 and without gradients; `pairwise/neighbours.py` finds the distances without an N×N matrix.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._checks import choice, embeddings, fail, integer, pairs
from ..literals import NORM_NAMES, NormName
from ..pairwise.neighbours import count_nearer, kth_distance, reach_of_nearer


def ksg(x: Tensor, y: Tensor, *, k: int = 3, type: int = 1) -> Tensor:
    """Kraskov, Stögbauer and Grassberger's estimate of I(X;Y) (Phys. Rev. E 69, 066138, eqs. 8 and 9), 0-d in fp64.

        type 1   ψ(k) + ψ(N) − mean_i (ψ(n_x,i + 1) + ψ(n_y,i + 1))          n: points nearer than the k-th neighbour
        type 2   ψ(k) − 1/k + ψ(N) − mean_i (ψ(n_x,i) + ψ(n_y,i))            n: within the sides of the k neighbours' box

    Distances are maxima over dimensions, of x, of y, and of both for the neighbours. Scale x and y alike before: a side that
    is large beside the other decides alone who is a neighbour. A point that coincides with k others has n = 0 there in type 1.
    Points as far as the k-th neighbour belong to the box of type 2.

    The data must have densities. Ties of discrete or rounded data make it read far too high: two independent columns of three
    values each give 9.0 nats at N = 1,000, where the truth is 0.

    x, y   (N, D_x) and (N, D_y) float tensors, N > k; row i of both a pair; no column constant in all rows
    k      neighbours, ≥ 1: few have little bias and much variance
    type   1 or 2

    It is asymptotically unbiased. Without ties it never exceeds ψ(N) − ψ(k). It reads low in more than two dimensions each: of
    2.0 nats it finds 1.5 in 4 + 4 dimensions, 1.0 in 8 + 8 and 0.24 in 32 + 32, at N = 1,000. It has no gradient.

    Raises ValueError or TypeError naming the argument at fault.
    """
    function = "ksg"
    pairs(function, x, y)
    k = _neighbours(function, k, len(x))
    type = integer(function, "type", type, "must be 1 or 2")
    if type not in (1, 2):
        fail(function, "type", type, "must be 1 or 2")
    x, y = _varying(function, "x", x), _varying(function, "y", y)
    radius = kth_distance(function, torch.cat([x, y], dim=1), k, "max")
    if type == 1:
        counts = [count_nearer(function, z, radius) + 1 for z in (x, y)]
    else:
        sides = reach_of_nearer(function, x, y, _above(radius))
        counts = [count_nearer(function, z, _above(side)) for z, side in zip((x, y), sides, strict=True)]
    nx, ny = (torch.digamma(n.double()) for n in counts)
    constant = torch.digamma(torch.tensor([float(k), float(len(x))], dtype=torch.float64)).sum()
    return constant - (1 / k if type == 2 else 0.0) - _mean((nx + ny).tolist())


def knn_entropy(z: Tensor, *, k: int = 3, norm: NormName = "euclidean") -> Tensor:
    """Kozachenko and Leonenko's estimate of the differential entropy, 0-d in fp64.

        ψ(N) − ψ(k) + log V_D + (D/N) Σ_i log ε_i          ε_i the distance of z_i's k-th neighbour, V_D the unit ball's volume

    z     (N, D) float tensor, N > k; −inf where a point coincides with k others
    k     neighbours, ≥ 1: few have little bias and much variance
    norm  "euclidean", or "max" over dimensions

    It has no gradient. Raises ValueError or TypeError naming the argument at fault.

    >>> jk.knn_entropy(torch.tensor([[0.0], [1.0], [3.0]]), k=1)    # ψ(3) − ψ(1) + log 2 + (log 1 + log 1 + log 2)/3
    tensor(2.4242, dtype=torch.float64)
    """
    function = "knn_entropy"
    embeddings(function, "z", z)
    z = _finite(function, "z", z)
    k = _neighbours(function, k, len(z))
    choice(function, "norm", norm, NORM_NAMES)
    N, D = z.shape
    log_volume = D * math.log(2) if norm == "max" else D / 2 * math.log(math.pi) - math.lgamma(D / 2 + 1)
    digamma = torch.digamma(torch.tensor([float(N), float(k)], dtype=torch.float64))
    # Squares of distances neither overflow nor underflow where the largest span is about 1; a power of two rounds nothing.
    _, exponent = math.frexp(float(_span(z).max()))
    exponent = min(max(exponent, -1000), 1000)  # so that the factor is no subnormal
    distances = kth_distance(function, z * 2.0**-exponent, k, norm).tolist()
    log_distance = _mean([math.log(distance) if distance > 0 else -math.inf for distance in distances])
    return digamma[0] - digamma[1] + log_volume + D * (log_distance + exponent * math.log(2))


def _finite(function: str, name: str, z: Tensor) -> Tensor:
    z = z.detach().double()
    if not bool(_span(z).isfinite().all()):
        fail(function, name, "not finite", "must have neither NaN nor infinities, nor differences beyond fp64")
    return z


def _varying(function: str, name: str, z: Tensor) -> Tensor:
    z = _finite(function, name, z)
    constant = (_span(z) == 0).nonzero()
    if len(constant):
        must = "must vary in every column: a constant has no density and shares no information"
        fail(function, name, f"constant in column {int(constant[0])}", must)
    return z


def _span(z: Tensor) -> Tensor:
    low, high = z.aminmax(dim=0)
    return high - low


def _neighbours(function: str, k: int, N: int) -> int:
    k = integer(function, "k", k)
    if not 1 <= k < N:
        fail(function, "k", k, f"must be >= 1 and < {N}, the number of rows")
    return k


def _above(distance: Tensor) -> Tensor:
    """The next number: below it is all that is at most the distance."""
    above = distance.nextafter(distance.new_tensor(math.inf))
    # After torch.set_flush_denormal(True) the number next to 0 counts as 0.
    return torch.where(above > distance, above, torch.finfo(above.dtype).tiny)


def _mean(values: list[float]) -> float:
    """Rounded once, so that it depends neither on the order nor on the number of threads."""
    return math.fsum(values) / len(values)
