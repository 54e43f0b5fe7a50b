"""Points put into an order in which neighbours stand together, and what was made of them put back.

Where pairs that cannot matter are skipped, they fall by tiles; a tile of neighbours is compact, and most others are far from it.
Diagonals keep to the numbers that points had before: the core is told where everything stands now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..problem.exclude import IdPair
from ..problem.score import Score
from ..problem.types import Gradients

TILE = 192  # rows; csrc/cpu/tile.h


@dataclass(frozen=True)
class Permutation:
    """rows, columns    the number before, of each row and column that stands there now; None for the order there was
    place_of_column  the inverse of columns
    """

    rows: Tensor | None = None
    columns: Tensor | None = None
    place_of_column: Tensor | None = None

    def of_rows(self, t: Tensor | None) -> Tensor | None:
        return t if t is None or self.rows is None else t.detach().index_select(0, self.rows)

    def of_columns(self, t: Tensor | None) -> Tensor | None:
        return t if t is None or self.columns is None else t.detach().index_select(0, self.columns)

    def apply(self, score: Score) -> Score:
        """The score of the points in this order, except for its diagonals, which are by the numbers before."""
        if self.rows is None:
            return score

        def ids(pair: IdPair | None) -> IdPair | None:
            return None if pair is None else (pair[0][self.rows], pair[1][self.columns])

        x = score.x.detach().index_select(0, self.rows)
        exclude = replace(score.exclude, same=ids(score.exclude.same), different=ids(score.exclude.different))
        y = None if score.y is None else self.of_columns(score.y)
        biases = {"row_bias": self.of_rows(score.row_bias), "col_bias": self.of_columns(score.col_bias)}
        return replace(score, x=x, y=y, exclude=exclude, **biases)

    def back(self, row: Tensor, col: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column results by the numbers before; an empty tensor stays one."""
        return _back(row, self.rows), _back(col, self.columns)

    def gradients_back(self, grads: Gradients) -> Gradients:
        x, row_bias = (_back(g, self.rows) for g in (grads.x, grads.row_bias))
        y, col_bias = (_back(g, self.columns) for g in (grads.y, grads.col_bias))
        return Gradients(x, y, grads.scale, row_bias, col_bias)


NONE = Permutation()


def pays(score: Score) -> bool:
    """Whether points are worth moving: there is more than one tile, and no classes whose order spares tiles already."""
    return max(score.N, score.M) > TILE and score.exclude.different is None


def permutation(score: Score, put_in_order: Callable[[Tensor], Tensor]) -> Permutation:
    """The order of a score's points. Where y is x both move together, so that what is symmetric stays so."""
    rows = put_in_order(score.x)
    columns = rows if score.y is None else put_in_order(score.y)
    place = torch.empty_like(columns)
    place[columns] = torch.arange(len(columns))
    return Permutation(rows, columns, place)


def _back(t: Tensor, numbers: Tensor | None) -> Tensor:
    if numbers is None or not t.numel():
        return t
    return torch.empty_like(t).index_copy_(0, numbers, t)
