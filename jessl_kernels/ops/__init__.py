"""The reductions as operators: an eager path through autograd.Function, a registered one for compile, export and fake tensors.

Six operators, each a backend's function behind a flat schema:

    reduce      scores → row (N,), col (M,)                      value only
    gradient    upstream of row and col → gradients              by recomputation
    scalar      constant weights → Σ w_i row_i + Σ v_j col_j     and its gradients, made in the forward pass
    total       scores → log ΣΣ e^s                               and its gradients, made in the forward pass
    paired      a loss of rows and their partners, whole          and its gradients, made in the forward pass
    top_k       scores → values, indices

`reduce` is differentiated by `gradient`; `scalar`, `total` and `paired` bring their gradients along as outputs, and their
backward only multiplies them by the arriving number.

    eager           the operators on real tensors
    autograd        their backward formulas, and the eager functions
    library         schemas and shapes
    gather_scatter  rows taken and summed by their numbers, which losses need beside the reductions
"""

from __future__ import annotations

from torch import Tensor

from ..problem.row_loss import Labelling, Pairing
from ..problem.score import Score
from ..problem.types import Needs, Weighted
from . import eager
from . import library as library
from .autograd import Paired, Reduce, Scalar, TopK, Total, call, with_gradients
from .autograd import is_plain as is_plain
from .eager import join as join
from .gather_scatter import gather_rows as gather_rows
from .gather_scatter import scatter_sum as scatter_sum


def reduce(score: Score, op: str, cols: bool, backend: str, workspace: int) -> tuple[Tensor, Tensor]:
    """Row and column values, differentiable."""
    return call(Reduce.apply, "reduce", score, (op, cols, backend, workspace))


def scalar(
    score: Score, op: str, row: Weighted, col: Weighted | None, needs: Needs, backend: str, workspace: int
) -> Tensor:
    """Σ w_i join(row_i, anchor_i) + Σ v_j join(col_j, anchor_j), differentiable once, by the tensors that `needs` names."""
    col_weight, col_anchor = col or (None, None)
    rest = (op, row.weight, row.anchor, col_weight, col_anchor, needs.flatten(), backend, workspace)
    if is_plain(score):
        return with_gradients(lambda: eager.scalar_of(score, *rest), score, row.anchor, col_anchor)
    return call(Scalar.apply, "scalar", score, rest)[0]


def total(score: Score, needs: Needs, backend: str, workspace: int) -> Tensor:
    """The log-sum-exp over all pairs, differentiable once."""
    if is_plain(score):
        return with_gradients(lambda: eager.total_of(score, needs, backend, workspace), score)
    return call(Total.apply, "total", score, (needs.flatten(), backend, workspace))[0]


def paired(score: Score, op: str, pairing: Pairing, needs: Needs, backend: str, workspace: int) -> Tensor:
    """The weighted sum of a loss of rows and their partners, differentiable once."""
    if is_plain(score):
        return with_gradients(lambda: eager.paired_of(score, op, pairing, needs, backend, workspace), score)
    score = score.in_one_piece()
    return call(Paired.apply, "paired", score, (op, *pairing, needs.flatten(), backend, workspace))[0]


def labelled(score: Score, labelling: Labelling, needs: Needs, backend: str, workspace: int) -> Tensor:
    """SupCon of a plain score, differentiable once."""
    return with_gradients(lambda: eager.made("labelled", backend, score, labelling, needs, workspace), score)


def top_k(score: Score, k: int, backend: str, workspace: int) -> tuple[Tensor, Tensor]:
    """The k largest scores of each row and their columns; no gradient."""
    return call(TopK.apply, "top_k", score, (k, backend, workspace))
