"""Strips: t of B rows by the library's product, the kernels of `epilogue.py`, and the library's products again.

For products in fp32 and fp64, which tensor cores do not make, for distances in more than 16 dimensions, and for the largest
scores. Where only rows are reduced and the upstream is known, a strip gives values and gradients at 3 products of 2·N·M·D
flops; else a pass of 1 for the values and one of 3 for the gradients.
"""

# pyright: reportArgumentType=false
# (a launch passes plain numbers where its kernel says constexpr)

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from ..backends import expansion
from ..score import Gradients, Score
from . import epilogue, shapes
from .launch import Problem, Side, add_sums, merged, product, ranges, run_options

ALIGNED = 16  # elements: rows of a strip begin where tensor cores and vector loads want them


@dataclass
class Strip:
    """Rows first … last − 1 of t, (B, M) within (B, ld)."""

    strips: Strips
    first: int
    last: int
    t: Tensor

    @property
    def _where(self) -> tuple[int, int, int, int]:
        return self.first, self.last, self.strips.score.M, self.t.stride(0)

    @property
    def _tiles(self) -> int:
        return triton.cdiv(self.last - self.first, shapes.STRIP.rows)

    def _part(self, *shape: int) -> Tensor:
        return self.t.new_empty(shape)

    def absorb(self, op: str, cols: bool) -> tuple[Tensor, Tensor | None]:
        """Sums of these rows, and what they add to each column."""
        problem, rows = self.strips.problem, self.last - self.first
        count, each = ranges(problem, shapes.STRIP, rows)
        row_part, col_part = self._part(count, rows), self._part(self._tiles, problem.score.M) if cols else None
        epilogue.absorb[(self._tiles, count)](
            self.t, problem.score.scale, problem.pairs, row_part, col_part, *self._where, each,
            LSE=op == "logsumexp", **problem.phi, **run_options(shapes.STRIP),
        )  # fmt: skip
        return merged(row_part, op), None if col_part is None else merged(col_part, op)

    def finish(self) -> Tensor:
        """The scores, in place of t."""
        problem, shape = self.strips.problem, shapes.STRIP
        grid = self._tiles * triton.cdiv(problem.score.M, shape.cols)
        epilogue.finish[(grid,)](
            self.t, problem.score.scale, problem.pairs, *self._where, **problem.phi, **run_options(shape)
        )
        return self.t[:, : problem.score.M]

    def pull_back(self, op: str, row: Side | None, col: Side | None, unit: Tensor, grads: Gradients) -> None:
        """Add what these rows contribute to all gradients; U still lacks the factor `unit`."""
        strips, score, problem = self.strips, self.strips.score, self.strips.problem
        M, rows, lse = score.M, self.last - self.first, op == "logsumexp"
        count, each = ranges(problem, shapes.STRIP, rows)
        distances, wants_scale = score.kind == "sqdist", bool(grads.scale.numel())
        bias_row, u_row, scale_part = (
            self._part(count, rows) if on else None for on in (grads.row_bias.numel(), distances, wants_scale)
        )
        bias_col, u_col = (self._part(self._tiles, M) if on else None for on in (grads.col_bias.numel(), distances))
        u = strips.weights[:rows]
        epilogue.weigh[(self._tiles, count)](
            self.t, u, score.scale, problem.pairs, row, col, strips.close_above, bias_row, bias_col, u_row, u_col,
            scale_part, *self._where, each, LSE=lse, **problem.phi, **run_options(shapes.STRIP),
        )  # fmt: skip
        here = slice(self.first, self.last)
        add_sums(grads, here, slice(None), unit, bias_row, bias_col, scale_part)
        u, factor = u[:, :M], (unit * score.scale * (2 if distances else 1)).to(score.dtype)
        if grads.x.numel():
            toward_y = product(u, strips.y, score.dtype)
            if distances:
                assert u_row is not None
                toward_y -= u_row.sum(dim=0)[:, None] * strips.x[here]
                self._add_close(toward_y, False, row, col, lse)
            grads.x[here].addcmul_(toward_y, factor)
        target = grads.x if score.y is None else grads.y
        if target.numel():
            toward_x = product(u.T, strips.x[here], score.dtype)
            if distances:
                assert u_col is not None
                toward_x -= u_col.sum(dim=0)[:, None] * strips.y
                self._add_close(toward_x, True, row, col, lse)
            target.addcmul_(toward_x, factor)  # of M × D for every strip: read and written once

    def _add_close(self, target: Tensor, cols: bool, row: Side | None, col: Side | None, lse: bool) -> None:
        problem, shape = self.strips.problem, shapes.STRIP
        owners = triton.cdiv(problem.score.M, shape.cols) if cols else self._tiles
        epilogue.close[(owners,)](
            self.t, problem.x, problem.y, problem.score.scale, problem.pairs, row, col, self.strips.close_above, target,
            *self._where, D=problem.score.D, COLS=cols, LSE=lse, **problem.phi, **run_options(shape),
        )  # fmt: skip


class Strips:
    """The strips of one problem, as an iterable that reuses its buffers.

    x, y         what the products take: the embeddings, for distances around the mean of y, in the dtype of the products
    close_above  0-d: t above which pairs are so close that their distance is taken by differences; None for products
    weights      (B, ld), where a strip's U goes
    """

    def __init__(self, score: Score, workspace: int, *, gradient: bool):
        self.score, self.problem = score, Problem.of(score)
        self.x, self.y = self.problem.x, self.problem.y
        self.close_above: Tensor | None = None
        if score.kind == "sqdist":
            self._center()
        self.rows, ld = sizes(score, workspace, gradient=gradient)
        self._t = self.x.new_empty(self.rows, ld, dtype=score.dtype)
        self.weights = self.x.new_empty(self.rows if gradient else 0, ld)

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
            strip = Strip(self, first, min(score.N, first + self.rows), self._t[: min(self.rows, score.N - first)])
            product(self.x[first : strip.last], self.y.T, score.dtype, out=strip.t[:, :M])
            if self.close_above is not None:
                shape = shapes.STRIP
                grid = strip._tiles * triton.cdiv(M, shape.cols)
                epilogue.settle[(grid,)](
                    strip.t, self.problem.x, self.problem.y, self._x_squares, self._y_squares, self.close_above,
                    *strip._where, D=score.D, **run_options(shape),
                )  # fmt: skip
            yield strip


def sizes(score: Score, workspace: int, *, gradient: bool) -> tuple[int, int]:
    """Rows of a strip, and the elements from one to the next."""
    ld = triton.cdiv(score.M, ALIGNED) * ALIGNED
    return min(score.N, max(1, workspace // (ld * score.dtype.itemsize * (1 + gradient)))), ld


def reduce(score: Score, op: str, cols: bool, workspace: int) -> tuple[Tensor, Tensor]:
    rows: list[Tensor] = []
    col: Tensor | None = None
    for strip in Strips(score, workspace, gradient=False):
        row, found = strip.absorb(op, cols)
        rows.append(row)
        if found is not None:
            col = found if col is None else merged(torch.stack([col, found]), op)
    return torch.cat(rows), score.x.new_empty(0, dtype=score.dtype) if col is None else col


def top_k(score: Score, k: int, workspace: int) -> tuple[Tensor, Tensor]:
    values = score.x.new_empty(score.N, k, dtype=score.dtype)
    indices = torch.empty(score.N, k, dtype=torch.int64, device=score.x.device)
    for strip in Strips(score, workspace, gradient=False):
        values[strip.first : strip.last], indices[strip.first : strip.last] = strip.finish().topk(k, dim=1)
    return values, indices
