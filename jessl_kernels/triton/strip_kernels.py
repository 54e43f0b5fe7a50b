"""The table of `backends/strips.py` with the kernels of `epilogue.py` around t of B rows, the library's product.

Strips serve fp32 and fp64, which tensor cores do not multiply, distances in more than 16 dimensions, and top-k. Squares are
expanded around the mean of Y, ‖x − y‖² = ‖x‖² + ‖y‖² − 2⟨x, y⟩. Tiles with pairs too close for that are taken by differences. U
includes its factor, because a multiplication in a kernel is free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..backends import squared_distance
from ..backends.products import product, tf32
from ..backends.strips import Strip, columns_wanted, length
from ..problem.score import Score
from ..problem.types import Attended, Gradients, Needs, Sums, Terms, Weights
from . import epilogue, fused, shapes
from .launch import NO_SUMS, TYPES, Problem, Sides, cdiv, constants, merge, merged, ranges, run_options
from .launch_cache import launch_cached
from .tile import STRIP_ALIGNED


def sizes(score: Score, workspace: int, *, gradient: bool) -> tuple[int, int]:
    """Rows of a strip, and the elements from one row to the next.

    A strip holds whole tiles, if there is room for one. So the sweeps for values and for gradients, whose strips differ, have the
    same tiles, and take each distance in the same way.
    """
    ld, tile = cdiv(score.M, STRIP_ALIGNED.value) * STRIP_ALIGNED.value, shapes.strip(score).rows
    rows = workspace // (ld * score.dtype.itemsize * (1 + gradient))
    return min(score.N, max(1, rows // tile * tile or rows)), ld


@dataclass
class TritonStrip(Strip):
    """t (B, M) within (B, ld)."""

    t: Tensor


class GradSums(NamedTuple):
    """Sums of P and U by `epilogue.score_grad`, in parts; None if not requested."""

    bias_row: Tensor | None
    bias_col: Tensor | None
    u_row: Tensor | None
    u_col: Tensor | None
    scale: Tensor | None


class TritonKernels:
    """The table of one sweep.

    x, y         the factors of the products: the embeddings, centered for distances, in the dtype of the products
    close_above  0-d: pairs with t above it are so close that their distance is taken by differences; None for products
    flags        the present strip's tiles with such pairs
    """

    def __init__(self, score: Score, terms: Terms, workspace: int, cols: bool, needs: Needs):
        self.score, self.problem, self.terms = score, Problem.of(score), terms
        self.x, self.y = self.problem.x, self.problem.y
        self.narrow = False
        self.close_above: Tensor | None = None
        self.centered: squared_distance.Centered | None = None
        if score.kind == "sqdist":
            self.centered = squared_distance.centered(score, self.problem.scale, tf32=tf32(score.dtype))
            self.x, self.y, self.close_above = self.centered.x, self.centered.y, self.centered.close_above
        self.rows, ld = sizes(score, workspace, gradient=needs.any)
        self.shape = shapes.strip(score)
        self.ranges, self.columns_each = ranges(self.problem, self.shape, self.rows)
        self._t = self.x.new_empty(self.rows, ld, dtype=score.dtype)
        self._u = self._t.new_empty(self.rows if needs.any else 0, ld)
        self._p: Tensor | None = None  # room for `weights`, and then for the gradients of shares
        tiles = cdiv(self.rows, self.shape.rows) * cdiv(score.M, self.shape.cols)
        self.flags = self._t.new_empty(tiles, dtype=torch.int8)

    def settle(self, rows: slice, columns: slice) -> TritonStrip:
        score = self.score
        strip = TritonStrip(rows, columns, self._t[: length(rows)])
        product(self.x[rows], self.y.T, score.dtype, out=strip.t[:, : score.M])
        if self.centered is not None:
            launch_cached(
                epilogue.settle, (self._tiles(strip) * cdiv(score.M, self.shape.cols),),
                strip.t, self.problem.x, self.problem.y, self.centered.x_squares, self.centered.y_squares, self.close_above,
                self.flags, *self._where(strip), D=score.D, **run_options(self.shape),
            )  # fmt: skip
        return strip

    def absorb(self, strip: TritonStrip, row: Sums, col: Sums | None) -> None:
        of_rows = Sums.empty(self._t, self.terms, self.ranges, length(strip.rows))
        of_cols = NO_SUMS if col is None else Sums.empty(self._t, self.terms, self._tiles(strip), self.score.M)
        first, last, M = self._where(strip)
        launch_cached(
            fused.row_sums, (self._tiles(strip), self.ranges),
            strip.t, None, self.problem.scale, self.problem.pairs, of_rows, of_cols, None, None, first, first, last, M,
            self.columns_each, D=0, BD=0, KIND="strip", DTYPE=TYPES[self.score.dtype], ATTEND=False, SHIFT=0,
            **constants(self.terms), **self.problem.phi, **run_options(self.shape),
        )  # fmt: skip
        merge(of_rows, row)
        if col is not None:
            merge(of_cols, col, add=True)

    def sides(self, row: Weights, col: Weights | None) -> Sides:
        return Sides.of(row, col)

    def weights(self, strip: TritonStrip, sides: Sides) -> Tensor:
        if self._p is None:
            self._p = torch.empty_like(self._t)
        launch_cached(
            epilogue.weights, (self._tiles(strip) * cdiv(self.score.M, self.shape.cols),),
            strip.t, self._p, self.problem.scale, self.problem.pairs, *sides, *self._where(strip),
            **constants(self.terms), **self.problem.phi, **run_options(self.shape),
        )  # fmt: skip
        return self._p[: length(strip.rows), : self.score.M]

    def add_grads(
        self, strip: TritonStrip, sides: Sides, needs: Needs, to: Gradients, of: Attended | None = None
    ) -> None:
        rows, distances = strip.rows, self.close_above is not None
        columns, of_y = columns_wanted(self.score, needs, to)

        def new(on: bool, parts: int, n: int, dtype: torch.dtype = self.score.dtype) -> Tensor | None:
            return self._t.new_empty(parts, n, dtype=dtype) if on else None

        of_rows, of_cols = (self.ranges, length(rows)), (self._tiles(strip), self.score.M)
        sums = GradSums(
            bias_row=new(needs.row_bias, *of_rows),
            bias_col=new(needs.col_bias, *of_cols),
            u_row=new(distances and needs.x, *of_rows),
            u_col=new(distances and length(columns) > 0, *of_cols),
            scale=new(needs.scale, *of_rows, dtype=torch.float64),
        )
        u, of_shares = self._u[: length(rows)], None
        if of is not None:
            assert self._p is not None
            of_shares = self._p[: length(rows)]
            of.of_shares(out=of_shares[:, : self.score.M])
        launch_cached(
            epilogue.score_grad, (self._tiles(strip), self.ranges),
            strip.t, u, self.problem.scale, self.problem.pairs, *sides, self.close_above, sums, of_shares,
            *self._where(strip), self.columns_each, **constants(self.terms), **self.problem.phi, **run_options(self.shape),
        )  # fmt: skip
        if sums.bias_row is not None:
            to.row_bias[rows] += merged(sums.bias_row)
        if sums.bias_col is not None:
            to.col_bias += merged(sums.bias_col)
        if sums.scale is not None:
            to.scale += sums.scale.sum()
        u, x = u[:, : self.score.M], self.x[rows]
        if needs.x:
            dx = to.x[rows].addmm_(u, self.y)
            if sums.u_row is not None:
                # A separate product, rounded like that of the matrices, so that a pair of equal rows leaves 0.
                dx -= x * merged(sums.u_row)[:, None]
                self._close(strip, sides, of_shares, dx, slice(0, self.score.M), COLS=False)
        if length(columns) > 0:
            of_y.addmm_(u[:, columns].T, x)
            if sums.u_col is not None:
                of_y -= self.y[columns] * merged(sums.u_col)[columns, None]
                self._close(strip, sides, of_shares, of_y, columns, COLS=True)

    def _close(
        self, strip: TritonStrip, sides: Sides, of_shares: Tensor | None, target: Tensor, columns: slice, *, COLS: bool
    ) -> None:
        """Add the gradients of close pairs, which the products lack."""
        across = cdiv(columns.stop, self.shape.cols) - columns.start // self.shape.cols
        owners = across if COLS else self._tiles(strip)
        launch_cached(
            epilogue.close, (owners, cdiv(self.score.D, epilogue.DIMS_PER_PROGRAM.value)),
            strip.t, self.problem.x, self.problem.y, self.problem.scale, self.problem.pairs, *sides, self.close_above,
            self.flags, of_shares, target, *self._where(strip), columns.start, columns.stop, D=self.score.D, COLS=COLS,
            **constants(self.terms), **self.problem.phi, **run_options(self.shape),
        )  # fmt: skip

    def finish(self, strip: TritonStrip) -> Tensor:
        grid = self._tiles(strip) * cdiv(self.score.M, self.shape.cols)
        launch_cached(
            epilogue.finish, (grid,), strip.t, self.problem.scale, self.problem.pairs, *self._where(strip),
            **self.problem.phi, **run_options(self.shape),
        )  # fmt: skip
        return strip.t[:, : self.score.M]

    def _tiles(self, strip: TritonStrip) -> int:
        return cdiv(length(strip.rows), self.shape.rows)

    def _where(self, strip: TritonStrip) -> tuple[int, int, int]:
        return strip.rows.start, strip.rows.stop, self.score.M
