"""Strips of rows: the sweeps of every backend that keeps scores a strip at a time, over a table of five functions.

    for each strip of B rows, over the columns in its reach:
        settle     t, (B, C), by the library's product: the only N×M object, of which one strip exists at a time
        absorb     sums of the rows; sums of columns, merged with those of earlier strips, in order
        add_grads  U = φ' ∘ P, (B, C), and sums of P and U
                   dX_b += U Y and dY += Uᵀ X_b, by the library; for distances minus (U·1) X_b and (Uᵀ·1) Y
        weights    P alone, for softmax-weighted sums of values
        finish     the scores themselves, for top-k

Products of 2·N·M·D flops: 1 for sums and 3 for gradients. 3 for both at once if only rows have sums: a row's sum is complete when
its strip is, and U is made from the same scores. Columns without a requested gradient take no product. Sums run in a fixed order:
the same bits on every run. Nothing here waits for a device.

`torch_kernels.py` and triton/strip_kernels.py are such tables; `reference.py` specifies the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from ..problem.score import Score
from ..problem.types import NOTHING, Attended, Gradients, Needs, Sums, Terms, Weights
from .executor import Sweeps, Weigh


@dataclass
class Strip:
    """The rows and columns of a strip. A table adds its own fields, which hold until it settles the next strip."""

    rows: slice
    columns: slice


S = TypeVar("S", bound=Strip)


class Kernels(Protocol[S]):
    """A table, made for one sweep over one score.

    rows    the rows of a strip
    narrow  whether strips have only the columns in their reach, for which ids are read
    """

    score: Score
    rows: int
    narrow: bool

    def settle(self, rows: slice, columns: slice) -> S: ...

    def absorb(self, strip: S, row: Sums, col: Sums | None) -> None:
        """Write the sums of the strip's rows, and add the sums of its columns."""
        ...

    def sides(self, row: Weights, col: Weights | None) -> Any:
        """Weights as `add_grads` takes them; `part` returns those of some rows and columns."""
        ...

    def weights(self, strip: S, sides: Any) -> Tensor:
        """P, (B, C), free to overwrite."""
        ...

    def add_grads(self, strip: S, sides: Any, needs: Needs, to: Gradients, of: Attended | None = None) -> None:
        """Add a strip's share of all gradients. Its scores are overwritten. With `of` its `weights` were made just before, and
        P is these times the gradients of shares."""
        ...

    def finish(self, strip: S) -> Tensor: ...


class Strips(Sweeps):
    """`Sweeps` of a backend, and its top-k, over a table made from score, terms, workspace, whether columns have sums, needs."""

    def __init__(self, table: Callable[[Score, Terms, int, bool, Needs], Kernels[Any]]):
        self.table = table

    def sums(self, score: Score, terms: Terms, cols: bool, workspace: int) -> tuple[Sums, Sums | None]:
        kernels = self.table(score, terms, workspace, cols, NOTHING)
        row = _sums(score, terms, score.N, zeros=kernels.narrow)
        col = _sums(score, terms, score.M, zeros=True) if cols else None
        for strip in settled(kernels):
            kernels.absorb(strip, row.part(strip.rows), None if col is None else col.part(strip.columns))
        return row, col

    def grads(
        self, score: Score, terms: Terms, row: Weights, col: Weights | None, needs: Needs, to: Gradients, workspace: int
    ) -> None:
        if not needs.any:
            return
        kernels = self.table(score, terms, workspace, col is not None, needs)
        sides = kernels.sides(row, col)
        for strip in settled(kernels):
            kernels.add_grads(strip, sides.part(strip.rows, strip.columns), needs, to)

    def at_once(self, score: Score, terms: Terms) -> bool:
        return True

    def sums_and_grads(
        self, score: Score, terms: Terms, weigh: Weigh, needs: Needs, to: Gradients, workspace: int
    ) -> Sums:
        if not needs.any:
            return self.sums(score, terms, False, workspace)[0]
        kernels = self.table(score, terms, workspace, False, needs)
        row = _sums(score, terms, score.N, zeros=kernels.narrow)
        for strip in settled(kernels):
            here = row.part(strip.rows)
            kernels.absorb(strip, here, None)
            sides = kernels.sides(weigh(strip.rows, here), None)
            kernels.add_grads(strip, sides.part(slice(0, score.N), strip.columns), needs, to)
        return row

    def attend(self, score: Score, values: Tensor, workspace: int) -> tuple[Tensor, Sums]:
        # Half of the workspace: a strip has a second buffer here, of its weights.
        kernels = self.table(score, Terms(), workspace // 2, True, NOTHING)
        row, values = _sums(score, Terms(), score.N, zeros=False), values.to(score.dtype)
        out = values.new_empty(score.N, values.shape[1])
        for strip in settled(kernels):
            here = row.part(strip.rows)
            kernels.absorb(strip, here, None)
            sides = kernels.sides(Weights.of_softmax(here), None)
            torch.mm(kernels.weights(strip, sides.part(slice(0, score.N), strip.columns)), values, out=out[strip.rows])
        return out, row

    def attend_grads(
        self, score: Score, sums: Sums, of: Attended, needs: Needs, with_values: bool, workspace: int
    ) -> tuple[Gradients, Tensor]:
        kernels = self.table(score, Terms(), workspace // 2, True, needs)
        of = of._replace(values=of.values.to(score.dtype))
        grads = Gradients.zeros(sums.total, score, needs)
        of_values = torch.zeros_like(of.values) if with_values else sums.total.new_empty(0)
        sides = kernels.sides(Weights.of_softmax(sums), None)
        for strip in settled(kernels):
            part, here = sides.part(strip.rows, strip.columns), of.part(strip.rows, strip.columns)
            p = kernels.weights(strip, part)
            if with_values:
                of_values[strip.columns].addmm_(p.T, here.upstream)
            if needs.any:
                kernels.add_grads(strip, part, needs, grads, here)
        return grads, of_values

    def top_k(self, score: Score, k: int, workspace: int) -> tuple[Tensor, Tensor]:
        kernels = self.table(score, Terms(), workspace, False, NOTHING)
        values = score.x.new_empty(score.N, k, dtype=score.dtype)
        indices = values.new_empty(score.N, k, dtype=torch.int64)
        for strip in settled(kernels):
            values[strip.rows], indices[strip.rows] = kernels.finish(strip).topk(k, dim=1)
        return values, indices


def settled(kernels: Kernels[S]) -> Iterator[S]:
    """The strips of a sweep, one after the other; if the table narrows them, only those that have a pair."""
    score = kernels.score
    for first in range(0, score.N, kernels.rows):
        rows = slice(first, min(first + kernels.rows, score.N))
        columns = score.columns_in_reach(rows.start, rows.stop) if kernels.narrow else slice(0, score.M)
        if columns.start < columns.stop:
            yield kernels.settle(rows, columns)


def _sums(score: Score, terms: Terms, n: int, *, zeros: bool) -> Sums:
    """New sums to write to; zeros if strips add to them, or may skip some of them, which are then sums over no pair."""
    made = Sums.empty(score.x.new_empty(0, dtype=score.dtype), terms, n)
    for t in made:
        if zeros and t is not None:
            t.zero_()
    return made


def columns_wanted(score: Score, needs: Needs, to: Gradients) -> tuple[slice, Tensor]:
    """The columns whose gradient is requested, from the first to the last, and its target."""
    return (slice(0, score.M), to.x) if score.y is None and needs.x else (needs.y, to.y)


def length(part: slice) -> int:
    return max(0, part.stop - part.start)


def overlap(a: slice, b: slice) -> slice:
    return slice(max(a.start, b.start), min(a.stop, b.stop))


def within(part: slice, whole: slice) -> slice:
    """A part of `whole`, counted from the beginning of `whole`."""
    return slice(part.start - whole.start, part.stop - whole.start)
