"""A loss of rows in five stages, for backends written in Python; the C++ backend has its own executor.

    rows_in   pieces put together, rows divided by their norms, scores of single positives       O(N·D)
    sums      sweep 1: sums over negatives; a further sweep over positives if a row may have several
    join      the loss of each row, and the gradients of its sums                                 O(N)
    grads     sweep 2: the same pairs again, weighted, and taken back to the embeddings
    rows_out  gradients of single positives, and back through the norms                           O(N·D)

A backend supplies the two sweeps (`Sweeps`). It may do both at once if a row's weights are known with its sum. The stages around
the sweeps are in `rows.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from ..problem.join import JOINS, Join, slopes, values
from ..problem.row_loss import Loss, RowProblem
from ..problem.score import Score
from ..problem.types import NOTHING, Gradients, Needs, RowSums, SideSlopes, SideSums, Slopes, Sums, Terms, Weights
from .order import Order
from .rows import Rows

Weigh = Callable[[slice, Sums], Weights]


class Sweeps(Protocol):
    """The functions that a backend supplies; each goes over the pairs of a score once. Gradients are added to `to`, which has
    room for those that `needs` names."""

    def sums(self, score: Score, terms: Terms, cols: bool, workspace: int) -> tuple[Sums, Sums | None]:
        """Sums of rows and, if requested, of columns."""
        ...

    def grads(
        self, score: Score, terms: Terms, row: Weights, col: Weights | None, needs: Needs, to: Gradients, workspace: int
    ) -> None:
        """Add the gradients for these weights of rows and, unless None, of columns."""
        ...

    def at_once(self, score: Score, terms: Terms) -> bool:
        """Whether `sums_and_grads` supports these terms of this score."""
        return False

    def sums_and_grads(
        self, score: Score, terms: Terms, weigh: Weigh, needs: Needs, to: Gradients, workspace: int
    ) -> Sums:
        """Sums of rows, and gradients for the weights that `weigh` makes of the sums of some rows."""
        raise AssertionError("not asked for")


class Executor:
    """`row_sums`, `row_grads`, `row_loss` and `total` of a backend, by its sweeps, and by its own `Rows` if it has them."""

    def __init__(self, sweeps: Sweeps, rows: type[Rows] = Rows):
        self.sweeps, self.rows = sweeps, rows

    def row_sums(self, problem: RowProblem, workspace: int) -> RowSums:
        order = Order(problem)
        return order.sums_back(self._sums(self.rows(order.problem), workspace))

    def row_grads(self, problem: RowProblem, sums: RowSums, slopes: Slopes, needs: Needs, workspace: int) -> Gradients:
        order = Order(problem)
        sums, slopes, rows = order.forth(sums), order.forth(slopes), self.rows(order.problem)
        grads = rows.gradients(order.needs(needs))
        self._add(rows, sums, slopes, grads, workspace)
        return order.gradients_back(rows.out(grads, sums, slopes), needs)

    def row_loss(self, problem: RowProblem, loss: Loss, needs: Needs, workspace: int) -> tuple[Tensor, Gradients]:
        order = Order(problem)
        join, loss, rows = JOINS[loss.join], order.loss(loss), self.rows(order.problem)
        if not needs.any:
            sums = self._sums(rows, workspace)
            return _value(join, loss, sums), rows.gradients(NOTHING)
        grads = rows.gradients(order.needs(needs))
        at_once = not problem.cols and self.sweeps.at_once(rows.negatives, problem.negatives)
        sums = self._at_once(rows, join, loss, grads, workspace) if at_once else self._sums(rows, workspace)
        arriving = _slopes(join, loss, sums)
        self._add(rows, sums, arriving, grads, workspace, negatives=not at_once)
        return _value(join, loss, sums), order.gradients_back(rows.out(grads, sums, arriving), needs)

    def total(self, score: Score, needs: Needs, workspace: int) -> tuple[Tensor, Gradients]:
        """log ΣΣ e^s over all pairs, and its gradients."""
        sums, _ = self.sweeps.sums(score, Terms(), False, workspace)
        assert sums.reference is not None
        level = sums.reference[0].masked_fill(sums.total[0] == 0, -torch.inf)
        largest = level.amax()
        largest = torch.where(largest.isinf(), 0.0, largest)
        share = (level - largest).exp()  # (N,) the factor of a row's total, relative to the largest
        whole = (share * sums.total[0]).sum()
        grads = Gradients.zeros(sums.total, score, needs)
        if needs.any:
            factor = torch.where(whole == 0, 0.0, share / whole)
            row = Weights(sums.reference, factor[None])
            self.sweeps.grads(score, Terms(), row, None, needs, grads, workspace)
        return whole.log() + largest, grads

    def _sums(self, rows: Rows, workspace: int) -> RowSums:
        problem = rows.problem
        row, col = self.sweeps.sums(rows.negatives, problem.negatives, problem.cols, workspace)
        positives, of_columns = self._positives(rows, workspace)
        row = rows.with_also(row)
        return RowSums(SideSums(row, positives), None if col is None else SideSums(col, of_columns))

    def _positives(self, rows: Rows, workspace: int) -> tuple[Sums | None, Sums | None]:
        if rows.several is None:
            return rows.single_sums()
        return self.sweeps.sums(rows.several, rows.problem.of_positives, rows.problem.cols, workspace)

    def _at_once(self, rows: Rows, join: Join, loss: Loss, grads: Gradients, workspace: int) -> RowSums:
        """Make the sums of rows and add the gradients of the negatives, in one sweep."""
        problem, (positives, _) = rows.problem, self._positives(rows, workspace)
        weight = loss.of_rows(problem.N, positives, grads.score)

        def weigh(here: slice, sums: Sums) -> Weights:
            side = SideSums(rows.with_also(sums, here), None if positives is None else positives.part(here))
            arriving = slopes(join, side, weight[here])
            return Weights.of(side.negatives, problem.negatives.tilts, arriving.N)

        sums = self.sweeps.sums_and_grads(rows.negatives, problem.negatives, weigh, rows.needs, grads, workspace)
        return RowSums(SideSums(rows.with_also(sums), positives))

    def _add(
        self, rows: Rows, sums: RowSums, slopes: Slopes, to: Gradients, workspace: int, *, negatives: bool = True
    ) -> None:
        """Add the gradients of the negatives and of several positives; `Rows.out` adds those of single positives."""
        problem, needs = rows.problem, rows.needs
        if not needs.of_pairs:
            return

        def of_negatives(side: SideSums, slope: SideSlopes) -> Weights:
            return Weights.of(side.negatives, problem.negatives.tilts, slope.N, slope.negative_spread)

        def of_positives(side: SideSums, slope: SideSlopes) -> Weights | None:
            if side.positives is None or slope.P is None:
                return None
            return Weights.of(side.positives, problem.of_positives.tilts, slope.P[None], slope.spread)

        def add(score: Score, terms: Terms, weights: Callable[[SideSums, SideSlopes], Weights | None]) -> None:
            row = weights(sums.row, slopes.row)
            col = None if sums.col is None or slopes.col is None else weights(sums.col, slopes.col)
            if row is not None:
                self.sweeps.grads(score, terms, row, col, needs, to, workspace)

        if negatives:
            add(rows.negatives, problem.negatives, of_negatives)
        if rows.several is not None:
            add(rows.several, problem.of_positives, of_positives)


def _slopes(join: Join, loss: Loss, sums: RowSums) -> Slopes:
    row = slopes(join, sums.row, _weight(loss, sums.row))
    return Slopes(row, None if sums.col is None else slopes(join, sums.col, _weight(loss, sums.col, cols=True)))


def _value(join: Join, loss: Loss, sums: RowSums) -> Tensor:
    def of(side: SideSums, weight: Tensor) -> Tensor:
        # A row of weight 0 does not count, even if its value is infinite.
        return torch.where(weight == 0, 0.0, weight * values(join, side)).sum()

    value = of(sums.row, _weight(loss, sums.row))
    return value if sums.col is None else value + of(sums.col, _weight(loss, sums.col, cols=True))


def _weight(loss: Loss, side: SideSums, *, cols: bool = False) -> Tensor:
    total = side.negatives.total
    return loss.of_rows(total.shape[-1], side.positives, total, cols=cols)
