"""Strips of rows: the sweeps of every backend that keeps scores a strip at a time, over a table of six kernels.

    for each strip of B rows, over the columns in its reach:
        settle          t, (B, C), by the library's product: the only N×M object, never all of it at once
        absorb, merge   sums of its rows; of columns, merged with those of the strips before, in order
        score_grad      U = φ' ∘ P, (B, C), and what P and U sum to
                        dX_b += U Y and dY += Uᵀ X_b, by the library; of distances less (U·1) X_b and (Uᵀ·1) Y
        close           what these products lack, of distances that were taken by differences
        finish          the scores themselves, for top-k

Products of 2·N·M·D flops: 1 for sums and 3 for gradients; 3 for both at once, where only rows have sums, because those of a
strip's rows are complete when the strip is, and U is made from the same scores. Columns whose gradient nobody wants take none.
Sums run in a fixed order: the same bits on every run. Nothing here waits for a device.

`torch_kernels.py` is such a table, triton/strip_kernels.py another; `reference.py` specifies the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from ..problem.score import Score
from ..problem.types import NOTHING, Gradients, Needs, Sums, Terms, Weights
from .executor import Weigh


@dataclass
class Strip:
    """Where a strip lies, and the dtype of its U. A table keeps with it what it needs, until it settles the next one."""

    rows: slice
    columns: slice
    dtype: torch.dtype


class GradSums(NamedTuple):
    """What a strip's P and U sum to, as a kernel leaves it, to be written to; None where nobody asks.

    bias_row, bias_col  (parts, B), (parts, C) of P
    u_row, u_col        the same of U, as it goes into the products, for distances
    scale               (parts, B), fp64, zeros: Σ U t is added anywhere
    """

    bias_row: Tensor | None
    bias_col: Tensor | None
    u_row: Tensor | None
    u_col: Tensor | None
    scale: Tensor | None


S = TypeVar("S", bound=Strip)


class Kernels(Protocol[S]):
    """A table, made for one sweep over one score.

    Sums of a strip come in parts, which are `Sums` too: (tilts, parts, n) references and totals, (parts, n) the others.

    rows          of a strip
    factor        what U comes without: α, of distances 2α; None where it comes with it
    by_products   whether gradients go through products; else through `close` alone
    scale_by_products   whether Σ U t is left to them: it is Σ_i ⟨x_i, (U Y)_i⟩
    narrow        whether strips keep to the columns in their reach: ids are read for it
    """

    score: Score
    rows: int
    factor: float | Tensor | None
    by_products: bool
    scale_by_products: bool
    narrow: bool

    def settle(self, rows: slice, columns: slice) -> S: ...

    def parts(self, strip: S) -> tuple[int, int]:
        """How many parts sums of its rows, and of its columns, come in."""
        ...

    def absorb(self, strip: S, row: Sums, col: Sums | None) -> None: ...

    def merge(self, parts: Sums, into: Sums, add: bool) -> None:
        """References and totals of all parts together; `add`: and of what is there."""
        ...

    def sides(self, row: Weights, col: Weights | None, first_row: int) -> Any:
        """Weights as `score_grad` and `close` take them; those of rows begin with this row."""
        ...

    def score_grad(self, strip: S, sides: Any, sums: GradSums) -> Tensor:
        """U, (B, C). The strip's scores are spent."""
        ...

    def x_rows(self, rows: slice, dtype: torch.dtype) -> Tensor:
        """Of X, as products take them: of distances around the same point as those of Y."""
        ...

    def y_rows(self, columns: slice, dtype: torch.dtype) -> Tensor: ...

    def blocks(self, columns: slice, dtype: torch.dtype) -> Iterator[slice]:
        """Columns whose rows of Y are held at once."""
        ...

    def close(self, strip: S, u: Tensor, sides: Any, dx: Tensor | None, dy: Tensor | None, columns: slice) -> None:
        """Add to dx (B, D) of its rows, and to dy of these columns."""
        ...

    def finish(self, strip: S) -> Tensor: ...


Table = Callable[[Score, Terms, int, bool, Needs], Kernels[Any]]


class Strips:
    """`Sweeps` of a backend, and its top-k, by a table: made of score, terms, workspace, whether columns take part, and needs."""

    def __init__(self, table: Table):
        self.table = table

    def sums(self, score: Score, terms: Terms, cols: bool, workspace: int) -> tuple[Sums, Sums | None]:
        kernels = self.table(score, terms, workspace, cols, NOTHING)
        row = _sums(score, terms, score.N, zeros=kernels.narrow)
        col = _sums(score, terms, score.M, zeros=True) if cols else None
        for strip in settled(kernels):
            _absorb(kernels, strip, terms, row, col)
        return row, col

    def grads(
        self,
        score: Score,
        terms: Terms,
        row: Weights,
        col: Weights | None,
        needs: Needs,
        into: Gradients,
        workspace: int,
    ) -> None:
        if not needs.any:
            return
        kernels = self.table(score, terms, workspace, col is not None, needs)
        sides = kernels.sides(row, col, 0)
        for strip in settled(kernels):
            _add_grads(kernels, strip, sides, needs, into)

    def at_once(self, score: Score, terms: Terms) -> bool:
        return True

    def sums_and_grads(
        self, score: Score, terms: Terms, weigh: Weigh, needs: Needs, into: Gradients, workspace: int
    ) -> Sums:
        if not needs.any:
            return self.sums(score, terms, False, workspace)[0]
        kernels = self.table(score, terms, workspace, False, needs)
        row = _sums(score, terms, score.N, zeros=kernels.narrow)
        for strip in settled(kernels):
            _absorb(kernels, strip, terms, row, None)
            sides = kernels.sides(weigh(strip.rows, row.part(strip.rows)), None, strip.rows.start)
            _add_grads(kernels, strip, sides, needs, into)
        return row

    def top_k(self, score: Score, k: int, workspace: int) -> tuple[Tensor, Tensor]:
        kernels = self.table(score, Terms(), workspace, False, NOTHING)
        values = score.x.new_empty(score.N, k, dtype=score.dtype)
        indices = score.x.new_empty(score.N, k, dtype=torch.int64)
        for strip in settled(kernels):
            values[strip.rows], indices[strip.rows] = kernels.finish(strip).topk(k, dim=1)
        return values, indices


def settled(kernels: Kernels[S]) -> Iterator[S]:
    """The strips of a sweep, one after the other; where the table narrows them, those that have a pair."""
    score = kernels.score
    for first in range(0, score.N, kernels.rows):
        rows = slice(first, min(first + kernels.rows, score.N))
        columns = score.columns_in_reach(rows.start, rows.stop) if kernels.narrow else slice(0, score.M)
        if columns.start < columns.stop:
            yield kernels.settle(rows, columns)


def _sums(score: Score, terms: Terms, *shape: int, zeros: bool = False) -> Sums:
    """To be written to; zeros where strips add to it, or may pass by some of it: sums over no pair."""
    make, tilts = score.x.new_zeros if zeros else score.x.new_empty, len(terms.tilts)

    def new(on: bool, *shape: int) -> Tensor | None:
        return make(shape, dtype=score.dtype) if on else None

    total, reference = make((tilts, *shape), dtype=score.dtype), new(terms.op == "logsumexp", tilts, *shape)
    return Sums(reference, total, new(terms.linear, *shape), new(terms.linear, *shape))


def _absorb(kernels: Kernels[S], strip: S, terms: Terms, row: Sums, col: Sums | None) -> None:
    ranges, tiles = kernels.parts(strip)
    of_rows = _sums(kernels.score, terms, ranges, _length(strip.rows))
    of_cols = None if col is None else _sums(kernels.score, terms, tiles, _length(strip.columns))
    kernels.absorb(strip, of_rows, of_cols)
    _merge(kernels, of_rows, row.part(strip.rows), add=False)
    if col is not None and of_cols is not None:
        _merge(kernels, of_cols, col.part(strip.columns), add=True)


def _merge(kernels: Kernels[Any], parts: Sums, into: Sums, *, add: bool) -> None:
    kernels.merge(parts, into, add)
    for found, sums in ((parts.linear, into.linear), (parts.count, into.count)):
        if found is not None and sums is not None:
            sums.add_(summed(found)) if add else sums.copy_(summed(found))


def _add_grads(kernels: Kernels[S], strip: S, sides: Any, needs: Needs, into: Gradients) -> None:
    """A strip's share of all gradients."""
    score, rows, columns = kernels.score, strip.rows, strip.columns
    wanted, of_y = (slice(0, score.M), into.x) if score.y is None and needs.x else (needs.y, into.y)
    here = _overlap(columns, wanted)
    ranges, tiles = kernels.parts(strip)
    distances = score.kind == "sqdist" and kernels.by_products

    def new(on: bool, parts: int, n: int, dtype: torch.dtype) -> Tensor | None:
        return score.x.new_empty(parts, n, dtype=dtype) if on else None

    B, C = _length(rows), _length(columns)
    scale = needs.scale and not kernels.scale_by_products
    sums = GradSums(
        bias_row=new(needs.row_bias, ranges, B, score.dtype),
        bias_col=new(needs.col_bias, tiles, C, score.dtype),
        u_row=new(distances and needs.x, ranges, B, strip.dtype),
        u_col=new(distances and _length(here) > 0, tiles, C, strip.dtype),
        scale=score.x.new_zeros(ranges, B, dtype=torch.float64) if scale else None,
    )
    u = kernels.score_grad(strip, sides, sums)
    if sums.bias_row is not None:
        into.row_bias[rows] += summed(sums.bias_row)
    if sums.bias_col is not None:
        into.col_bias[columns] += summed(sums.bias_col)
    if sums.scale is not None:
        into.scale += sums.scale.sum()
    if kernels.by_products:
        _pull(kernels, strip, u, sums, needs, into, of_y, wanted)
    if score.kind == "sqdist" and (needs.x or _length(here) > 0):
        dy = of_y[_within(here, wanted)] if _length(here) > 0 else None
        kernels.close(strip, u, sides, into.x[rows] if needs.x else None, dy, here)


def _pull(
    kernels: Kernels[S], strip: S, u: Tensor, sums: GradSums, needs: Needs, into: Gradients, of_y: Tensor, wanted: slice
) -> None:
    """The gradients of embeddings by products of U, and that of the scale where it is left to them."""
    scale = needs.scale and kernels.scale_by_products
    here = strip.columns if needs.x or scale else _overlap(strip.columns, wanted)
    if _length(here) == 0:
        return
    factor, x = kernels.factor, kernels.x_rows(strip.rows, u.dtype)
    u_col = None if sums.u_col is None else summed(sums.u_col)[:, None]
    # Of distances two terms meet that may be equal: they are multiplied when they have.
    later = factor if u_col is not None else None
    left = x if factor is None or later is not None else x * factor
    uy, in_place = None, factor is None and not scale and into.x.dtype == u.dtype
    if needs.x or scale:
        uy = into.x[strip.rows] if in_place else torch.zeros_like(x)
    for block in kernels.blocks(here, u.dtype):
        y, part = kernels.y_rows(block, u.dtype), u[:, _within(block, strip.columns)]
        if uy is not None:
            uy.addmm_(part, y)
        at = _overlap(block, wanted)
        if _length(at) == 0:
            continue
        # A U in fp64 is rounded to the gradient's dtype after its large terms have cancelled.
        target, part = of_y[_within(at, wanted)], part[:, _within(at, block)]
        ux = target if target.dtype == u.dtype and later is None else x.new_zeros(target.shape)
        ux.addmm_(part.T, left)
        if u_col is not None:
            # A product of its own, which is rounded as that of the matrices is: a pair of equal rows leaves 0.
            ux -= y[_within(at, block)] * u_col[_within(at, strip.columns)]
        if later is not None:
            ux *= later
        if ux is not target:
            target += ux
    if uy is not None and scale:
        into.scale += (x * uy).sum(dtype=torch.float64)
    if uy is not None and needs.x:
        if sums.u_row is not None:
            uy -= x * summed(sums.u_row)[:, None]
        if not in_place:
            into.x[strip.rows] += uy if factor is None else uy.mul_(factor)


def summed(parts: Tensor) -> Tensor:
    """(n,) of (parts, n)."""
    return parts[0] if len(parts) == 1 else parts.sum(dim=0)


def _length(part: slice) -> int:
    return max(0, part.stop - part.start)


def _overlap(a: slice, b: slice) -> slice:
    return slice(max(a.start, b.start), min(a.stop, b.stop))


def _within(part: slice, whole: slice) -> slice:
    """The numbers that a part of something has there."""
    return slice(part.start - whole.start, part.stop - whole.start)
