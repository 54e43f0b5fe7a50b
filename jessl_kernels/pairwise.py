"""The reductions over scores that are never stored: log-sum-exp, sum and top-k, over rows, columns or both.

    s_ij = φ(u_ij) + r_i + c_j        u_ij = α⟨x_i, y_j⟩ ("dot") or −α‖x_i − y_j‖² ("sqdist"), some pairs excluded

Every loss and estimator of the package is a formula over these. This module checks arguments and settles what is asked:
which dtype under autocast, which backend, and whether the gradient can be made in the forward pass.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from . import ops
from ._checks import accumulation_dtype, choice, embeddings, fail, scalar, wrong_type
from .autocast import under_autocast
from .backends import BACKENDS, select, settings
from .problem.exclude import NOTHING, Exclude, as_exclude
from .problem.phi import IDENTITY, PHIS, Phi
from .problem.psi import PSIS
from .problem.row_loss import Labelling, Pairing
from .problem.score import KINDS, Score
from .problem.types import Needs, Weighted, known_upstream

Dim = Literal["row", "col", "both"]
DIMS = ("row", "col", "both")


class _Side(NamedTuple):
    """What is asked of rows, or of columns: an anchor and constant weights, either of them possibly None."""

    anchor: Tensor | None
    weights: Tensor | None


def pairwise_logsumexp(
    x: Tensor,
    y: Tensor | None = None,
    *,
    kind: str = "dot",
    phi: Phi | str | None = None,
    scale: float | Tensor = 1.0,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
    anchor: Tensor | None = None,
    col_anchor: Tensor | None = None,
    exclude: Exclude | str | None = None,
    dim: Dim = "row",
    reduction: str = "none",
    weights: Tensor | None = None,
    col_weights: Tensor | None = None,
) -> Any:
    """Log-sum-exp of pairwise scores over rows, columns or both, in O(N·D) memory.

        row_i = log Σ_j e^{s_ij}                     without an anchor; −inf for a row without pairs
        row_i = log(1 + Σ_j e^{s_ij − anchor_i})     with one; 0 for a row without pairs

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
    reduction    "none"; "sum", "mean" (over rows, over columns; of "both" their sum); "logsumexp", the total over all pairs
    weights      (N,) constants w: "sum" is Σ w_i row_i and "mean" is Σ w_i row_i / N; a row of weight 0 counts for nothing
    col_weights  (M,) constants v, the same for columns

    Returns row (N,), col (M,), (row, col) for "both", or a 0-d tensor, in fp32 (fp64 for fp64), in nats. With "sum" or
    "mean" the gradient is made in the forward pass, which on most routes saves a matrix product: `jk.explain` says.

    Raises ValueError or TypeError naming the argument at fault; TypeError for weights that require a gradient.

    >>> x = torch.eye(2)
    >>> jk.pairwise_logsumexp(x)                       # log(e + 1), twice
    tensor([1.3133, 1.3133])
    >>> jk.pairwise_logsumexp(x, anchor=torch.ones(2), exclude="diagonal")  # log(1 + e⁻¹): cross entropy with s_ii
    tensor([0.3133, 0.3133])
    """
    function = "pairwise_logsumexp"
    choice(function, "reduction", reduction, ("none", "sum", "mean", "logsumexp"))
    score = _score(function, x, y, kind, phi, scale, row_bias, col_bias, exclude)
    sides = _sides(function, score, dim, (anchor, weights), (col_anchor, col_weights))
    if reduction == "logsumexp":
        for name, value in (
            ("anchor", anchor),
            ("col_anchor", col_anchor),
            ("weights", weights),
            ("col_weights", col_weights),
        ):
            if value is not None:
                fail(
                    function,
                    name,
                    "given",
                    'must be None with reduction="logsumexp" (weigh rows by row_bias=weights.log())',
                )
        if dim == "both":
            fail(
                function, "dim", '"both"', 'must be "row" or "col" with reduction="logsumexp": both have the same total'
            )
    return _reduce(function, score, "logsumexp", dim, reduction, *sides)


def pairwise_sum(
    x: Tensor,
    y: Tensor | None = None,
    *,
    psi: str = "softplus",
    kind: str = "dot",
    phi: Phi | str | None = None,
    scale: float | Tensor = 1.0,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
    exclude: Exclude | str | None = None,
    dim: Dim = "row",
    reduction: str = "none",
    weights: Tensor | None = None,
    col_weights: Tensor | None = None,
) -> Any:
    """Σ_j ψ(s_ij) over rows, columns or both, in O(N·D) memory.

    psi          "softplus": ψ(s) = log(1 + e^s)
    reduction    "none", "sum" or "mean"

    The other arguments and the result are those of `pairwise_logsumexp`; a row without pairs gives 0.

    Raises ValueError or TypeError naming the argument at fault; TypeError for weights that require a gradient.

    >>> jk.pairwise_sum(torch.eye(2), exclude="diagonal")  # softplus(0) = log 2
    tensor([0.6931, 0.6931])
    """
    function = "pairwise_sum"
    choice(function, "psi", psi, tuple(PSIS))
    choice(function, "reduction", reduction, ("none", "sum", "mean"))
    score = _score(function, x, y, kind, phi, scale, row_bias, col_bias, exclude)
    sides = _sides(function, score, dim, (None, weights), (None, col_weights))
    return _reduce(function, score, psi, dim, reduction, *sides)


def pairwise_topk(
    x: Tensor,
    y: Tensor | None = None,
    *,
    k: int = 1,
    kind: str = "dot",
    phi: Phi | str | None = None,
    scale: float | Tensor = 1.0,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
    exclude: Exclude | str | None = None,
    dim: Dim = "row",
) -> Any:
    """The k largest scores of each row (or column, or both) and where they are, in O(N·(D + k)) memory.

    k            how many, 1 ≤ k ≤ M (N for columns)

    The other arguments are those of `pairwise_logsumexp`. Values are sorted in descending order and receive gradients;
    the order among equal scores is not specified. Where fewer than k pairs are in, the value is −inf and the index −1.

    Returns (values (N, k) in fp32 or fp64, indices (N, k) int64); for "both" a pair of such pairs, rows first.

    Raises ValueError or TypeError naming the argument at fault.

    >>> values, indices = jk.pairwise_topk(torch.eye(3), k=1)
    >>> indices.flatten()
    tensor([0, 1, 2])
    """
    function = "pairwise_topk"
    choice(function, "dim", dim, DIMS)
    score = _score(function, x, y, kind, phi, scale, row_bias, col_bias, exclude)
    if isinstance(k, bool) or not isinstance(k, int):
        wrong_type(function, "k", k, "must be an int")
    most = {"row": score.M, "col": score.N, "both": min(score.N, score.M)}[dim]
    if not 1 <= k <= most:
        fail(function, "k", k, f"must be between 1 and {most}, the number of candidates")
    # Wide once for both sides, so that their gradients meet before they are rounded to the inputs' dtype.
    x, keys = score.x.to(score.dtype), score.keys.to(score.dtype)
    results = [_topk(function, s, k, *ends) for s, ends in _oriented(score, dim, (x, keys))]
    return results[0] if len(results) == 1 else tuple(results)


def paired_in_one(
    x: Tensor,
    y: Tensor | None,
    rest: Tensor | None,
    *,
    psi: str | None,
    scale: Tensor,
    row_bias: Tensor | None,
    exclude: Exclude | str,
    pairing: Pairing,
) -> Tensor | None:
    """The summed loss of rows and their partners in one call of the backend, norms and partners' scores included.

    `rest` holds the rows of y, or of x where y is None, that follow those.
    None where the backend that would compute it has no such call, or autocast wants other embeddings than these.
    """
    if row_bias is not None:
        row_bias = row_bias.to(accumulation_dtype(x.dtype))
    M = len(x if y is None else y) + (0 if rest is None else len(rest))
    out = as_exclude("paired", exclude, M if y is None else len(x), M, x.device)
    score = Score(x, y, scale, row_bias, None, out, "dot", IDENTITY, settings().skip_below, rest)
    op = psi or "logsumexp"
    backend = _whole("paired", score, op)
    return (
        ops.paired(score, op, pairing, _needs(score), backend, settings().workspace_on(x.device)) if backend else None
    )


def labelled_in_one(x: Tensor, *, scale: Tensor, labelling: Labelling) -> Tensor | None:
    """SupCon in one call of the backend, or None as for `paired_in_one`."""
    score = Score(x, None, scale, None, None, NOTHING, "dot", IDENTITY, settings().skip_below)
    # Traced it is not asked for: the reductions that it consists of are made for that.
    backend = _whole("labelled", score, "logsumexp") if ops.is_plain(score) else None
    return (
        ops.labelled(score, labelling, _needs(score), backend, settings().workspace_on(x.device)) if backend else None
    )


def _whole(loss: str, score: Score, op: str) -> str | None:
    """The name of the backend that would compute this, if it has a call for the whole loss of these very embeddings."""
    backend = select("this loss", score, op)
    module = BACKENDS[backend]
    takes = hasattr(module, loss) and (not hasattr(module, "whole") or module.whole(score, loss))
    return backend if takes and under_autocast(score.x)[0] is score.x else None


def describe(
    function: str, x: Any, y: Any, psi: Any, kind: str, phi: Any, scale: Any, exclude: Any, dim: Any, reduction: Any
) -> tuple[Score, str]:
    """The checked problem and operation of a reduction, as its backend would be handed them."""
    choice(function, "reduction", reduction, ("none", "sum", "mean", "logsumexp"))
    choice(function, "dim", dim, DIMS)
    op = "logsumexp" if psi is None else choice(function, "psi", psi, tuple(PSIS))
    score = _score(function, x, y, kind, phi, scale, None, None, exclude)
    return (score.transposed() if dim == "col" else score), op


def _score(
    function: str, x: Any, y: Any, kind: str, phi: Any, scale: Any, row_bias: Any, col_bias: Any, exclude: Any
) -> Score:
    """The checked problem. Dot scores follow autocast; squared distances, which would lose everything to it, run in fp32."""
    embeddings(function, "x", x)
    if y is not None:
        embeddings(function, "y", y, like=("x", x))
    choice(function, "kind", kind, KINDS)
    N, M = x.shape[0], (x if y is None else y).shape[0]
    score = Score(
        x=x,
        y=y,
        scale=scalar(function, "scale", scale, ("x", x)),
        row_bias=_vector(function, "row_bias", row_bias, x, N),
        col_bias=_vector(function, "col_bias", col_bias, x, M),
        exclude=as_exclude(function, exclude, N, M, x.device),
        kind=kind,
        phi=_phi(function, phi, kind),
        skip_below=settings().skip_below,
    )
    if kind == "sqdist":
        return score
    ends = under_autocast(x) if y is None else under_autocast(x, y)
    return replace(score, x=ends[0], y=None if y is None else ends[1])


def _phi(function: str, phi: Any, kind: str) -> Phi:
    if isinstance(phi, str):
        choice(function, "phi", phi, tuple(PHIS))
        if phi == "clamp":
            fail(function, "phi", "'clamp'", "must be jk.phi.clamp(low, high), which says where to clamp")
        phi = PHIS[phi]
    if phi is None:
        return IDENTITY
    if not isinstance(phi, Phi):
        wrong_type(function, "phi", phi, "must be a name, a jk.phi.Phi or None")
    if kind not in phi.kinds:
        fail(
            function,
            "phi",
            repr(phi.name),
            f'must be defined for kind="{kind}"; this one is for {" and ".join(phi.kinds)}',
        )
    return phi


def _vector(function: str, name: str, value: Any, x: Tensor, length: int) -> Tensor | None:
    """A bias, an anchor or weights: one number per row or column, in the accumulation dtype; the graph is kept."""
    if value is None:
        return None
    if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
        wrong_type(function, name, value, "must be a float tensor or None")
    if value.shape != (length,):
        fail(function, name, f"of shape {tuple(value.shape)}", f"must be ({length},)")
    if value.device != x.device:
        fail(function, name, f"on {value.device}", f"must be on {x.device} like x")
    return value.to(accumulation_dtype(x.dtype))


def _sides(function: str, score: Score, dim: str, row: tuple, col: tuple) -> tuple[_Side, _Side]:
    """The anchors and weights of rows and of columns, checked; those of a side that is not reduced must be absent."""
    choice(function, "dim", dim, DIMS)
    sides = []
    for side, names, values, length in (
        ("row", ("anchor", "weights"), row, score.N),
        ("col", ("col_anchor", "col_weights"), col, score.M),
    ):
        for name, value in zip(names, values, strict=True):
            if value is not None and dim not in (side, "both"):
                fail(function, name, "given", f'must be None with dim="{dim}"')
        sides.append(
            _Side(*(_vector(function, name, value, score.x, length) for name, value in zip(names, values, strict=True)))
        )
        weights = sides[-1].weights
        if weights is not None and weights.requires_grad:
            wrong_type(function, names[1], weights, "must not require a gradient: weights are constants (detach them)")
    return sides[0], sides[1]


def _oriented(score: Score, dim: str, ends: tuple[Tensor, Tensor]) -> list[tuple[Score, tuple[Tensor, Tensor]]]:
    """The problems whose rows are what is asked for, each with its two batches in that order."""
    orientations = (dim != "col", score, ends), (dim != "row", score.transposed(), (ends[1], ends[0]))
    return [(s, e) for wanted, s, e in orientations if wanted]


def _reduce(function: str, score: Score, op: str, dim: str, reduction: str, row: _Side, col: _Side) -> Any:
    if dim == "col":  # columns alone are the rows of the transposed problem
        score, row, dim = score.transposed(), col, "row"
    both = dim == "both"
    backend, workspace = select(function, score, op), settings().workspace_on(score.x.device)
    needs = _needs(score)
    if reduction == "logsumexp" and hasattr(BACKENDS[backend], "total"):
        return ops.total(score, needs, backend, workspace)
    if known_upstream(reduction) and not both and row == (None, None) and hasattr(BACKENDS[backend], "paired"):
        return ops.paired(score, op, Pairing(_share(score.N, reduction)), needs, backend, workspace)
    if known_upstream(reduction):
        row_side = _weighted(score, row, score.N, reduction)
        col_side = _weighted(score, col, score.M, reduction) if both else None
        return ops.scalar(score, op, row_side, col_side, needs, backend, workspace)
    for name, side in (("weights", row), ("col_weights", col)):
        if side.weights is not None:
            fail(function, name, "given", 'must be None with reduction="none": multiply the result')
    row_value, col_value = ops.reduce(score, op, both, backend, workspace)
    if reduction == "logsumexp":
        # Where every pair is out, the gradient of log Σ e^{−inf} would be NaN; it is that of a constant.
        empty = (row_value == -torch.inf).all()
        return torch.logsumexp(row_value.masked_fill(empty, 0.0), dim=0).masked_fill(empty, -torch.inf)
    row_value = ops.join(row_value, row.anchor)
    return (row_value, ops.join(col_value, col.anchor)) if both else row_value


def _weighted(score: Score, side: _Side, count: int, reduction: str) -> Weighted:
    share = _share(count, reduction)
    weight = score.x.new_full((count,), share, dtype=score.dtype) if side.weights is None else side.weights * share
    return Weighted(weight, side.anchor)


def _share(count: int, reduction: str) -> float:
    return 1.0 / count if reduction == "mean" else 1.0


def _needs(score: Score) -> Needs:
    """Which gradients somebody will use. An anchor's costs nothing extra, so it is not listed."""
    on = torch.is_grad_enabled()
    x, y, *others = (
        on and t is not None and t.requires_grad
        for t in (score.x, score.y, score.scale, score.row_bias, score.col_bias)
    )
    rest = on and score.rest is not None and score.rest.requires_grad
    return Needs(x or (rest and score.y is None), y or (rest and score.y is not None), *others)


def _topk(function: str, score: Score, k: int, x: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Indices from the backend, values from the k chosen pairs of each row, so that autograd differentiates those alone."""
    with torch.no_grad():
        backend = select(function, score, "logsumexp")
        values, indices = ops.top_k(score, k, backend, settings().workspace_on(score.x.device))
        absent = values == -torch.inf
        indices = indices.masked_fill(absent, 0)
    flat = indices.flatten()
    x = x.unsqueeze(1)  # (N, 1, D)
    chosen = ops.gather_rows(keys, flat).unflatten(0, indices.shape)  # (N, k, D)
    t = (x * chosen).sum(dim=2) if score.kind == "dot" else -(x - chosen).square().sum(dim=2)
    u = score.scale * t
    s = u
    if score.phi.name != "identity":
        # φ works in place and its slope is its own (finite where two points meet), so autograd sees φ(u) + φ'(u)·du.
        at = u.detach()
        s = score.phi(at.clone()) + score.phi.derivative(at) * (u - at)
    if score.row_bias is not None:
        s = s + score.row_bias.unsqueeze(1)
    if score.col_bias is not None:
        s = s + ops.gather_rows(score.col_bias, flat).view_as(s)
    return s.masked_fill(absent, -torch.inf), indices.masked_fill(absent, -1)
