"""The table of `backends/strips.py` with the kernels of `csrc/cuda` around t of B rows, the library's product.

Products of half precision are summed in fp32. U of bf16 embeddings is rounded to bf16 once; any other U is fp32, and so are the
embeddings that it is multiplied by: fp16 has no number below 6e-8. Squares are expanded around the mean of Y,
‖x − y‖² = ‖x‖² + ‖y‖² − 2⟨x, y⟩; pairs too close for that are taken by differences, one by one. In few dimensions all pairs are,
and there is no product.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..backends import squared_distance
from ..backends.products import product, tf32
from ..backends.strips import Strip, columns_wanted, length
from ..problem.score import Score
from ..problem.types import Attended, Gradients, Needs, Sums, Terms, Weights
from .arguments import FP32, Sweep, address, name_of, points, vectors

ALIGNED = 16  # elements: each row of a strip begins at a multiple of so many, so that kernels load 16 bytes at once
# For values weighted by a softmax, and top-k: up to here differences cost a pair no more than its weight does.
FEW_DIMENSIONS = 16


def sizes(score: Score, workspace: int) -> tuple[int, int]:
    """Rows of a strip, and the elements from one row to the next.

    They are the same for values and for gradients: the library may multiply a strip of another height in another order, and
    weights must come from the very scores that were summed.
    """
    ld = -(-score.M // ALIGNED) * ALIGNED
    return min(score.N, max(1, workspace // (2 * ld * FP32.itemsize))), ld


def by_differences(score: Score) -> bool:
    """Whether all distances are taken by differences."""
    return score.kind == "sqdist" and score.D <= FEW_DIMENSIONS


@dataclass
class CudaStrip(Strip):
    """t (B, ld), of which the first M columns count; arguments: the strip as kernels take it."""

    t: Tensor
    arguments: tuple[int, ...]


class Sides(NamedTuple):
    """Weights of both sides, of rows and columns whose numbers lie next to each other."""

    row: Weights
    col: Weights | None

    def part(self, rows: slice, columns: slice) -> Sides:
        return Sides(_part(self.row, rows), None if self.col is None else _part(self.col, columns))

    def arguments(self, shares: Tensor | None) -> tuple:
        return *map(vectors, self), address(shares)


class CudaKernels:
    """The table of one sweep.

    x, y         the factors of t: the embeddings, or for distances Y and X around the mean of Y, in fp32
    close_above  0-d: pairs with t above it are so close that their distance is taken by differences; None for products
    """

    def __init__(self, score: Score, terms: Terms, workspace: int, cols: bool, needs: Needs):
        self.score, self.narrow = score, False
        self._sweep = Sweep(score, terms)
        self._launch = self._sweep.kernels
        self.rows, self.ld = sizes(score, workspace)
        self.x, self.y = score.x, score.keys
        self._centered: squared_distance.Centered | None = None
        self.close_above: Tensor | None = None
        self._few = by_differences(score)
        if self._few:
            self.close_above = self._sweep.scale.new_full((), math.nan)  # no t is at most that: every pair is close
        elif score.kind == "sqdist":
            self._centered = squared_distance.centered(score, self._sweep.scale, tf32=tf32(FP32))
            self.x, self.y, self.close_above = self._centered.x, self._centered.y, self._centered.close_above
        self._t = score.x.new_empty(self.rows, self.ld, dtype=FP32)
        self._u: Tensor | None = None  # room for U
        self._p: Tensor | None = None  # room for `weights`, and then for the gradients of shares
        self._points, self._limit = (points(score.x), points(score.keys)), address(self.close_above)

    def settle(self, rows: slice, columns: slice) -> CudaStrip:
        t = self._t[: length(rows)]
        strip = CudaStrip(rows, columns, t, (t.data_ptr(), self.ld, rows.start, length(rows), self.score.M))
        squares = None, None
        if not self._few:
            product(self.x[rows], self.y.T, FP32, out=t[:, : self.score.M])
        if self._centered is not None:
            squares = self._centered.x_squares, self._centered.y_squares
        if self.close_above is not None:
            self._launch.settle(strip.arguments, *self._points, (*map(address, squares), self._limit))
        return strip

    def absorb(self, strip: CudaStrip, row: Sums, col: Sums | None) -> None:
        self._launch.absorb(strip.arguments, vectors(row), vectors(col))

    def sides(self, row: Weights, col: Weights | None) -> Sides:
        return Sides(contiguous(row), None if col is None else contiguous(col))

    def weights(self, strip: CudaStrip, sides: Sides) -> Tensor:
        if self._p is None:
            self._p = torch.empty_like(self._t)
        self._launch.weights(strip.arguments, sides.arguments(None), self._p.data_ptr())
        return self._p[: length(strip.rows), : self.score.M]

    def add_grads(
        self, strip: CudaStrip, sides: Sides, needs: Needs, to: Gradients, of: Attended | None = None
    ) -> None:
        rows, M = strip.rows, self.score.M
        columns, of_y = columns_wanted(self.score, needs, to)
        of_x = to.x[rows] if needs.x else None
        to_y = of_y if length(columns) > 0 else None

        def new(on: bool, n: int, dtype: torch.dtype = FP32) -> Tensor | None:
            return self._t.new_empty(n, dtype=dtype) if on else None

        expanded, shares = self._centered is not None, None
        u = self._room_for_u(of) if not self._few and (needs.x or to_y is not None) else None
        u_row, u_col = new(expanded and needs.x, length(rows)), new(expanded and to_y is not None, M)
        row_bias = to.row_bias[rows] if needs.row_bias else None
        col_bias = to.col_bias if needs.col_bias else None
        of_scale = new(needs.scale, length(rows), torch.float64)
        if of is not None:
            assert self._p is not None
            shares = self._p[: length(rows)]
            of.of_shares(out=shares[:, :M])
        arguments, made = sides.arguments(shares), (u, u_row, u_col, row_bias, col_bias, of_scale)
        if any(t is not None for t in made):
            name = name_of(FP32 if u is None else u.dtype)
            self._launch.score_grad(strip.arguments, arguments, self._limit, (tuple(map(address, made)), name))
        if of_scale is not None:
            to.scale += of_scale.sum()
        if u is not None:
            self._multiply(u[: length(rows), :M], rows, columns, of_x, to_y, u_row, u_col)
        if self.close_above is None:
            return
        if of_x is not None:
            self._launch.close_rows(strip.arguments, arguments, self._limit, *self._points, of_x.data_ptr())
        if to_y is not None:
            ends = columns.start, columns.stop
            self._launch.close_columns(strip.arguments, arguments, self._limit, *self._points, *ends, to_y.data_ptr())

    def _multiply(
        self, u: Tensor, rows: slice, columns: slice, of_x: Tensor | None, of_y: Tensor | None,
        u_row: Tensor | None, u_col: Tensor | None,
    ) -> None:  # fmt: skip
        """Add U Y and Uᵀ X to these gradients; for distances minus (U·1) X and (Uᵀ·1) Y."""
        if u.dtype != FP32:
            if of_x is not None:
                of_x += product(u, self.y, FP32)
            if of_y is not None:
                of_y += product(u[:, columns].T, self.x[rows], FP32)
            return
        x, y = self._wide[0][rows], self._wide[1]
        # A separate product, rounded like that of the matrices, so that a pair of equal rows leaves 0.
        if of_x is not None:
            of_x.addmm_(u, y)
            if u_row is not None:
                of_x -= x * u_row[:, None]
        if of_y is not None:
            of_y.addmm_(u[:, columns].T, x)
            if u_col is not None:
                of_y -= y[columns] * u_col[columns, None]

    def finish(self, strip: CudaStrip) -> Tensor:
        self._launch.finish(strip.arguments)
        return strip.t[:, : self.score.M]

    def _room_for_u(self, of: Attended | None) -> Tensor:
        # With `of` the terms of U cancel, so they are not rounded.
        narrow = self.x.dtype == torch.bfloat16 and of is None
        if self._u is None:
            self._u = torch.empty_like(self._t, dtype=torch.bfloat16 if narrow else FP32)
        return self._u

    @functools.cached_property
    def _wide(self) -> tuple[Tensor, Tensor]:
        """The factors of products with U."""
        x = self.x.to(FP32)
        return x, x if self.y is self.x else self.y.to(FP32)


def contiguous(side: Weights) -> Weights:
    """Weights without gaps, as kernels take them."""
    return Weights(*(None if t is None else t.contiguous() for t in side))  # pyright: ignore[reportArgumentType]


def _part(side: Weights, here: slice) -> Weights:
    return Weights(*(None if t is None else t[..., here] for t in side))  # pyright: ignore[reportArgumentType]
