"""Reductions whose launches cover every kernel, as the compile matrix and the cost model take them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from jessl_kernels import phi
from jessl_kernels.backends import WORKSPACE
from jessl_kernels.problem.exclude import Exclude
from jessl_kernels.problem.row_loss import Labelling, Pairing
from jessl_kernels.problem.score import Score
from jessl_kernels.problem.types import Needs, Upstream, Weighted
from jessl_kernels.triton import dispatch, losses
from jessl_kernels.triton.sup_con import labelled

ALL = Needs(True, True, True, True, True)
EMBEDDINGS = Needs(True, True, True, False, False)
WITH_BIAS = dataclasses.replace(EMBEDDINGS, row_bias=True)
Case = tuple[Callable[[Score], object], Callable[[], Score]]  # what is reduced, and the score


def score(
    dtype: torch.dtype,
    D: int,
    *,
    N: int = 4096,
    kind: str = "dot",
    symmetric: bool = False,
    exclude: Exclude | None = None,
    biased: bool = False,
    of: phi.Phi = phi.IDENTITY,
    rest: int = 0,
) -> Score:
    """Zeros: only shapes, strides and dtypes matter. rest: so many keys follow those of y, or of x where it is symmetric."""
    x, y = torch.zeros(2, N, D, dtype=dtype)
    bias = torch.zeros(N, dtype=torch.float32) if biased else None
    scale = torch.ones((), dtype=torch.float64)
    further = torch.zeros(rest, D, dtype=dtype) if rest else None
    return Score(x, None if symmetric else y, scale, bias, bias, exclude or Exclude((0,)), kind, of, rest=further)


def one_sided(s: Score, op: str = "logsumexp", needs: Needs = EMBEDDINGS) -> None:
    weight = torch.ones(s.N, dtype=s.dtype)
    dispatch.reduce_and_gradient(s, op, Weighted(weight, weight if op == "logsumexp" else None), None, needs, WORKSPACE)


def both_sided(s: Score, op: str = "logsumexp", needs: Needs = EMBEDDINGS) -> None:
    weight = torch.ones(s.N, dtype=s.dtype)
    dispatch.reduce_and_gradient(s, op, Weighted(weight, None), Weighted(weight, None), needs, WORKSPACE)


def top_k(s: Score) -> None:
    dispatch.top_k(s, min(2, s.M), WORKSPACE)


def recomputed(s: Score, needs: Needs = EMBEDDINGS) -> None:
    vector = torch.ones(s.N, dtype=s.dtype)
    dispatch.reduce(s, "logsumexp", False, WORKSPACE)
    dispatch.gradient(s, "logsumexp", Upstream(vector, vector), None, needs, WORKSPACE)


def whole(s: Score, join: str, needs: Needs = EMBEDDINGS, **pairing: Any) -> None:
    """A loss of rows and their partners; "softplus" is that of sums of ψ."""
    op = "softplus" if join == "softplus" else "logsumexp"
    losses.paired(s, op, Pairing(1 / s.N, join, **pairing), needs, WORKSPACE)


def info_nce(dtype: torch.dtype, D: int, N: int = 4096, rest: int = 0, normalize: bool = False) -> Case:
    return (
        lambda s: whole(s, "anchor", EMBEDDINGS, normalize=normalize),
        lambda: score(dtype, D, N=N, rest=rest),
    )


def clip(dtype: torch.dtype, D: int, N: int = 4096, normalize: bool = True) -> Case:
    return (
        lambda s: whole(s, "anchor", EMBEDDINGS, cols=True, normalize=normalize),
        lambda: score(dtype, D, N=N),
    )


def nt_xent(dtype: torch.dtype, D: int, N: int = 4096, join: str = "anchor") -> Case:
    """Two views in two pieces."""
    return (
        lambda s: whole(s, join, EMBEDDINGS, shift=N, normalize=True),
        lambda: score(dtype, D, N=N, symmetric=True, rest=N, exclude=Exclude((0, N, -N))),
    )


def sup_con(dtype: torch.dtype, D: int, N: int = 4096, form: str = "out") -> Case:
    """Of pairs of one label. The gradient of the scale too, which fixes what a sweep sums at a time."""
    return (
        lambda s: labelled(s, Labelling(torch.arange(s.N) // 2, form, 1.0, True, True), EMBEDDINGS, WORKSPACE),
        lambda: score(dtype, D, N=N, symmetric=True, exclude=Exclude()),
    )


def siglip(dtype: torch.dtype, D: int, N: int = 4096) -> Case:
    return (
        lambda s: whole(s, "softplus", WITH_BIAS, normalize=True),
        lambda: dataclasses.replace(score(dtype, D, N=N, biased=True), col_bias=None),
    )
