"""The reductions over scores that are never stored: log-sum-exp, sum and top-k, over rows, columns or both.

    s_ij = φ(u_ij) + r_i + c_j        u_ij = α⟨x_i, y_j⟩ ("dot") or −α‖x_i − y_j‖² ("sqdist"), some pairs excluded

Every estimator of the package is a formula over these; every loss is one over `row_loss`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import torch
from torch import Tensor

from .. import ops
from .._checks import choice, embeddings, fail, integer
from ..literals import (
    DIMS,
    REDUCTIONS,
    TOTAL_REDUCTIONS,
    Dim,
    ExcludeWord,
    Kind,
    OneSide,
    PhiName,
    PsiName,
    Reduction,
    TotalReduction,
)
from ..problem.exclude import Exclude
from ..problem.phi import Phi
from ..problem.row_loss import Positives, RowProblem
from ..problem.types import Terms
from .arguments import as_scored, constants, psi_of, score_fields, vector, who
from .options import LogSumExpOptions, ScoreOptions, SumOptions
from .row_loss import loss_of

if TYPE_CHECKING:
    from typing_extensions import Unpack


class _Side(NamedTuple):
    """The anchor and the constant weights of rows, or of columns; either may be None."""

    anchor: Tensor | None
    weights: Tensor | None


@overload
def pairwise_logsumexp(
    x: Tensor,
    y: Tensor | None = None,
    *,
    dim: OneSide = "row",
    reduction: TotalReduction = "none",
    **options: Unpack[LogSumExpOptions],
) -> Tensor: ...
@overload
def pairwise_logsumexp(
    x: Tensor,
    y: Tensor | None = None,
    *,
    dim: Literal["both"],
    reduction: Literal["sum", "mean"],
    **options: Unpack[LogSumExpOptions],
) -> Tensor: ...
@overload
def pairwise_logsumexp(
    x: Tensor,
    y: Tensor | None = None,
    *,
    dim: Literal["both"],
    reduction: Literal["none"] = "none",
    **options: Unpack[LogSumExpOptions],
) -> tuple[Tensor, Tensor]: ...
def pairwise_logsumexp(
    x: Tensor,
    y: Tensor | None = None,
    *,
    kind: Kind = "dot",
    phi: Phi | PhiName | None = None,
    scale: float | Tensor = 1.0,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
    anchor: Tensor | None = None,
    col_anchor: Tensor | None = None,
    exclude: Exclude | ExcludeWord | None = None,
    dim: Dim = "row",
    reduction: TotalReduction = "none",
    weights: Tensor | None = None,
    col_weights: Tensor | None = None,
) -> Any:
    """Log-sum-exp of pairwise scores over rows, columns or both, in O(N·D) memory.

        row_i = log Σ_j e^{s_ij}                     without an anchor; −inf for a row without pairs
        row_i = log(1 + Σ_j e^{s_ij − anchor_i})     with an anchor; 0 for a row without pairs

    x            (N, D) float tensor
    y            (M, D) like x; None compares x with itself
    kind         "dot" (u = scale·⟨x_i, y_j⟩) or "sqdist" (u = −scale·‖x_i − y_j‖²)
    phi          φ: None for the identity, a name such as "laplace", or `jk.phi.clamp(low, high)`; s = φ(u) + r + c
    scale        α, float or 0-d tensor; a tensor receives its gradient
    row_bias     r, (N,), or None; −inf excludes a row
    col_bias     c, (M,), or None; −inf excludes a column
    anchor       (N,), or None: the score of row i's positive, which the sum must then exclude
    col_anchor   (M,), or None: the same for columns
    exclude      `jk.Exclude`, "diagonal" or None: pairs left out of every sum
    dim          "row", "col" or "both"
    reduction    "none"; "sum", "mean" (over rows or columns; for "both" their sum); "logsumexp", the total over all pairs
    weights      (N,) constants w: "sum" is Σ w_i row_i and "mean" is Σ w_i row_i / N; a row of weight 0 does not count
    col_weights  (M,) constants v, the same for columns

    Returns row (N,), col (M,), (row, col) for "both", or a 0-d tensor, in fp32 (fp64 for fp64), in nats. With "sum" or
    "mean" the gradient is made in the forward pass, which on most routes saves a matrix product (see `jk.explain`).

    Raises ValueError or TypeError naming the argument at fault; TypeError for weights that require a gradient.

    >>> x = torch.eye(2)
    >>> jk.pairwise_logsumexp(x)                       # log(e + 1), twice
    tensor([1.3133, 1.3133])
    >>> jk.pairwise_logsumexp(x, anchor=torch.ones(2), exclude="diagonal")  # log(1 + e⁻¹): cross entropy with s_ii
    tensor([0.3133, 0.3133])
    """
    function = "pairwise_logsumexp"
    choice(function, "reduction", reduction, TOTAL_REDUCTIONS)
    problem = problem_of(function, x, y, kind, phi, scale, row_bias, col_bias, exclude)
    sides = _sides(function, problem, dim, (anchor, weights), (col_anchor, col_weights))
    if reduction != "logsumexp":
        return _reduce(function, problem, dim, reduction, *sides)
    given = {"anchor": anchor, "col_anchor": col_anchor, "weights": weights, "col_weights": col_weights}
    for name, value in given.items():
        if value is not None:
            must = 'must be None with reduction="logsumexp" (weigh rows by row_bias=weights.log())'
            fail(function, name, "given", must)
    if dim == "both":
        must = 'must be "row" or "col" with reduction="logsumexp": both have the same total'
        fail(function, "dim", '"both"', must)
    return ops.total(problem, who(function, problem))


@overload
def pairwise_sum(
    x: Tensor,
    y: Tensor | None = None,
    *,
    dim: OneSide = "row",
    reduction: Reduction = "none",
    **options: Unpack[SumOptions],
) -> Tensor: ...
@overload
def pairwise_sum(
    x: Tensor,
    y: Tensor | None = None,
    *,
    dim: Literal["both"],
    reduction: Literal["sum", "mean"],
    **options: Unpack[SumOptions],
) -> Tensor: ...
@overload
def pairwise_sum(
    x: Tensor,
    y: Tensor | None = None,
    *,
    dim: Literal["both"],
    reduction: Literal["none"] = "none",
    **options: Unpack[SumOptions],
) -> tuple[Tensor, Tensor]: ...
def pairwise_sum(
    x: Tensor,
    y: Tensor | None = None,
    *,
    psi: PsiName = "softplus",
    kind: Kind = "dot",
    phi: Phi | PhiName | None = None,
    scale: float | Tensor = 1.0,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
    exclude: Exclude | ExcludeWord | None = None,
    dim: Dim = "row",
    reduction: Reduction = "none",
    weights: Tensor | None = None,
    col_weights: Tensor | None = None,
) -> Any:
    """Σ_j ψ(s_ij) over rows, columns or both, in O(N·D) memory.

    psi          "softplus": ψ(s) = log(1 + e^s)
                 "log1m_exp": ψ(s) = log(1 − e^s), for scores below 0
                 "step": ψ(s) = 1 for s > 0, else 0; with row_bias = −threshold it counts the scores above each row's threshold
    reduction    "none", "sum" or "mean"

    The other arguments and the result are those of `pairwise_logsumexp`; a row without pairs gives 0.

    Raises ValueError or TypeError naming the argument at fault; TypeError for weights that require a gradient.

    >>> jk.pairwise_sum(torch.eye(2), exclude="diagonal")  # softplus(0) = log 2
    tensor([0.6931, 0.6931])
    """
    function = "pairwise_sum"
    psi_of(function, "psi", psi)
    choice(function, "reduction", reduction, REDUCTIONS)
    problem = problem_of(function, x, y, kind, phi, scale, row_bias, col_bias, exclude)
    sides = _sides(function, problem, dim, (None, weights), (None, col_weights))
    return _reduce(function, replace(problem, negatives=Terms(psi)), dim, reduction, *sides)


@overload
def pairwise_topk(
    x: Tensor, y: Tensor | None = None, *, k: int = 1, dim: OneSide = "row", **options: Unpack[ScoreOptions]
) -> tuple[Tensor, Tensor]: ...
@overload
def pairwise_topk(
    x: Tensor, y: Tensor | None = None, *, k: int = 1, dim: Literal["both"], **options: Unpack[ScoreOptions]
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]: ...
def pairwise_topk(
    x: Tensor,
    y: Tensor | None = None,
    *,
    k: int = 1,
    kind: Kind = "dot",
    phi: Phi | PhiName | None = None,
    scale: float | Tensor = 1.0,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
    exclude: Exclude | ExcludeWord | None = None,
    dim: Dim = "row",
) -> Any:
    """The k largest scores of each row (or column, or both) and their indices, in O(N·(D + k)) memory.

    k            the number of scores, 1 ≤ k ≤ M (N for columns)

    The other arguments are those of `pairwise_logsumexp`. Values are sorted in descending order and receive gradients;
    the order among equal scores is not specified. If a row has fewer than k pairs, missing values are −inf, indices −1.

    Returns (values (N, k) in fp32 or fp64, indices (N, k) int64); for "both" a pair of such pairs, rows first.

    Raises ValueError or TypeError naming the argument at fault.

    >>> values, indices = jk.pairwise_topk(torch.eye(3), k=1)
    >>> indices.flatten()
    tensor([0, 1, 2])
    """
    function = "pairwise_topk"
    choice(function, "dim", dim, DIMS)
    problem = problem_of(function, x, y, kind, phi, scale, row_bias, col_bias, exclude)
    k = integer(function, "k", k)
    most = {"row": problem.M, "col": problem.N, "both": min(problem.N, problem.M)}[dim]
    if not 1 <= k <= most:
        fail(function, "k", k, f"must be between 1 and {most}, the number of candidates")
    # Widened once for both sides, so that their gradients are added before they are rounded to the inputs' dtype.
    rows, keys = problem.x[0].to(problem.dtype), problem.keys[0].to(problem.dtype)
    found = [_topk(function, problem, k, rows, keys)] if dim != "col" else []
    if dim != "row":
        found.append(_topk(function, problem.transposed(), k, keys, rows))
    return found[0] if len(found) == 1 else tuple(found)


def problem_of(
    function: str, x: Any, y: Any, kind: str, phi: Any, scale: Any, row_bias: Any, col_bias: Any, exclude: Any
) -> RowProblem:
    """The checked problem, without positives."""
    embeddings(function, "x", x)
    if y is not None:
        embeddings(function, "y", y, like=("x", x))
    N, M = x.shape[0], (x if y is None else y).shape[0]
    checked = score_fields(function, x, N, M, kind, phi, scale, row_bias, col_bias, exclude)
    rows, keys = as_scored((x,), () if y is None else (y,), kind)
    return RowProblem(x=rows, y=keys, **checked)


def _sides(function: str, problem: RowProblem, dim: str, row: tuple, col: tuple) -> tuple[_Side, _Side]:
    """The anchors and weights of rows and of columns, checked; a side that is not reduced must have none."""
    choice(function, "dim", dim, DIMS)
    if 0 in problem.exclude.keep and (row[0] is not None or col[0] is not None):
        must = (
            "must not hold 0 with an anchor: row i's own pair would count twice (for another, row_loss has positives)"
        )
        fail(function, "exclude.keep", problem.exclude.keep, must)
    sides = []
    for side, names, (anchor, weights), length in (
        ("row", ("anchor", "weights"), row, problem.N),
        ("col", ("col_anchor", "col_weights"), col, problem.M),
    ):
        for name, value in zip(names, (anchor, weights), strict=True):
            if value is not None and dim not in (side, "both"):
                fail(function, name, "given", f'must be None with dim="{dim}"')
        x = problem.x[0]
        anchor = vector(function, names[0], anchor, x, length)
        sides.append(_Side(anchor, constants(function, names[1], weights, x, length)))
    return sides[0], sides[1]


def _reduce(function: str, problem: RowProblem, dim: str, reduction: str, row: _Side, col: _Side) -> Any:
    """A loss of rows without positives, or with an anchor as each row's positive."""
    if reduction == "none":
        for name, side in (("weights", row), ("col_weights", col)):
            if side.weights is not None:
                fail(function, name, "given", 'must be None with reduction="none": multiply the result')
    if dim == "both" and (row.anchor is None) != (col.anchor is None):
        sides = [_reduce(function, problem, each, reduction, row, col) for each in ("row", "col")]
        return tuple(sides) if reduction == "none" else sides[0] + sides[1]
    if dim == "col":  # columns alone are the rows of the transposed problem
        problem, row = problem.transposed(), col
    problem = replace(problem, cols=dim == "both")
    if row.anchor is not None:
        problem = replace(
            problem, positives=Positives(score=row.anchor, col_score=col.anchor if problem.cols else None)
        )
    join = "none" if row.anchor is None else "softplus"
    of_columns = col.weights if problem.cols else None
    return loss_of(function, problem, join, reduction, weights=row.weights, col_weights=of_columns)


def _topk(function: str, problem: RowProblem, k: int, x: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Indices from the backend; values from the k chosen pairs of each row, so that autograd differentiates only those."""
    with torch.no_grad():
        values, indices = ops.top_k(problem, k, who(function, problem))
        absent = values == -torch.inf
        indices = indices.masked_fill(absent, 0)
    flat = indices.flatten()
    x = x.unsqueeze(1)  # (N, 1, D)
    chosen = ops.gather_rows(keys, flat).unflatten(0, indices.shape)  # (N, k, D)
    t = (x * chosen).sum(dim=2) if problem.kind == "dot" else -(x - chosen).square().sum(dim=2)
    u = problem.scale * t
    s = u
    if problem.phi.name != "identity":
        # φ works in place and has a slope of its own (finite where two points meet), so autograd sees φ(u) + φ'(u)·du.
        at = u.detach()
        s = problem.phi(at.clone()) + problem.phi.derivative(at) * (u - at)
    if problem.row_bias is not None:
        s = s + problem.row_bias.unsqueeze(1)
    if problem.col_bias is not None:
        s = s + ops.gather_rows(problem.col_bias, flat).view_as(s)
    return s.masked_fill(absent, -torch.inf), indices.masked_fill(absent, -1)
