"""The operators on real tensors: a backend's function behind words and tensors, its results as flat tuples of tensors.

Optional results are empty tensors, so that each function returns as many as its schema says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..autocast import without_autocast
from ..backends import BACKENDS
from ..problem.flat import Tensors, Words, together
from ..problem.row_loss import Loss, RowProblem
from ..problem.types import Gradients, Needs, RowSums, SideSlopes, SideSums, Slopes, Sums

SIDE = 8  # tensors of a `SideSums`: four of the negatives' sums, four of the positives'
SLOPES = 4  # tensors of a `SideSlopes`


class Who(NamedTuple):
    """Who computes, and in how many bytes of workspace."""

    backend: str
    workspace: int


class LossWords(NamedTuple):
    """A `Loss` without its tensors, which come behind those of the problem."""

    join: str
    reduction: str
    factor: float


def row_sums(words: Words, who: Who, tensors: Tensors) -> tuple[Tensor, ...]:
    """The `SIDE` tensors of rows, then those of columns."""
    problem = together(words, tensors)
    return from_sums(run("row_sums", who.backend, problem, who.workspace), problem)


def row_grads(
    words: Words, who: Who, flags: Sequence[bool], tensors: Tensors, sums: Sequence[Tensor], slopes: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Gradients, as `from_gradients` has them, of the tensors that `flags` names."""
    problem = together(words, tensors)
    arguments = to_sums(sums), to_slopes(slopes), needs_of(problem, flags), who.workspace
    return from_gradients(run("row_grads", who.backend, problem, *arguments), problem)


def row_loss(
    words: Words, loss: LossWords, who: Who, flags: Sequence[bool], tensors: Tensors, weights: Tensors
) -> tuple[Tensor, ...]:
    """The value, and its gradients."""
    problem = together(words, tensors)
    value, made = run("row_loss", who.backend, problem, Loss(*loss, *weights), needs_of(problem, flags), who.workspace)
    return value, *from_gradients(made, problem)


def total(words: Words, who: Who, flags: Sequence[bool], tensors: Tensors) -> tuple[Tensor, ...]:
    """The log-sum-exp over all pairs, and its gradients."""
    problem = together(words, tensors)
    score = problem.score(problem.x[0], problem.y[0] if problem.y else None)
    value, made = run("total", who.backend, score, needs_of(problem, flags), who.workspace)
    return value, *from_gradients(made, problem)


def top_k(words: Words, k: int, who: Who, tensors: Tensors) -> tuple[Tensor, Tensor]:
    """Values and columns of the k largest scores of each row."""
    problem = together(words, tensors)
    return run("top_k", who.backend, problem.score(problem.x[0], problem.y[0] if problem.y else None), k, who.workspace)


def run(function: str, backend: str, problem: Any, *args: Any) -> Any:
    x = problem.x[0] if isinstance(problem, RowProblem) else problem.x
    # Autocast was decided when the problem was made; inside a backend it would only lower the precision of its products.
    with without_autocast(x):
        return getattr(BACKENDS[backend], function)(problem, *args)


def needs_of(problem: RowProblem, flags: Sequence[bool]) -> Needs:
    """From one flag for each tensor that may have a gradient, in the order of `flat.apart`."""
    x, y = flags[: len(problem.x)], flags[len(problem.x) : len(problem.x) + len(problem.y)]
    scale, row_bias, col_bias = flags[len(problem.x) + len(problem.y) :][:3]
    columns = slice(0, 0)
    if any(y):
        wanted = [k for k, need in enumerate(y) if need]
        lengths = [piece.shape[0] for piece in problem.y]
        columns = slice(sum(lengths[: wanted[0]]), sum(lengths[: wanted[-1] + 1]))
    return Needs(any(x), columns, scale, row_bias, col_bias, any(flags[-3:]))


def from_gradients(made: Gradients, problem: RowProblem) -> tuple[Tensor, ...]:
    """x, y, scale, row_bias, col_bias, score, col_score, also. That of the scale, which is summed in fp64, in its own dtype."""
    scale = made.scale.to(problem.scale.dtype if isinstance(problem.scale, Tensor) else problem.dtype)
    return made.x, made.y, scale, made.row_bias, made.col_bias, made.score, made.col_score, made.also


def in_pieces(words: Words, tensors: Tensors, made: Sequence[Tensor], flags: Sequence[bool]) -> list[Tensor | None]:
    """Gradients one for each tensor that may have one: those of pieces are views. None where nobody asked."""
    x, y, *single = made
    found: list[Tensor | None] = []
    first = 0
    for piece in tensors[: words.x]:
        assert piece is not None
        found.append(_view(x, first, piece) if x.numel() else None)
        first += piece.shape[0]
    first, begun = 0, False
    for piece, needed in zip(tensors[words.x : words.x + words.y], flags[words.x :], strict=False):
        assert piece is not None
        begun = begun or needed  # the first column of y is that of the first piece that is wanted
        found.append(_view(y, first, piece) if needed else None)
        first += piece.shape[0] if begun else 0
    found += [gradient if gradient.numel() else None for gradient in single]
    return [gradient if needed else None for gradient, needed in zip(found, flags, strict=True)]


def _view(whole: Tensor, first: int, piece: Tensor) -> Tensor:
    if first == 0 and whole.shape[0] == piece.shape[0]:
        return whole
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or type(whole) is not Tensor:
        return whole.narrow(0, first, piece.shape[0])
    # By way of `.data` each counts its own versions: who writes to one gradient does not spoil another for autograd.
    return whole.data[first : first + piece.shape[0]]


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
