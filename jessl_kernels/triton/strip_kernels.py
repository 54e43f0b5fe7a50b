"""The table of `backends/strips.py` by the kernels of `epilogue.py`: t of B rows by the library's product, and kernels around it.

For products in fp32 and fp64, which tensor cores do not make, for distances in more than 16 dimensions, and for the largest
scores. Squares are expanded around the mean of Y, ‖x − y‖² = ‖x‖² + ‖y‖² − 2⟨x, y⟩, where that is exact enough for pairs that lie
apart; others are taken by differences, in the tiles that have some. U comes with its factor, as a kernel multiplies for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..backends import squared_distance
from ..backends.strips import GradSums, Strip, Strips
from ..problem.score import Score
from ..problem.types import Needs, Sums, Terms, Weights
from . import epilogue, shapes
from .launch import NO_PARTS, Problem, Sides, cdiv, constants, over_rows, product, ranges, run_options
from .launch_cache import launch_cached

ALIGNED = 16  # elements: rows of a strip begin where tensor cores and vector loads want them


def sizes(score: Score, workspace: int, *, gradient: bool) -> tuple[int, int]:
    """Rows of a strip, and the elements from one to the next.

    Whole tiles, if there is room for one: so the sweep for values and that for gradients, whose strips differ, have the same
    tiles, and in each a distance is taken in the same way.
    """
    ld, tile = cdiv(score.M, ALIGNED) * ALIGNED, shapes.strip(score).rows
    rows = workspace // (ld * score.dtype.itemsize * (1 + gradient))
    return min(score.N, max(1, rows // tile * tile or rows)), ld


@dataclass
class TritonStrip(Strip):
    """t (B, M) within (B, ld)."""

    t: Tensor

    @property
    def length(self) -> int:
        return self.rows.stop - self.rows.start


@dataclass
class StripSides:
    """Weights as kernels take them; those of rows are count ones from first on."""

    sides: Sides
    first: int
    count: int


class TritonKernels:
    """The table of one sweep.

    x, y         what the products take: the embeddings, for distances around the mean of y, in the dtype of the products
    close_above  0-d: t above which pairs are so close that their distance is taken by differences; None for products
    flags        of tiles with such pairs, of the strip at hand
    """

    def __init__(self, score: Score, terms: Terms, workspace: int, cols: bool, needs: Needs):
        self.score, self.problem, self.terms = score, Problem.of(score), terms
        self.x, self.y = self.problem.x, self.problem.y
        self.factor: float | Tensor | None = None
        self.by_products, self.scale_by_products, self.narrow = True, False, False
        self.close_above: Tensor | None = None
        if score.kind == "sqdist":
            self._center()
        self.rows, ld = sizes(score, workspace, gradient=needs.any)
        self.shape = shapes.strip(score)
        self.ranges, self.columns_each = ranges(self.problem, self.shape, self.rows)
        self._t = self.x.new_empty(self.rows, ld, dtype=score.dtype)
        self._u = self._t.new_empty(self.rows if needs.any else 0, ld)
        tiles = cdiv(self.rows, self.shape.rows) * cdiv(score.M, self.shape.cols)
        self.flags = self._t.new_empty(tiles, dtype=torch.int8)

    def _center(self) -> None:
        score = self.score
        center = squared_distance.center(score, score.dtype)
        center = torch.where(center.isfinite(), center, 0.0)
        self.x = score.x.to(score.dtype) - center
        self.y = self.x if score.y is None else score.y.to(score.dtype) - center
        self._x_squares = self.x.square().sum(dim=1)
        self._y_squares = self._x_squares if score.y is None else self.y.square().sum(dim=1)
        radius = torch.maximum(self._x_squares.amax(), self._y_squares.amax())
        # TF32 keeps 10 bits: then a product is exact enough for small radii, and no distance is large enough otherwise.
        tf32 = shapes.tf32(score.dtype)
        eps = 2.0**-11 if tf32 else torch.finfo(score.dtype).eps
        harmless = (self.problem.scale.abs() * radius).double() * eps <= squared_distance.bar(score)
        close = torch.full_like(radius, -torch.inf) if tf32 else -squared_distance.CLOSE * radius
        self.close_above = torch.where(harmless, torch.inf, close).to(score.dtype)

    def settle(self, rows: slice, columns: slice) -> TritonStrip:
        score = self.score
        strip = TritonStrip(rows, columns, score.dtype, self._t[: rows.stop - rows.start])
        product(self.x[rows], self.y.T, score.dtype, out=strip.t[:, : score.M])
        if self.close_above is not None:
            launch_cached(
                epilogue.settle, (self._tiles(strip) * cdiv(score.M, self.shape.cols),),
                strip.t, self.problem.x, self.problem.y, self._x_squares, self._y_squares, self.close_above, self.flags,
                *self._where(strip), D=score.D, **run_options(self.shape),
            )  # fmt: skip
        return strip

    def parts(self, strip: TritonStrip) -> tuple[int, int]:
        return self.ranges, self._tiles(strip)

    def absorb(self, strip: TritonStrip, row: Sums, col: Sums | None) -> None:
        launch_cached(
            epilogue.absorb, (self._tiles(strip), self.ranges),
            strip.t, self.problem.scale, self.problem.pairs, row, NO_PARTS if col is None else col, *self._where(strip),
            self.columns_each, **constants(self.terms), **self.problem.phi, **run_options(self.shape),
        )  # fmt: skip

    def merge(self, parts: Sums, into: Sums, add: bool) -> None:
        tilts, count, n = parts.total.shape
        grid, options = over_rows(n, count)
        launch_cached(
            epilogue.merge, grid, parts.total, parts.reference, into.total, into.reference, count, n, into.total.stride(0),
            TILTS=tilts, ADD=add, **options,
        )  # fmt: skip

    def sides(self, row: Weights, col: Weights | None, first_row: int) -> StripSides:
        return StripSides(Sides.of(row, col), first_row, row.factor.shape[1])

    def score_grad(self, strip: TritonStrip, sides: StripSides, sums: GradSums) -> Tensor:
        u = self._u[: strip.length]
        launch_cached(
            epilogue.score_grad, (self._tiles(strip), self.ranges),
            strip.t, u, self.problem.scale, self.problem.pairs, *sides.sides, self.close_above, sums, *self._where(strip),
            self.columns_each, sides.first, sides.count, **constants(self.terms), **self.problem.phi,
            **run_options(self.shape),
        )  # fmt: skip
        return u[:, : self.score.M]

    def close(
        self, strip: TritonStrip, u: Tensor, sides: StripSides, dx: Tensor | None, dy: Tensor | None, columns: slice
    ) -> None:
        across = cdiv(columns.stop, self.shape.cols) - columns.start // self.shape.cols
        for target, owners, cols in ((dx, self._tiles(strip), False), (dy, across, True)):
            if target is None:
                continue
            launch_cached(
                epilogue.close, (owners, cdiv(self.score.D, epilogue.DIMS_PER_PROGRAM.value)),
                strip.t, self.problem.x, self.problem.y, self.problem.scale, self.problem.pairs, *sides.sides,
                self.close_above, self.flags, target, *self._where(strip), sides.first, sides.count, columns.start,
                columns.stop, D=self.score.D, COLS=cols, **constants(self.terms), **self.problem.phi,
                **run_options(self.shape),
            )  # fmt: skip

    def finish(self, strip: TritonStrip) -> Tensor:
        grid = self._tiles(strip) * cdiv(self.score.M, self.shape.cols)
        launch_cached(
            epilogue.finish, (grid,), strip.t, self.problem.scale, self.problem.pairs, *self._where(strip),
            **self.problem.phi, **run_options(self.shape),
        )  # fmt: skip
        return strip.t[:, : self.score.M]

    def x_rows(self, rows: slice, dtype: torch.dtype) -> Tensor:
        return self.x[rows].to(dtype)

    def y_rows(self, columns: slice, dtype: torch.dtype) -> Tensor:
        return self.y[columns].to(dtype)

    def blocks(self, columns: slice, dtype: torch.dtype) -> Iterator[slice]:
        yield columns

    def _tiles(self, strip: TritonStrip) -> int:
        return cdiv(strip.length, self.shape.rows)

    def _where(self, strip: TritonStrip) -> tuple[int, int, int, int]:
        return strip.rows.start, strip.rows.stop, self.score.M, strip.t.stride(0)


STRIPS = Strips(TritonKernels)
