"""Sums of rows over pairs, which can be merged, and the gradient of whatever is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .. import ops
from .._checks import fail, wrong_type
from ..ops import Who
from ..problem.counts import count_pairs
from ..problem.join import arguments
from ..problem.phi import IDENTITY
from ..problem.row_loss import RowProblem
from ..problem.types import RowSums, SideSums, Terms
from .arguments import who

PER_SIDE = 4  # values of rows, and of columns: N, P, and how far either lies above the mean of its scores


@dataclass(frozen=True, eq=False)
class Block:
    """One problem that sums are over, and who computes it."""

    problem: RowProblem
    who: Who


class Side:
    """The sums of rows, or of columns: values with gradients, and counts."""

    def _value(self, place: int) -> Tensor:
        raise NotImplementedError

    @property
    def _side(self) -> SideSums:
        raise NotImplementedError

    @property
    def N(self) -> tuple[Tensor, ...]:
        """Log-sum-exps, or sums of ψ, over the negatives, one (N,) tensor for each tilt; −inf for a row without negatives."""
        return self._value(0).unbind(0)

    @property
    def P(self) -> Tensor:
        """(N,) log-sum-exps, or sums of ψ, over the positives; 0 for a row without positives."""
        return self._there(1, "P", "the problem has no positives")

    @property
    def spread(self) -> Tensor:
        """(N,) P − mean_p s_ip over the positives; exactly 0 for one positive."""
        return self._there(2, "spread", "the problem has no positives, or they are summed by a ψ")

    @property
    def negative_spread(self) -> Tensor:
        """(N,) N − mean_j s_ij over the negatives; 0 for a row without negatives."""
        return self._there(3, "negative_spread", "row_sums was not asked for it: negative_spread=True")

    @property
    def n_pos(self) -> Tensor:
        """(N,) the number of positives of each row, in the dtype of the sums."""
        positives = self._side.positives
        if positives is None or positives.count is None:
            fail("row_sums", "n_pos", "asked for", "cannot be counted: the problem has no positives")
        return positives.count

    def of_positives(self) -> tuple[Tensor, Tensor | None, Tensor] | None:
        """P, the spread or None, and n_pos; None if the problem has no positives."""
        if self._side.positives is None:
            return None
        spread = self._value(2)
        return self.P, spread if spread.numel() else None, self.n_pos

    def _there(self, place: int, name: str, why: str) -> Tensor:
        value = self._value(place)
        if not value.numel():
            fail("row_sums", name, "asked for", f"is not there: {why}")
        return value


@dataclass(frozen=True, eq=False, repr=False)
class SumsOfRows(Side):
    """Sums over the negatives and the positives of each row, as `row_sums` returns them: over the pairs of one block of keys, or
    of several that were merged.

    blocks  the problems that were summed, of the same rows
    raw     the sums: for each tilt and row a reference and a total, Σ e^s = total · e^reference
    values  `PER_SIDE` tensors of rows, then of columns; empty tensors for absent ones

    N, P, `spread` and `negative_spread` have gradients: another sweep over the pairs makes them from their upstream gradients.
    """

    blocks: tuple[Block, ...]
    raw: RowSums
    values: Sequence[Tensor]

    def __repr__(self) -> str:
        rows, blocks = self.raw.row.negatives.total.shape[-1], len(self.blocks)
        return f"SumsOfRows({rows} rows, {blocks} block{'' if blocks == 1 else 's'} of keys)"

    @property
    def n_neg(self) -> Tensor:
        """(N,) the number of negatives of each row, with pairs that a bias of −inf excludes; in the dtype of the sums."""
        counts = [_count(block.problem, block.who) for block in self.blocks]
        return torch.stack(counts).sum(dim=0).to(self.raw.row.negatives.total.dtype)

    @property
    def cols(self) -> SumsOfColumns:
        """The sums of columns, if `row_sums` was called for both sides."""
        if self.raw.col is None:
            fail("row_sums", "cols", "asked for", 'were not summed: dim="both"')
        return SumsOfColumns(self, self.raw.col)

    def merge(self, *others: SumsOfRows) -> SumsOfRows:
        """The sums over these pairs and those of the others, which have the same rows and other keys."""
        blocks, row = _of_rows(self), self.raw.row
        for other in others:
            if not isinstance(other, SumsOfRows):
                wrong_type("merge", "others", other, "must be what row_sums returned")
            if other.raw.row.negatives.total.shape != row.negatives.total.shape:
                was, must = other.raw.row.negatives.total.shape[-1], row.negatives.total.shape[-1]
                fail("merge", "others", f"of {was} rows", f"must be of the same {must} rows")
            blocks = (*blocks, *_of_rows(other))
            row = row.merged(other.raw.row)
        return SumsOfRows.of(blocks, RowSums(row))

    @staticmethod
    def of(blocks: tuple[Block, ...], raw: RowSums) -> SumsOfRows:
        values: Sequence[Tensor] = [*_of_side(raw.row), *_of_side(raw.col, like=raw.row)]
        for block in blocks:
            values = ops.attach(values, block.problem, raw, block.who)
        return SumsOfRows(blocks, raw, values)

    def _value(self, place: int) -> Tensor:
        return self.values[place]

    @property
    def _side(self) -> SideSums:
        return self.raw.row


class SumsOfColumns(Side):
    """Sums over the negatives and the positives of each column of a problem."""

    def __init__(self, sums: SumsOfRows, side: SideSums):
        self._sums, self._of_columns = sums, side

    @property
    def n_neg(self) -> Tensor:
        """(M,) the number of negatives of each column."""
        (block,) = self._sums.blocks
        count = _count(replace(block.problem, also=None).transposed(), block.who)
        return count.to(self._of_columns.negatives.total.dtype)

    def _value(self, place: int) -> Tensor:
        return self._sums.values[PER_SIDE + place]

    @property
    def _side(self) -> SideSums:
        return self._of_columns


def _count(problem: RowProblem, chosen: Who) -> Tensor:
    """(N,) negatives of each row."""
    if problem.exclude.guide is None:
        return count_pairs(problem)
    # A guide excludes pairs one by one: all others get the score 1 and are counted by a sweep that applies the guide.
    ones = problem.x[0].new_ones(problem.N, dtype=problem.dtype)
    scores = {"scale": 0.0, "row_bias": ones, "col_bias": None, "phi": IDENTITY, "kind": "dot", "also": None}
    problem = replace(problem, negatives=Terms("step"), normalize=False, cols=False, **scores)
    with torch.no_grad():
        return ops.row_sums(problem, chosen).row.negatives.total[0]


def sums_of(function: str, problem: RowProblem) -> SumsOfRows:
    """The sums of a checked problem."""
    chosen = who(function, problem)
    with torch.no_grad():
        raw = ops.row_sums(problem, chosen)
    return SumsOfRows.of((Block(problem, chosen),), raw)


def _of_rows(sums: SumsOfRows) -> tuple[Block, ...]:
    """The blocks without sums of columns, because each block has other columns."""
    return tuple(Block(replace(block.problem, cols=False), block.who) for block in sums.blocks)


def _of_side(side: SideSums | None, like: SideSums | None = None) -> list[Tensor]:
    if side is None:
        assert like is not None
        return [like.negatives.total.new_empty(0) for _ in range(PER_SIDE)]
    empty = side.negatives.total.new_empty
    logs, P, spread, _ = arguments(side)
    negatives = side.negatives
    apart = None
    if negatives.linear is not None and negatives.count is not None:
        apart = torch.where(negatives.count > 1, logs[0] - negatives.linear / negatives.count.clamp_min(1), 0.0)
    return [torch.stack(logs), *(empty(0) if value is None else value for value in (P, spread, apart))]
