"""How directions lie on the sphere: uniformity, and entropies by surface area. Every row is a unit vector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .._checks import widest
from ..autocast import without_autocast
from ..functional.kernels import log_hyp0f1_of_half_square, log_sphere_area
from ..pairwise import pairwise_topk
from .sample import Sample

T = 2.0  # of uniformity, as in the paper
CONCENTRATIONS = tuple(2.0**p for p in range(2, 13))  # from nearly flat to cosines of 0.999
SPARE = 8  # candidates beyond k
GATHERED = 2**22  # numbers of neighbours' rows that are compared at a time


def log_mean_kernel(D: int, concentration: float) -> float:
    """log of the mean of e^{κ⟨x, μ⟩} over the sphere."""
    return float(log_hyp0f1_of_half_square(D / 2, torch.tensor(concentration, dtype=torch.float64)))


def vmf_entropies(x: Tensor, sample: Sample, concentrations: Sequence[float]) -> list[Tensor]:
    """For each κ (Q,) −log p̂(x_i), each point left out of its own density."""
    area, N = log_sphere_area(x.shape[1]), sample.N
    sums = sample.log_sums(x, concentrations)
    return [
        area + log_mean_kernel(x.shape[1], kappa) + math.log(N - 1) - of_kappa
        for kappa, of_kappa in zip(concentrations, sums, strict=True)
    ]


def even_uniformity(D: int) -> float:
    """The uniformity of points that are even on the sphere."""
    return log_mean_kernel(D, 2 * T) - 2 * T


@dataclass(frozen=True)
class Neighbours:
    """The nearest other rows of each query, the nearest first.

    index     (Q, k)
    distance  (Q, k) by differences, in fp64 where the device has it
    """

    index: Tensor
    distance: Tensor


def neighbours(x: Tensor, sample: Sample, k: int) -> Neighbours:
    """By one sweep, whose scores choose some candidates more than k: cosines in fp32 cannot tell near duplicates apart, and
    differences of rows can."""
    rows = torch.arange(sample.N, device=x.device) if sample.index is None else sample.index
    candidates = min(k + SPARE, sample.N - 1)
    indices, distances = [], []
    for some in rows.split(max(GATHERED // (candidates * x.shape[1]), 1)):
        with without_autocast(x.device):
            _, found = pairwise_topk(x[some], x, k=candidates, exclude=Sample(sample.N, some).own)
        apart = torch.linalg.vector_norm(x[some][:, None] - x[found], dim=2)
        distance, order = apart.topk(k, dim=1, largest=False)
        indices.append(found.gather(1, order))
        distances.append(distance.to(widest(x.device)))
    return Neighbours(torch.cat(indices), torch.cat(distances))


def knn_entropy(near: Neighbours, sample: Sample, k: int, D: int) -> Tensor:
    """(Q,) ψ(N) − ψ(k) + log A(ε_i), on the CPU; the mean is Kozachenko and Leonenko's entropy. A is the area of the cap around
    x_i that reaches to its k-th neighbour. −inf where x_i coincides with k others."""
    digamma = torch.digamma(torch.tensor([float(sample.N), float(k)], dtype=torch.float64))
    return float(digamma[0] - digamma[1]) + log_cap_area(near.distance[:, k - 1].cpu(), D)


def log_cap_area(chord: Tensor, D: int) -> Tensor:
    """log of the area of the cap of the unit sphere in R^D whose rim is so far from its pole, in a straight line.

    The cap's share of the sphere is I_u(a, a), the regularised incomplete beta function, with u = chord²/4 and a = (D − 1)/2.
    """
    a, u = (D - 1) / 2, (chord.double().square() / 4).clamp(0, 1)
    far = u > 0.5
    near = torch.where(far, 1 - u, u)
    # For u ≤ ½ I_u(a, a) B(a, a) = u^a (1 − u)^a / a · Σ_n Π_{m<n} (2a + m)/(a + 1 + m) u^n, whose ratios fall and are below 1.
    term, total, n = torch.ones_like(near), torch.ones_like(near), 0
    while bool((term > 1e-17 * total).any()):
        term = term * (near * ((2 * a + n) / (a + 1 + n)))
        total, n = total + term, n + 1
    log_beta = 2 * math.lgamma(a) - math.lgamma(2 * a)
    log_share = a * (near.log() + torch.log1p(-near)) - math.log(a) - log_beta + total.log()
    return log_sphere_area(D) + torch.where(far, torch.log1p(-log_share.exp()), log_share)
