"""Losses of rows whose launches cover every kernel, as the compile matrix and the cost model take them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from jessl_kernels import phi
from jessl_kernels.problem.exclude import Exclude
from jessl_kernels.problem.row_loss import Loss, Positives, RowProblem
from jessl_kernels.problem.types import Needs, SideSlopes, Slopes, Terms
from jessl_kernels.triton import dispatch
from jessl_kernels.triton.row_loss import row_grads, row_loss, row_sums

WORKSPACE = 256 << 20
SOFTPLUS, OF_POSITIVES = Terms("softplus"), Terms("softplus", (-1.0,))
SEVERAL = Terms(linear=True)
Case = tuple[Callable[[RowProblem], object], Callable[[], RowProblem]]  # what is made of a problem, and the problem


def problem(
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
) -> RowProblem:
    """Zeros: only shapes, strides and dtypes matter. rest: so many keys follow those of y, or of x where it is symmetric."""
    x, y = torch.zeros(2, N, D, dtype=dtype)
    bias = torch.zeros(N, dtype=torch.float32) if biased else None
    scale = torch.ones((), dtype=torch.float64)
    further = (torch.zeros(rest, D, dtype=dtype),) if rest else ()
    pieces = ((x, *further), ()) if symmetric else ((x,), (y, *further))
    return RowProblem(*pieces, scale, bias, bias, exclude or Exclude((0,)), kind, of)


def needs(p: RowProblem, *, biases: bool = False) -> Needs:
    """Of embeddings and scale, and of the biases that are there."""
    row, col = (biases and bias is not None for bias in (p.row_bias, p.col_bias))
    return Needs(True, slice(0, p.M if p.y else 0), True, row, col)


def whole(p: RowProblem, join: str, *, biases: bool = False, reduction: str = "mean") -> None:
    row_loss(p, Loss(join, reduction), needs(p, biases=biases), WORKSPACE)


def one_sided(p: RowProblem, op: str = "logsumexp", *, biases: bool = False) -> None:
    """Of rows alone; a log-sum-exp beside scores that are given."""
    given = Positives(score=torch.zeros(p.N, dtype=p.dtype)) if op == "logsumexp" else Positives()
    p = dataclasses.replace(p, positives=given, negatives=Terms(op))
    whole(p, "softplus" if given.there else "none", biases=biases)


def both_sided(p: RowProblem, op: str = "logsumexp", *, biases: bool = False) -> None:
    whole(dataclasses.replace(p, cols=bool(p.y), negatives=Terms(op)), "none", biases=biases)


def top_k(p: RowProblem) -> None:
    score = p.score(p.x[0], p.y[0] if p.y else None)
    dispatch.top_k(score, min(2, score.M), WORKSPACE)


def recomputed(p: RowProblem) -> None:
    sums = row_sums(p, WORKSPACE)
    slopes = Slopes(SideSlopes(torch.ones(1, p.N, dtype=p.dtype)))
    row_grads(p, sums, slopes, needs(p), WORKSPACE)


def info_nce(dtype: torch.dtype, D: int, N: int = 4096, rest: int = 0, normalize: bool = False) -> Case:
    return (
        lambda p: whole(p, "softplus"),
        lambda: _paired(problem(dtype, D, N=N, rest=rest, exclude=Exclude()), normalize=normalize),
    )


def clip(dtype: torch.dtype, D: int, N: int = 4096, normalize: bool = True) -> Case:
    return (
        lambda p: whole(p, "softplus"),
        lambda: _paired(problem(dtype, D, N=N, exclude=Exclude()), cols=True, normalize=normalize),
    )


def nt_xent(dtype: torch.dtype, D: int, N: int = 4096, join: str = "softplus") -> Case:
    """Two views in two pieces."""
    return (
        lambda p: whole(p, join),
        lambda: _paired(problem(dtype, D, N=N, symmetric=True, rest=N), N, normalize=True),
    )


def sup_con(dtype: torch.dtype, D: int, N: int = 4096, join: str = "softplus_spread") -> Case:
    """Of pairs of one label. The gradient of the scale too, which fixes what a sweep sums at a time."""

    def made() -> RowProblem:
        ids = torch.arange(N) // 2
        positives = Positives(row_ids=ids, col_ids=ids)
        given = problem(dtype, D, N=N, symmetric=True)
        return dataclasses.replace(given, positives=positives, of_positives=SEVERAL, normalize=True)

    return lambda p: whole(p, join, reduction="mean_counted"), made


def siglip(dtype: torch.dtype, D: int, N: int = 4096) -> Case:
    def made() -> RowProblem:
        given = dataclasses.replace(problem(dtype, D, N=N, biased=True, exclude=Exclude()), col_bias=None)
        return _paired(given, normalize=True, negatives=SOFTPLUS, of_positives=OF_POSITIVES)

    return lambda p: whole(p, "sum", biases=True), made


def hard(dtype: torch.dtype, D: int, N: int = 4096) -> Case:
    """Two tilts of the negatives."""
    return (
        lambda p: whole(p, "tilt_difference"),
        lambda: _paired(
            problem(dtype, D, N=N, symmetric=True, rest=N), N, normalize=True, negatives=Terms(tilts=(1.5, 0.5))
        ),
    )


def _paired(p: RowProblem, shift: int = 0, **fields: object) -> RowProblem:
    return dataclasses.replace(p, positives=Positives(shift=shift), **fields)  # pyright: ignore[reportArgumentType]
