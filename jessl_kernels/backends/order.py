"""Puts rows and columns in the order of their ids if rows may have several positives, so that a strip's positives lie within few
columns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..problem.exclude import Exclude, Guide, IdPair, one_tensor
from ..problem.row_loss import Loss, RowProblem
from ..problem.types import Gradients, Needs, RowSums, Slopes

Both = TypeVar("Both", RowSums, Slopes)


class Order:
    """The order, and the problem in it. It is the given problem if rows have at most one positive, or if `exclude.keep` needs the
    given numbers.

    rows, cols  the row, and the column, that now stands in each place; None if none has moved
    """

    def __init__(self, problem: RowProblem):
        self.given = self.problem = problem
        self.rows: Tensor | None = None
        self.cols: Tensor | None = None
        row_ids, col_ids = problem.positives.row_ids, problem.positives.col_ids
        if row_ids is None or col_ids is None or problem.exclude.keep:
            return
        self._together = not problem.y and one_tensor(row_ids, col_ids)
        row_ids, self.rows = row_ids.sort(stable=True)
        col_ids, self.cols = (row_ids, self.rows) if self._together else col_ids.sort(stable=True)
        self.problem = self._permuted(row_ids, col_ids, self.rows, self.cols)

    def _permuted(self, row_ids: Tensor, col_ids: Tensor, rows: Tensor, cols: Tensor) -> RowProblem:
        problem, together, exclude = self.given, self._together, self.given.exclude

        def ids(pair: IdPair) -> IdPair:
            first = pair[0].index_select(0, rows)
            return first, first if together and one_tensor(*pair) else pair[1].index_select(0, cols)

        def whole(pieces: tuple[Tensor, ...]) -> Tensor:
            return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

        # If rows and columns are sorted alike the main diagonal stays; other diagonals become ids, the numbers that rows had.
        kept = tuple(d for d in exclude.diagonals if d == 0 and together)
        moved = tuple((rows + d, cols) for d in exclude.diagonals if d not in kept)
        return replace(
            problem,
            x=(_taken(whole(problem.x), rows),),
            y=() if together else (_taken(whole(problem.keys), cols),),
            row_bias=_taken(problem.row_bias, rows),
            col_bias=_taken(problem.col_bias, cols),
            exclude=Exclude(
                kept,
                (*map(ids, exclude.same), *moved),
                tuple(map(ids, exclude.different)),
                guide=_guided(exclude, rows, cols),
            ),
            positives=problem.positives._replace(row_ids=row_ids, col_ids=col_ids),
            also=_taken(problem.also, rows),
        )

    def reach(self) -> tuple[IdPair | None, IdPair | None]:
        """The first column, and the last + 1, that may be a positive of each row; the same for each column. None: not known."""
        row_ids, col_ids = self.problem.positives.row_ids, self.problem.positives.col_ids
        if self.rows is None or row_ids is None or col_ids is None:
            return None, None
        of_rows = _bounds(col_ids, row_ids)
        return of_rows, of_rows if self._together else _bounds(row_ids, col_ids)

    def loss(self, loss: Loss) -> Loss:
        return loss._replace(weights=_taken(loss.weights, self.rows), col_weights=_taken(loss.col_weights, self.cols))

    def needs(self, needs: Needs) -> Needs:
        """The gradients that the sorted problem must make: those of all columns if any column is requested."""
        if self.rows is None:
            return needs
        wanted = needs.y.stop > needs.y.start or (needs.x and not self.given.y and not self._together)
        return needs._replace(y=slice(0, self.problem.M if wanted else 0))

    def forth(self, both: Both) -> Both:
        """Tensors of rows, and of columns, in the new order."""
        return _moved(both, self.rows, self.cols)

    def sums_back(self, sums: RowSums) -> RowSums:
        return _moved(sums, *self._places())

    def gradients_back(self, made: Gradients, needs: Needs) -> Gradients:
        """Gradients in the given order; needs: those of the given problem."""
        if self.rows is None:
            return made
        rows, cols = self._places()
        x, y = _taken(made.x, rows), _taken(made.y, cols)
        if not self.given.y:  # Y is X
            x, y = x + y if y.numel() else x, y.new_empty(0)
        return replace(
            made, x=x, y=y[needs.y] if y.numel() else y, row_bias=_taken(made.row_bias, rows),
            col_bias=_taken(made.col_bias, cols), also=_taken(made.also, rows),
        )  # fmt: skip

    def _places(self) -> tuple[Tensor | None, Tensor | None]:
        """The new place of each row, and of each column."""
        if self.rows is None or self.cols is None:
            return None, None
        rows = _inverse(self.rows)
        return rows, rows if self.cols is self.rows else _inverse(self.cols)


T = TypeVar("T", Tensor, Tensor | None)


def _taken(t: T, numbers: Tensor | None, dim: int = 0) -> T:
    """The entries with these numbers, in this order; an empty tensor, which stands for none, is returned as it is."""
    return t if t is None or numbers is None or not t.numel() else t.detach().index_select(dim, numbers)


def _guided(exclude: Exclude, rows: Tensor, cols: Tensor) -> Guide | None:
    guide = exclude.guide
    if guide is None:
        return None
    of_rows, of_cols = _taken(guide.of_rows, rows), _taken(guide.of_cols, cols)
    return Guide(_taken(guide.rows, rows), _taken(guide.cols, cols), of_rows, of_cols)


def _moved(both: Both, rows: Tensor | None, cols: Tensor | None) -> Both:
    if rows is None:
        return both

    def of(side: Any, numbers: Tensor | None) -> Any:
        if side is None or isinstance(side, Tensor):
            return _taken(side, numbers, dim=-1)
        return type(side)(*(of(part, numbers) for part in side))

    return type(both)(of(both.row, rows), of(both.col, cols))


def _inverse(order: Tensor) -> Tensor:
    return torch.empty_like(order).index_copy_(0, order, torch.arange(len(order), device=order.device))


def _bounds(sorted_ids: Tensor, ids: Tensor) -> IdPair:
    first, last = (torch.searchsorted(sorted_ids, ids, right=right) for right in (False, True))
    return first, last
