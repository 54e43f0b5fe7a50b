"""The operators on real tensors: a backend's function behind words and tensors, with flat tuples of tensors as results.

Optional results are empty tensors, so that each function returns as many tensors as its schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..autocast import without_autocast
from ..backends import BACKENDS, cpu, warn_without_core
from ..problem.flat import Tensors, Words, together
from ..problem.row_loss import Loss, RowProblem
from ..problem.score import Score
from ..problem.types import Attended, Gradients, Needs, RowSums, SideSlopes, SideSums, Slopes, Sums

SIDE = 8  # tensors of a `SideSums`: four of the negatives' sums, four of the positives'
SLOPES = 4  # tensors of a `SideSlopes`


class Who(NamedTuple):
    """The backend that computes, and its workspace in bytes."""

    backend: str
    workspace: int


class LossWords(NamedTuple):
    """A `Loss` without its tensors, which follow those of the problem."""

    join: str
    reduction: str
    factor: float


def row_sums(words: Words, who: Who, tensors: Tensors) -> tuple[Tensor, ...]:
    """The `SIDE` tensors of rows, then those of columns."""
    problem = together(words, tensors)
    return from_sums(run("row_sums", who, problem), problem)


def row_grads(
    words: Words, who: Who, flags: Sequence[bool], tensors: Tensors, sums: Sequence[Tensor], slopes: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Gradients, in the order of `from_gradients`, of the tensors that `flags` marks."""
    problem = together(words, tensors)
    arguments = to_sums(sums), to_slopes(slopes), needs_of(problem, flags)
    return from_gradients(run("row_grads", who, problem, *arguments), problem)


def row_loss(
    words: Words, loss: LossWords, who: Who, flags: Sequence[bool], tensors: Tensors, weights: Tensors
) -> tuple[Tensor, ...]:
    """The value, and its gradients."""
    problem = together(words, tensors)
    value, made = run("row_loss", who, problem, Loss(*loss, *weights), needs_of(problem, flags))
    return value, *from_gradients(made, problem)


def total(words: Words, who: Who, flags: Sequence[bool], tensors: Tensors) -> tuple[Tensor, ...]:
    """The log-sum-exp over all pairs, and its gradients."""
    problem = together(words, tensors)
    value, made = run("total", who, score_of(problem), needs_of(problem, flags))
    return value, *from_gradients(made, problem)


def top_k(words: Words, k: int, who: Who, tensors: Tensors) -> tuple[Tensor, Tensor]:
    """Values and columns of the k largest scores of each row."""
    return run("top_k", who, score_of(together(words, tensors)), k)


def attend(words: Words, who: Who, tensors: Tensors, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Σ_j p_ij v_j of each row, and the reference and the total of its sum."""
    out, sums = run("attend", who, score_of(together(words, tensors)), values)
    return out, sums.reference[0], sums.total[0]


def attend_grads(
    words: Words, who: Who, flags: Sequence[bool], tensors: Tensors, sums: Sequence[Tensor], of: Attended
) -> tuple[Tensor, ...]:
    """Gradients in the order of `from_gradients`, and that of the values, which the last flag marks."""
    problem = together(words, tensors)
    reference, total = (part[None] for part in sums)
    arguments = Sums(reference, total), of, needs_of(problem, flags[:-1]), flags[-1]
    made, of_values = run("attend_grads", who, score_of(problem), *arguments)
    return *from_gradients(made, problem), of_values


def score_of(problem: RowProblem) -> Score:
    """The scores of a problem of one piece a side."""
    return problem.score(problem.x[0], problem.y[0] if problem.y else None)


def run(function: str, who: Who, problem: RowProblem | Score, *args: Any) -> Any:
    if cpu.MISSING:
        warn_without_core(problem)
    # Autocast was applied when the problem was made; inside a backend it would only lower the precision of products.
    with without_autocast(problem.device):
        return getattr(BACKENDS[who.backend], function)(problem, *args, who.workspace)


def needs_of(problem: RowProblem, flags: Sequence[bool]) -> Needs:
    """The needs, from one flag for each tensor that may have a gradient, in the order of `tensors_of`."""
    pieces = len(problem.x) + len(problem.y)
    x, y = flags[: len(problem.x)], flags[len(problem.x) : pieces]
    columns = slice(0, 0)
    if True in y:
        first, end = y.index(True), len(y) - y[::-1].index(True)
        lengths = [piece.shape[0] for piece in problem.y]
        columns = slice(sum(lengths[:first]), sum(lengths[:end]))
    scale, row_bias, col_bias, *given = flags[pieces:]
    return Needs(True in x, columns, scale, row_bias, col_bias, True in given)


def from_gradients(made: Gradients, problem: RowProblem) -> tuple[Tensor, ...]:
    """x, y, scale, row_bias, col_bias, score, col_score, also. The gradient of the scale has its own dtype."""
    scale = made.scale
    if scale.numel():
        scale = scale.to(problem.scale.dtype if isinstance(problem.scale, Tensor) else problem.dtype)
    return made.x, made.y, scale, made.row_bias, made.col_bias, made.score, made.col_score, made.also


def in_pieces(x: int, y: int, tensors: Tensors, made: Sequence[Tensor], flags: Sequence[bool]) -> list[Tensor | None]:
    """One gradient for each tensor that may have one; those of the x and y pieces are views. None if not requested."""
    found: list[Tensor | None] = []
    for whole, pieces, from_first in ((made[0], range(x), True), (made[1], range(x, x + y), False)):
        first, begun = 0, from_first  # y's gradient begins with the first requested piece
        for k in pieces:
            rows = tensors[k].shape[0]  # pyright: ignore[reportOptionalMemberAccess]
            begun = begun or flags[k]
            found.append(_view(whole, first, rows) if flags[k] else None)
            first += rows if begun else 0
    single = zip(made[2:], flags[x + y :], strict=True)
    return found + [gradient if needed and gradient.numel() else None for gradient, needed in single]


def _view(whole: Tensor, first: int, rows: int) -> Tensor:
    if first == 0 and whole.shape[0] == rows:
        return whole
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or type(whole) is not Tensor:
        return whole.narrow(0, first, rows)
    # Through `.data` each view counts its own versions: a write to one gradient does not invalidate another for autograd.
    return whole.data[first : first + rows]


def from_sums(sums: RowSums, problem: RowProblem) -> tuple[Tensor, ...]:
    empty = sums.row.negatives.total.new_empty(0)
    sides = (sums.row, sums.col)
    parts = [part for side in sides for part in (_side(side) if side is not None else (None,) * SIDE)]
    return tuple(empty.clone() if part is None else part for part in parts)


def _side(side: SideSums) -> tuple[Tensor | None, ...]:
    return *side.negatives, *(side.positives or (None,) * (SIDE // 2))


def to_sums(parts: Sequence[Tensor]) -> RowSums:
    def sums(parts: Sequence[Tensor]) -> Sums | None:
        reference, total, linear, count = (part if part.numel() else None for part in parts)
        return None if total is None else Sums(reference, total, linear, count)

    def side(parts: Sequence[Tensor]) -> SideSums | None:
        negatives = sums(parts[: SIDE // 2])
        return None if negatives is None else SideSums(negatives, sums(parts[SIDE // 2 :]))

    row = side(parts[:SIDE])
    assert row is not None
    return RowSums(row, side(parts[SIDE:]))


def from_slopes(slopes: Slopes, sums: RowSums) -> tuple[Tensor, ...]:
    empty = sums.row.negatives.total.new_empty(0)
    parts = [part for side in slopes for part in (side if side is not None else (None,) * SLOPES)]
    return tuple(empty if part is None else part for part in parts)


def to_slopes(parts: Sequence[Tensor]) -> Slopes:
    def side(parts: Sequence[Tensor]) -> SideSlopes | None:
        N, *others = (part if part.numel() else None for part in parts)
        return None if N is None else SideSlopes(N, *others)

    row = side(parts[:SLOPES])
    assert row is not None
    return Slopes(row, side(parts[SLOPES:]))
