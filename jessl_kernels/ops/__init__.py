"""Sums over pairs as operators: an eager path through autograd.Function, a registered one for compile, export and fake tensors.

There are eight operators, each a backend's function behind a flat schema:

    row_sums    a problem → sums of its rows, and of its columns           value only
    row_grads   sums, and their upstream gradients → gradients             by recomputation
    attach      values made from sums → the same values; `row_grads` makes their gradient
    row_loss    a loss whose join has a name, in one call                  with gradients, made in the forward pass
    total       scores → log ΣΣ e^s                                        with gradients, made in the forward pass
    attend      scores and values → their softmax-weighted sums; `attend_grads` makes their gradients, by recomputation
    top_k       scores → values, indices

    eager           the operators on real tensors
    autograd        their backward formulas, and the eager functions
    library         schemas and shapes
    asked           the calls that `jk.explain` records in place of all this
    gather_scatter  rows gathered and summed by their numbers, for the gradient of top-k
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..problem import types
from ..problem.flat import SINGLE, Tensors, tensors_of, to_schema, words_of
from ..problem.row_loss import Loss, RowProblem
from . import asked, eager
from . import library as library
from .autograd import (
    Attach,
    Attend,
    RowGrads,
    RowLoss,
    RowSums,
    TopK,
    Total,
    WithGradients,
    is_plain,
    is_real,
)
from .eager import LossWords, Who, in_pieces, to_sums
from .gather_scatter import gather_rows as gather_rows
from .gather_scatter import scatter_sum as scatter_sum


def row_sums(problem: RowProblem, who: Who) -> types.RowSums:
    """Sums of rows and of columns, without a gradient."""
    if (heard := asked.heard()) is not None:
        return asked.row_sums(heard, problem, who)
    words, tensors = words_of(problem), tensors_of(problem)
    if is_real(*tensors):
        return to_sums(RowSums.apply(words, who, *tensors))
    return to_sums(torch.ops.jessl_kernels.row_sums(*to_schema(words, tensors), *who))


def row_grads(
    problem: RowProblem, sums: types.RowSums, slopes: types.Slopes, flags: Sequence[bool], who: Who
) -> list[Tensor | None]:
    """Gradients of the tensors that `flags` marks, in the order of `tensors_of`; they have no gradient themselves."""
    if asked.heard() is not None:
        raise NotImplementedError("explain: gradients apart from their sums are not planned; row_sums is, with both")
    words, tensors = words_of(problem), tensors_of(problem)
    parts, arriving = eager.from_sums(sums, problem), eager.from_slopes(slopes, sums)
    if is_real(*tensors):
        made = RowGrads.apply(words, who, tuple(flags), *arriving, *parts, *tensors)
    else:
        arguments = list(parts), list(arriving), list(flags), *who
        made = torch.ops.jessl_kernels.row_grads(*to_schema(words, tensors), *arguments)
    return in_pieces(words.x, words.y, tensors, made, flags)


def attach(values: Sequence[Tensor], problem: RowProblem, sums: types.RowSums, who: Who) -> Sequence[Tensor]:
    """The values of rows and of columns, `eager.SLOPES` of each, attached to the graph of the problem's tensors."""
    if (heard := asked.heard()) is not None:
        return asked.attach(heard, values, problem)
    words, tensors = words_of(problem), tensors_of(problem)
    parts = eager.from_sums(sums, problem)
    if is_real(*tensors):
        return Attach.apply(words, who, *values, *parts, *tensors)
    return torch.ops.jessl_kernels.attach(*to_schema(words, tensors), list(values), list(parts), *who)


def row_loss(problem: RowProblem, loss: Loss, who: Who) -> Tensor:
    """The loss, differentiable once."""
    if (heard := asked.heard()) is not None:
        return asked.row_loss(heard, problem, loss, who)
    tensors = tensors_of(problem)
    inputs, flags = _differentiable(problem, tensors)
    if is_plain(*tensors):
        return _plain("row_loss", problem, who, inputs, flags, problem, loss)
    words = words_of(problem)
    named, weights = LossWords(loss.join, loss.reduction, loss.factor), (loss.weights, loss.col_weights)
    if is_real(*tensors):
        return RowLoss.apply(words, named, who, flags, *tensors, *weights)[0]
    return torch.ops.jessl_kernels.row_loss(*to_schema(words, tensors), *named, *weights, list(flags), *who)[0]


def total(problem: RowProblem, who: Who) -> Tensor:
    """The log-sum-exp over all pairs, differentiable once."""
    if (heard := asked.heard()) is not None:
        return asked.total(heard, problem, who)
    tensors = tensors_of(problem)
    inputs, flags = _differentiable(problem, tensors)
    if is_plain(*tensors):
        return _plain("total", problem, who, inputs, flags, eager.score_of(problem))
    words = words_of(problem)
    if is_real(*tensors):
        return Total.apply(words, who, flags, *tensors)[0]
    return torch.ops.jessl_kernels.total(*to_schema(words, tensors), list(flags), *who)[0]


def top_k(problem: RowProblem, k: int, who: Who) -> tuple[Tensor, Tensor]:
    """The k largest scores of each row and their columns; no gradient."""
    if (heard := asked.heard()) is not None:
        return asked.top_k(heard, problem, k, who)
    words, tensors = words_of(problem), tensors_of(problem)
    if is_real(*tensors):
        return TopK.apply(words, k, who, *tensors)
    return torch.ops.jessl_kernels.top_k(*to_schema(words, tensors), k, *who)


def attend(problem: RowProblem, values: Tensor, who: Who) -> Tensor:
    """Σ_j p_ij v_j of each row, (N, V), differentiable once."""
    if (heard := asked.heard()) is not None:
        return asked.attend(heard, problem, values, who)
    words, tensors = words_of(problem), tensors_of(problem)
    if is_real(values, *tensors):
        return Attend.apply(words, who, values, *tensors)[0]
    return torch.ops.jessl_kernels.attend(*to_schema(words, tensors), values, *who)[0]


def _differentiable(problem: RowProblem, tensors: Tensors) -> tuple[Tensors, tuple[bool, ...]]:
    """The tensors that may have a gradient, and flags for those that require one."""
    inputs, on = tensors[: len(problem.x) + len(problem.y) + SINGLE], torch.is_grad_enabled()
    return inputs, tuple([on and t is not None and t.requires_grad for t in inputs])


def _plain(function: str, problem: RowProblem, who: Who, inputs: Tensors, flags: Sequence[bool], *given: Any) -> Tensor:
    """A backend's value, under a node of autograd that keeps its gradients if any is required."""
    there = [t for t in inputs if t is not None]

    def make() -> tuple[Tensor, list[Tensor | None]]:
        value, made = eager.run(function, who, *given, eager.needs_of(problem, flags))
        found = in_pieces(len(problem.x), len(problem.y), inputs, eager.from_gradients(made, problem), flags)
        return value, [gradient for gradient, t in zip(found, inputs, strict=True) if t is not None]

    # A tangent of forward mode requires no gradient, but must be refused as well.
    wanted = True in flags or forward_ad._current_level >= 0
    return WithGradients.apply(make, *there) if wanted else make()[0]


__all__ = ["Who", "attach", "attend", "row_grads", "row_loss", "row_sums", "top_k", "total"]
