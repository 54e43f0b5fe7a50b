"""Losses of rows: sums over each row's negatives and positives, a join, and nothing N×M.

`row_loss` does both sweeps in one call, for a join that has a name. `row_sums` and `row_grads` are the two sweeps, for a join of
one's own and for keys that come block by block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import torch
from torch import Tensor

from .. import literals, ops
from .._checks import choice, fail, flag, is_finite, number, wrong_type
from ..backends import settings
from ..literals import CountedReduction, ExcludeWord, Kind, LossDim, PhiName, SumName
from ..problem.exclude import NOTHING, Exclude
from ..problem.join import JOINS
from ..problem.phi import IDENTITY, Phi
from ..problem.row_loss import Loss, Positives, RowProblem
from ..problem.types import SideSlopes, Slopes, Terms
from .arguments import as_scored, constants, pieces_of, psi_of, score_fields, unit, vector, who
from .joined import join_of, joined
from .options import Embeddings, JoinOf, LossOptions, PositivePairs
from .positives import positives_of, terms_of_positives
from .sums import SumsOfRows, sums_of

if TYPE_CHECKING:
    from typing_extensions import Unpack


@overload
def row_loss(
    x: Embeddings,
    y: Embeddings | None = None,
    *,
    join: JoinOf,
    dim: Literal["row"] = "row",
    reduction: CountedReduction = "mean",
    **options: Unpack[LossOptions],
) -> Tensor: ...
@overload
def row_loss(
    x: Embeddings,
    y: Embeddings | None = None,
    *,
    join: JoinOf,
    dim: Literal["both"],
    reduction: Literal["mean", "mean_counted", "sum"] = "mean",
    **options: Unpack[LossOptions],
) -> Tensor: ...
@overload
def row_loss(
    x: Embeddings,
    y: Embeddings | None = None,
    *,
    join: JoinOf,
    dim: Literal["both"],
    reduction: Literal["none"],
    **options: Unpack[LossOptions],
) -> tuple[Tensor, Tensor]: ...
def row_loss(
    x: Embeddings,
    y: Embeddings | None = None,
    *,
    join: JoinOf,
    positives: PositivePairs = None,
    negatives: SumName = "logsumexp",
    of_positives: SumName = "logsumexp",
    tilts: Sequence[float] = (1.0,),
    params: Sequence[Any] = (),
    also: Tensor | None = None,
    kind: Kind = "dot",
    phi: Phi | PhiName | None = None,
    scale: float | Tensor = 1.0,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
    exclude: Exclude | ExcludeWord | None = None,
    normalize: bool = False,
    dim: LossDim = "row",
    reduction: CountedReduction = "mean",
    weights: Tensor | None = None,
    col_weights: Tensor | None = None,
) -> Any:
    """A loss of rows, f(N_i, P_i, spread_i, n_pos_i, n_neg_i), in O(N·D) memory.

        N_i       log Σ_j e^{tilt·s_ij} over the negatives j of row i, one for each tilt
        P_i       log Σ_p e^{s_ip} over its positives p
        spread_i  P_i − mean_p s_ip, exactly 0 for one positive

    x, y          (N, D) and (M, D) float tensors, or lists of pieces that follow each other, any of which may require a
                  gradient; y None compares x with itself
    join          f: a name, or a function of (N, P, spread, n_pos, n_neg, *params) and (rows,) tensors, N a tuple; see below
    positives     an int: row i's positive is column (i + shift) mod M, for N ≤ M; an int64 tensor (N,): column index_i, −1 for
                  none; a pair of int64 tensors (N,), (M,): pairs of equal ids, which match nothing if negative; a float tensor
                  (N,), or two, (N,) and (M,): the scores of positives that are not among the pairs. They are left out of N.
                  A pair that `exclude` names too is a positive by a shift or an index, and none by ids; with dim="both" an
                  index goes by ids
    negatives     "logsumexp", or the ψ that is summed instead: "softplus", "log1m_exp", "step"
    of_positives  "logsumexp", or the ψ of Σ_p ψ(−s_ip), which is summed instead
    tilts         floats > 0; scores are multiplied by each in turn
    params        arguments of a join of one's own: (N,) tensors, which it receives in parts, and anything else unchanged
    also          (N,), or None: a further log-sum-exp that is added to each N_i; for one tilt
    kind, phi, scale, row_bias, col_bias, exclude   the score, as in `pairwise_logsumexp`
    normalize     divide each row of x and y by its norm first; for dot scores
    dim           "row", or "both": columns have a loss too, of the same positives
    reduction     "mean" over rows (plus that over columns), "mean_counted" over rows that have a positive, "sum", or "none":
                  (N,), or for "both" (N,) and (M,)
    weights       (N,) constants, the factors of the rows' losses; col_weights (M,)

    The names:   "softplus"         log(1 + e^{N − P})             InfoNCE, CLIP, NT-Xent
                 "difference"       N − P                          DCL
                 "softplus_spread"  log(1 + e^{N − P}) + spread    SupCon, the mean outside
                 "softplus_count"   log(1 + e^{N − P}) + log n_pos   SupCon, the mean inside
                 "tilt_difference"  N_0 − N_1 − P                  hard negatives, decoupled: tilts (1 + β, β)
                 "sum"              N + P                          SigLIP, of sums of softplus
                 "none"             N                              no positives

    A row without positives counts as 0, whatever the join returns (it receives P = 0 and n_pos = 1); "none" takes none.
    With a name, "mean" and "sum" make the gradient in the forward pass. A join of one's own is evaluated between the sweeps,
    which costs the same products for symmetric and two-sided problems and 4 instead of 3 for others.

    Returns fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> x = torch.eye(4)
    >>> jk.row_loss(x, x, join="softplus", positives=0)               # InfoNCE: log(e + 3) − 1
    tensor(0.7437)
    >>> jk.row_loss(x, x, join=lambda N, P, spread, n_pos, n_neg: N[0] - P, positives=0)      # log 3 − 1
    tensor(0.0986)
    """
    function = "row_loss"
    if isinstance(join, str):
        choice(function, "join", join, literals.JOIN_NAMES)
    elif not callable(join):
        wrong_type(function, "join", join, "must be a name or a function of (N, P, spread, n_pos, n_neg, *params)")
    if isinstance(join, str) and params:
        fail(function, "params", "given", f'must be left out with join="{join}"')
    choice(function, "reduction", reduction, literals.COUNTED_REDUCTIONS)
    problem = _problem(
        function, x, y, positives, negatives, of_positives, tilts, also, kind, phi, scale, row_bias, col_bias, exclude,
        normalize, dim,
    )  # fmt: skip
    row_weights = constants(function, "weights", weights, problem.x[0], problem.N)
    if col_weights is not None and not problem.cols:
        fail(function, "col_weights", "given", 'must be None with dim="row"')
    of_columns = constants(function, "col_weights", col_weights, problem.x[0], problem.M)
    if isinstance(join, str):
        taken = JOINS[join]
        if taken.positives and not problem.positives.there:
            fail(function, "positives", None, f'must be given with join="{join}"')
        if not taken.positives and reduction == "mean_counted":
            fail(
                function,
                "reduction",
                "'mean_counted'",
                f'must be another with join="{join}", which counts no positives',
            )
        if len(problem.negatives.tilts) != taken.tilts:
            fail(function, "tilts", tuple(tilts), f'must be {taken.tilts} with join="{join}"')
    return loss_of(
        function, problem, join, reduction, weights=row_weights, col_weights=of_columns, params=tuple(params)
    )


def row_sums(
    x: Embeddings,
    y: Embeddings | None = None,
    *,
    positives: PositivePairs = None,
    negatives: SumName = "logsumexp",
    of_positives: SumName = "logsumexp",
    tilts: Sequence[float] = (1.0,),
    negative_spread: bool = False,
    also: Tensor | None = None,
    kind: Kind = "dot",
    phi: Phi | PhiName | None = None,
    scale: float | Tensor = 1.0,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
    exclude: Exclude | ExcludeWord | None = None,
    normalize: bool = False,
    dim: LossDim = "row",
) -> SumsOfRows:
    """The sums of `row_loss`, for a loss that is made from them in torch: one sweep over the pairs, and one for the gradients.

    negative_spread  sum the scores of the negatives too, for N − mean_j s_ij (label smoothing); needs one tilt, 1

    The other arguments are those of `row_loss`. Returns a `SumsOfRows`: N, P and spread are (N,) tensors with gradients, n_pos
    and n_neg are counts, and `merge` adds sums of the same rows over other keys. Weights come from the sums themselves, never
    from a rounded log-sum-exp.

    Raises ValueError or TypeError naming the argument at fault.

    >>> sums = jk.row_sums(torch.eye(4), torch.eye(4), positives=0)
    >>> (sums.N[0] - sums.P).mean()                                   # log 3 − 1
    tensor(0.0986)
    """
    flag("row_sums", "negative_spread", negative_spread)
    problem = _problem(
        "row_sums", x, y, positives, negatives, of_positives, tilts, also, kind, phi, scale, row_bias, col_bias, exclude,
        normalize, dim,
    )  # fmt: skip
    if negative_spread:
        if problem.negatives != Terms():
            must = "must be False unless negatives are summed as a log-sum-exp of one tilt, 1"
            fail("row_sums", "negative_spread", True, must)
        problem = replace(problem, negatives=Terms(linear=True))
    return sums_of("row_sums", problem)


class Grads(NamedTuple):
    """Gradients of the arguments of `row_sums`, in their dtypes; None for an argument that requires none.

    x, y   one for each piece
    """

    x: tuple[Tensor | None, ...]
    y: tuple[Tensor | None, ...]
    scale: Tensor | None
    row_bias: Tensor | None
    col_bias: Tensor | None
    positives: Tensor | None
    col_positives: Tensor | None
    also: Tensor | None


def row_grads(
    sums: SumsOfRows,
    *,
    N: Tensor | Sequence[Tensor],
    P: Tensor | None = None,
    spread: Tensor | None = None,
    negative_spread: Tensor | None = None,
) -> tuple[Grads, ...]:
    """The second sweep of a loss of rows: gradients for given upstream gradients of its sums. Autograd does this by itself with
    the values of `row_sums`; this function is for sums and slopes that are sent from process to process.

    sums             from `row_sums`, or merged; after a merge each block's weights are those of the whole
    N                (N,), or one for each tilt: ∂loss/∂N_i
    P, spread, negative_spread   (N,): the same for these; None for 0

    Returns one `Grads` for each block that was merged, of the tensors that require a gradient. Raises ValueError or TypeError
    naming the argument at fault.

    >>> x, y = torch.eye(4, requires_grad=True), torch.eye(4)
    >>> sums = jk.row_sums(x, y, positives=0)
    >>> (made,) = jk.row_grads(sums, N=torch.ones(4), P=-torch.ones(4))
    >>> made.x[0][0]                                                  # the mean of the other keys minus the own
    tensor([-1.0000,  0.3333,  0.3333,  0.3333])
    """
    function = "row_grads"
    if not isinstance(sums, SumsOfRows):
        wrong_type(function, "sums", sums, "must be what row_sums returned")
    total = sums.raw.row.negatives.total
    every = (N,) if isinstance(N, Tensor) else tuple(N)
    if len(every) != len(total):
        fail(function, "N", f"{len(every)} tensors", f"must be {len(total)}, one for each tilt")
    like, rows = sums.blocks[0].problem.x[0], total.shape[-1]
    of_n = [vector(function, "N", slope, like, rows) for slope in every]
    others = {"P": P, "spread": spread, "negative_spread": negative_spread}
    row = SideSlopes(
        torch.stack(of_n),  # pyright: ignore[reportArgumentType]
        *(vector(function, name, slope, like, rows) for name, slope in others.items()),
    )
    return tuple(_grads(block.problem, block.who, sums, row) for block in sums.blocks)


def _grads(problem: RowProblem, chosen: ops.Who, sums: SumsOfRows, row: SideSlopes) -> Grads:
    positives = problem.positives
    tensors = (
        *problem.x, *problem.y, problem.scale if isinstance(problem.scale, Tensor) else None, problem.row_bias,
        problem.col_bias, positives.score, positives.col_score, problem.also,
    )  # fmt: skip
    flags = [t is not None and t.requires_grad for t in tensors]
    with torch.no_grad():
        made = ops.row_grads(replace(problem, cols=False), sums.raw._replace(col=None), Slopes(row), flags, chosen)
        made = [None if g is None or t is None else g.to(t.dtype) for g, t in zip(made, tensors, strict=True)]
    x, y = len(problem.x), len(problem.y)
    return Grads(tuple(made[:x]), tuple(made[x : x + y]), *made[x + y :])


def loss_of(
    function: str,
    problem: RowProblem,
    join: str | Callable[..., Tensor],
    reduction: str,
    *,
    factor: float = 1.0,
    weights: Tensor | None = None,
    col_weights: Tensor | None = None,
    params: tuple = (),
) -> Any:
    """The loss of a checked problem, times a factor."""
    if isinstance(join, str) and reduction != "none":
        named = Loss(join, reduction, factor, weights, col_weights)
        return ops.row_loss(problem, named, who(function, problem))
    named = join if isinstance(join, str) else ""
    return joined(
        sums_of(function, problem), join_of(join), Loss(named, reduction, factor, weights, col_weights), params
    )


def problem_of(
    x: tuple[Tensor, ...],
    y: tuple[Tensor, ...],
    *,
    scale: float | Tensor,
    positives: Positives,
    normalize: bool,
    exclude: Exclude | None = None,
    **words: Any,
) -> RowProblem:
    """A problem of dot scores from checked arguments; under autocast its embeddings have autocast's dtype."""
    rows, keys, normalize = scored(x, y, "dot", normalize)
    return RowProblem(
        x=rows,
        y=keys,
        scale=scale,
        row_bias=words.pop("row_bias", None),
        col_bias=None,
        exclude=exclude or NOTHING,
        kind="dot",
        phi=IDENTITY,
        skip_below=settings().skip_below,
        positives=positives,
        normalize=normalize,
        **words,
    )


def scored(
    x: tuple[Tensor, ...], y: tuple[Tensor, ...], kind: str, normalize: bool
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], bool]:
    """Embeddings as their scores will see them, and whether they must still be normalised: autocast rounds unit rows."""
    rows, keys = as_scored(x, y, kind)
    if not normalize or all(seen is given for seen, given in zip((*rows, *keys), (*x, *y), strict=True)):
        return rows, keys, normalize
    rows, keys = (tuple(unit(piece, rounded=False) for piece in pieces) for pieces in (x, y))
    rows, keys = as_scored(rows, keys, kind)
    return rows, keys, False


def _problem(
    function: str, x: Any, y: Any, positives: Any, negatives: Any, of_positives: Any, tilts: Any, also: Any, kind: Any,
    phi: Any, scale: Any, row_bias: Any, col_bias: Any, exclude: Any, normalize: Any, dim: Any,
) -> RowProblem:  # fmt: skip
    """The problem of the arguments that `row_loss` and `row_sums` share, checked."""
    rows = pieces_of(function, "x", x)
    keys = () if y is None else pieces_of(function, "y", y, like=("x", rows[0]))
    choice(function, "dim", dim, literals.LOSS_DIMS)
    flag(function, "normalize", normalize)
    N = sum(piece.shape[0] for piece in rows)
    M = sum(piece.shape[0] for piece in keys or rows)
    like, cols = rows[0], dim == "both"
    psi_of(function, "negatives", negatives, or_logsumexp=True)
    psi_of(function, "of_positives", of_positives, or_logsumexp=True)
    several = _tilts(function, tilts, negatives)
    pairs = positives_of(function, positives, N, M, like, cols)
    also = vector(function, "also", also, like, N)
    if also is not None and (len(several) > 1 or negatives != "logsumexp"):
        fail(function, "also", "given", "must be None unless negatives are summed as a log-sum-exp of one tilt")
    checked = score_fields(function, like, N, M, kind, phi, scale, row_bias, col_bias, exclude)
    if normalize and kind != "dot":
        fail(function, "normalize", True, f'must be False with kind="{kind}"')
    rows, keys, normalize = scored(rows, keys, kind, normalize)
    return RowProblem(
        x=rows,
        y=keys,
        positives=pairs,
        negatives=Terms(negatives, several),
        of_positives=terms_of_positives(of_positives),
        normalize=normalize,
        cols=cols,
        also=also,
        **checked,
    )


def _tilts(function: str, tilts: Any, negatives: str) -> tuple[float, ...]:
    if not isinstance(tilts, (tuple, list)) or not tilts:
        wrong_type(function, "tilts", tilts, "must be a sequence of floats > 0")
    found = tuple(number(function, "tilts", tilt) for tilt in tilts)
    if not all(tilt > 0 and is_finite(tilt) for tilt in found):
        fail(function, "tilts", found, "must be > 0 and finite")
    if negatives != "logsumexp" and found != (1.0,):
        fail(function, "tilts", found, f'must be (1.0,) with negatives="{negatives}"')
    return found
