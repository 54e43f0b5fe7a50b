"""Strips: t of B rows by the library's product, the kernels of `epilogue.py`, and the library's products again.

For products in fp32 and fp64, which tensor cores do not make, for distances in more than 16 dimensions, and for the largest
scores. Where only rows are reduced and the upstream is known, a strip gives values and gradients at 3 products of 2·N·M·D
flops; else a pass of 1 for the values and one of 3 for the gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..backends import squared_distance as expansion
from ..problem.score import Score
from ..problem.types import Gradients, Needs, Upstream, Weighted
from . import epilogue, shapes
from .launch import Problem, Side, Sides, aligned, cdiv, product, ranges, run_options
from .launch_cache import launch_cached

ALIGNED = 16  # elements: rows of a strip begin where tensor cores and vector loads want them


@dataclass
class Strip:
    """Rows first … last − 1 of t, (B, M) within (B, ld)."""

    strips: Strips
    first: int
    last: int
    t: Tensor

    @property
    def rows(self) -> int:
        return self.last - self.first

    @property
    def here(self) -> slice:
        return slice(self.first, self.last)

    @property
    def where(self) -> tuple[int, int, int, int]:
        return self.first, self.last, self.strips.score.M, self.t.stride(0)

    @property
    def tiles(self) -> int:
        return cdiv(self.rows, self.strips.shape.rows)

    def scores_from_products(self) -> Tensor:
        """The scores, in place of t."""
        problem, shape = self.strips.problem, self.strips.shape
        grid = self.tiles * cdiv(problem.score.M, shape.cols)
        launch_cached(
            epilogue.scores_from_products, (grid,),
            self.t, problem.score.scale, problem.pairs, *self.where, **problem.phi, **run_options(shape),
        )  # fmt: skip
        return self.t[:, : problem.score.M]


class Strips:
    """The strips of one problem, as an iterable that reuses its buffers.

    x, y         what the products take: the embeddings, for distances around the mean of y, in the dtype of the products
    close_above  0-d: t above which pairs are so close that their distance is taken by differences; None for products
    flags        of tiles with such pairs, of the strip at hand
    weights      (B, ld), where a strip's U goes
    ranges       of columns, with columns_each; every strip has as many
    """

    def __init__(self, score: Score, workspace: int, *, gradient: bool):
        self.score, self.problem = score, Problem.of(score)
        self.x, self.y = self.problem.x, self.problem.y
        self.close_above: Tensor | None = None
        if score.kind == "sqdist":
            self._center()
        self.rows, ld = sizes(score, workspace, gradient=gradient)
        self.shape = shapes.strip(score)
        self.tiles = cdiv(self.rows, self.shape.rows)
        self.ranges, self.columns_each = ranges(self.problem, self.shape, self.rows)
        self._t = self.x.new_empty(self.rows, ld, dtype=score.dtype)
        self.weights = self._t.new_empty(self.rows if gradient else 0, ld)
        across = cdiv(score.M, self.shape.cols)
        self.flags = self._t.new_empty(self.tiles * across, dtype=torch.int8)

    def _center(self) -> None:
        score = self.score
        center = expansion.center(score, score.dtype)
        center = torch.where(center.isfinite(), center, 0.0)
        self.x = score.x.to(score.dtype) - center
        self.y = self.x if score.y is None else score.y.to(score.dtype) - center
        self._x_squares = self.x.square().sum(dim=1)
        self._y_squares = self._x_squares if score.y is None else self.y.square().sum(dim=1)
        radius = torch.maximum(self._x_squares.amax(), self._y_squares.amax())
        # TF32 keeps 10 bits: then a product is exact enough for small radii, and no distance is large enough otherwise.
        tf32 = shapes.tf32(score.dtype)
        eps = 2.0**-11 if tf32 else torch.finfo(score.dtype).eps
        harmless = (score.scale.abs() * radius).double() * eps <= expansion.bar(score)
        close = torch.full_like(radius, -torch.inf) if tf32 else -expansion.CLOSE * radius
        self.close_above = torch.where(harmless, torch.inf, close).to(score.dtype)

    def __iter__(self) -> Iterator[Strip]:
        score, M = self.score, self.score.M
        for first in range(0, score.N, self.rows):
            last = min(score.N, first + self.rows)
            strip = Strip(self, first, last, self._t[: last - first])
            product(self.x[first:last], self.y.T, score.dtype, out=strip.t[:, :M])
            if self.close_above is not None:
                grid = strip.tiles * cdiv(M, self.shape.cols)
                launch_cached(
                    epilogue.settle, (grid,),
                    strip.t, self.problem.x, self.problem.y, self._x_squares, self._y_squares, self.close_above,
                    self.flags, *strip.where, D=score.D, **run_options(self.shape),
                )  # fmt: skip
            yield strip


def sizes(score: Score, workspace: int, *, gradient: bool) -> tuple[int, int]:
    """Rows of a strip, and the elements from one to the next.

    Whole tiles, if there is room for one: so the sweep for values and that for gradients, whose strips differ, have the same
    tiles, and in each a distance is taken in the same way.
    """
    ld, tile = cdiv(score.M, ALIGNED) * ALIGNED, shapes.strip(score).rows
    rows = workspace // (ld * score.dtype.itemsize * (1 + gradient))
    return min(score.N, max(1, rows // tile * tile or rows)), ld


class Sums:
    """Log-sum-exps, or sums of ψ: of rows a strip at a time; of columns from parts that all strips add to.

    gradient  that arrives at each row, of those whose value is known
    """

    def __init__(self, strips: Strips, op: str, cols: bool, weighted: Weighted | None = None):
        self._strips, self._lse = strips, op == "logsumexp"
        score = strips.score
        self.value = score.x.new_empty(score.N, dtype=score.dtype)
        self.gradient = self._weight = self._anchor = None
        if weighted is not None:
            self.gradient = self._weight = aligned(weighted.weight)
            if self._lse and weighted.anchor is not None:
                self.gradient, self._anchor = torch.empty_like(self.value), aligned(weighted.anchor)
        self._col_total = self.value.new_zeros(strips.tiles, score.M) if cols else None
        self._col_largest = (
            torch.full_like(self._col_total, -torch.inf) if self._col_total is not None and self._lse else None
        )

    def absorb(self, strip: Strip) -> None:
        problem, count = self._strips.problem, self._strips.ranges
        total = self.value.new_empty(count, strip.rows)
        largest = torch.empty_like(total) if self._lse else None
        launch_cached(
            epilogue.absorb, (strip.tiles, count),
            strip.t, problem.score.scale, problem.pairs, largest, total, self._col_largest, self._col_total, *strip.where,
            self._strips.columns_each, LSE=self._lse, **problem.phi, **run_options(self._strips.shape),
        )  # fmt: skip
        self._merge(total, largest, self.value, strip.here, self._weight, self._anchor)

    def columns(self) -> Tensor:
        if self._col_total is None:
            return self.value.new_empty(0)
        col = self.value.new_empty(self._strips.score.M)
        self._merge(self._col_total, self._col_largest, col, slice(0, len(col)))
        return col

    def _merge(
        self, total: Tensor, largest: Tensor | None, value: Tensor, here: slice, weight: Tensor | None = None,
        anchor: Tensor | None = None,
    ) -> None:  # fmt: skip
        gradient = None if anchor is None else self.gradient
        launch_cached(
            epilogue.merge, (cdiv(here.stop - here.start, shapes.MERGE.rows),),
            total, largest, weight, anchor, value, gradient, here.start, here.stop, len(total), LSE=self._lse,
            **run_options(shapes.MERGE),
        )  # fmt: skip


class Pull:
    """Gradients that strips add to. What goes through sums of U over columns is added when all strips are in."""

    def __init__(self, strips: Strips, op: str, grads: Gradients):
        self._strips, self._grads, self._lse = strips, grads, op == "logsumexp"
        score, t = strips.score, strips.weights
        self._of_y = grads.x if score.y is None else grads.y
        distances = score.kind == "sqdist"
        self._u_row = t.new_empty(score.N) if distances and grads.x.numel() else None
        self._u_col, self._bias_col = (
            t.new_zeros(strips.tiles, score.M) if on else None
            for on in (distances and self._of_y.numel(), grads.col_bias.numel())
        )
        on = grads.scale.numel()
        self._scale = t.new_zeros(strips.ranges, strips.rows, dtype=torch.float64) if on else None

    def add(self, strip: Strip, sides: Sides) -> None:
        strips, grads, problem, count = self._strips, self._grads, self._strips.problem, self._strips.ranges
        u = strips.weights[: strip.rows]
        bias_row, u_row = (
            u.new_empty(count, strip.rows) if on else None for on in (grads.row_bias.numel(), self._u_row is not None)
        )
        launch_cached(
            epilogue.score_grad, (strip.tiles, count),
            strip.t, u, problem.score.scale, problem.pairs, *sides, strips.close_above, bias_row, self._bias_col, u_row,
            self._u_col, self._scale, *strip.where, strips.columns_each, LSE=self._lse, **problem.phi,
            **run_options(self._strips.shape),
        )  # fmt: skip
        if bias_row is not None:
            torch.sum(bias_row, dim=0, out=grads.row_bias[strip.here])
        u = u[:, : problem.score.M]
        if grads.x.numel():
            grads.x[strip.here].addmm_(u, strips.y)
        if u_row is not None and self._u_row is not None:
            torch.sum(u_row, dim=0, out=self._u_row[strip.here])
            self._add_close(strip, grads.x[strip.here], False, sides)
        if self._of_y.numel():
            self._of_y.addmm_(u.T, strips.x[strip.here])
        if self._u_col is not None:
            self._add_close(strip, self._of_y, True, sides)

    def _add_close(self, strip: Strip, target: Tensor, cols: bool, sides: Sides) -> None:
        strips, problem, shape = self._strips, self._strips.problem, self._strips.shape
        owners = cdiv(problem.score.M, shape.cols) if cols else strip.tiles
        launch_cached(
            epilogue.close, (owners, cdiv(problem.score.D, epilogue.DIMS_PER_PROGRAM.value)),
            strip.t, problem.x, problem.y, problem.score.scale, problem.pairs, *sides, strips.close_above, strips.flags,
            target, *strip.where, D=problem.score.D, COLS=cols, LSE=self._lse, **problem.phi, **run_options(shape),
        )  # fmt: skip

    def write_back(self) -> None:
        grads, strips = self._grads, self._strips
        if self._bias_col is not None:
            torch.sum(self._bias_col, dim=0, out=grads.col_bias)
        if self._scale is not None:
            grads.scale += self._scale.sum()
        if self._u_row is not None:
            grads.x.addcmul_(strips.x, self._u_row[:, None], value=-1)
        if self._u_col is not None:
            self._of_y.addcmul_(strips.y, self._u_col.sum(dim=0)[:, None], value=-1)


def reduce(score: Score, op: str, cols: bool, workspace: int) -> tuple[Tensor, Tensor]:
    strips = Strips(score, workspace, gradient=False)
    sums = Sums(strips, op, cols)
    for strip in strips:
        sums.absorb(strip)
    return sums.value, sums.columns()


def gradient(score: Score, op: str, row: Upstream, col: Upstream | None, needs: Needs, workspace: int) -> Gradients:
    grads, strips = Gradients.zeros(score, needs), Strips(score, workspace, gradient=True)
    sides, pull = Sides.of(row, col), Pull(strips, op, grads)
    for strip in strips:
        pull.add(strip, sides)
    pull.write_back()
    return grads


def reduce_and_gradient(
    score: Score, op: str, row: Weighted, needs: Needs, workspace: int
) -> tuple[Tensor, Tensor, Gradients]:
    """A strip's rows are complete when it is, and its gradient is made from the same t."""
    grads, strips = Gradients.zeros(score, needs), Strips(score, workspace, gradient=True)
    sums, pull = Sums(strips, op, False, row), Pull(strips, op, grads)
    assert sums.gradient is not None
    sides = Sides(Side(sums.gradient, sums.value, sums.gradient), None, None)
    for strip in strips:
        sums.absorb(strip)
        pull.add(strip, sides)
    pull.write_back()
    return sums.value, sums.columns(), grads


def top_k(score: Score, k: int, workspace: int) -> tuple[Tensor, Tensor]:
    values = score.x.new_empty(score.N, k, dtype=score.dtype)
    indices = torch.empty(score.N, k, dtype=torch.int64, device=score.x.device)
    for strip in Strips(score, workspace, gradient=False):
        found = strip.scores_from_products().topk(k, dim=1)
        values[strip.here], indices[strip.here] = found
    return values, indices
