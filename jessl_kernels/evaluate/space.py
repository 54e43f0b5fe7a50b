"""How rows lie in space, as they are: entropy by a Gaussian kernel, and effective rank."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .._checks import accumulation_dtype, widest
from ..functional.bandwidth import rule_factor
from .sample import Sample

BLOCK = 16384  # rows that are widened at a time
STEPS = range(-2, 10)  # widths that are tried, each √2 times the next, from twice Silverman's on


def widths(z: Tensor) -> list[float]:
    """Bandwidths around Silverman's for the deviation of all columns together; empty if no row differs from another."""
    if bool((z == z[0]).all()):
        return []
    spread = float(z.to(accumulation_dtype(z.dtype)).var(dim=0).mean().sqrt())
    return [rule_factor("silverman", *z.shape) * spread * 2 ** (-step / 2) for step in STEPS]


def magnitude(z: Tensor) -> float:
    """1; or the power of 2 above all numbers of z, if their squares would overflow or vanish in fp32."""
    exponent = math.frexp(float(_largest(z)))[1]
    return 1.0 if abs(exponent) < 40 else math.ldexp(1.0, exponent)


def gaussian_entropies(z: Tensor, sample: Sample, bandwidths: Sequence[float]) -> list[Tensor]:
    """For each h (Q,) −log p̂(z_i), each point left out of its own density."""
    N, D = z.shape
    sums = sample.log_sums(z, [0.5 / h**2 for h in bandwidths], kind="sqdist")
    return [
        D * (math.log(h) + 0.5 * math.log(2 * math.pi)) + math.log(N - 1) - of_h
        for h, of_h in zip(bandwidths, sums, strict=True)
    ]


def singular_values(z: Tensor) -> Tensor:
    """(min(N, D),) in fp64 on the CPU, the largest first. They come from the eigenvalues of zᵀz: below 1e-8 of the largest they
    are noise."""
    dtype, largest = widest(z.device), _largest(z)
    gram = z.new_zeros(z.shape[1], z.shape[1], dtype=dtype)
    for block in z.split(BLOCK):
        wide = block.to(dtype) / largest
        gram.addmm_(wide.T, wide)
    found = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt().flip(0)
    return (found * largest).cpu().double()[: min(z.shape)]


def effective_rank(singular: Tensor) -> float:
    """exp of the entropy of the singular values divided by their sum."""
    p = singular / singular.sum()
    return float(torch.special.entr(p).sum().exp())


def _largest(z: Tensor) -> Tensor:
    """The largest magnitude, without a copy of all of them."""
    least, most = z.aminmax()
    return torch.maximum(-least, most)
