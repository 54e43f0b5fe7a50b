"""Chooses the kernels of a sweep, and multiplies α into their gradients.

fp16 has no number below 6e-8. So weights in fp16 are divided by the largest of their row, or by the largest of all if columns
have weights too, and multiplied by 2^HALF_SHIFT for the product. They keep their digits at any batch size and any loss scale.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..backends.strips import Strips
from ..problem.exclude import IdPair
from ..problem.score import Score
from ..problem.types import Attended, Gradients, Needs, Plan, Sums, Terms, Weights
from . import blocks, launch, shapes, strip_kernels
from .launch import NO_SUMS, Problem, Pulled, Sides, one_part

# Weights in fp16 are kept 2^13 times larger: only weights below 4e-9 of a row's largest are lost, instead of those below 6e-5.
HALF_SHIFT = 13


class Routes(Strips):
    """`Sweeps` of the executor: by strips, or by the other route that a score takes."""

    def sums(self, score: Score, terms: Terms, cols: bool, workspace: int) -> tuple[Sums, Sums | None]:
        if shapes.route(score) == "strips":
            return super().sums(score, terms, cols, workspace)
        row, col = parts(score, terms, cols, workspace)
        of_rows = launch.merge(row)
        return of_rows, None if not cols else of_rows if col is row else launch.merge(col)

    def grads(
        self, score: Score, terms: Terms, row: Weights, col: Weights | None, needs: Needs, to: Gradients, workspace: int
    ) -> None:
        route = shapes.route(score)
        if score.symmetric and route != "strips":
            row = col = row if col is None else _of_both(row, col)
        if route == "strips":
            super().grads(score, terms, row, col, needs, to, workspace)
        elif route == "blocks":
            sides, unit = scaled(score, row, col, by_row=False)
            blocks.pull_back(score, terms, sides, unit, needs, to, workspace)
        else:
            _pull(score, terms, row, col, needs, to, workspace)

    def at_once(self, score: Score, terms: Terms) -> bool:
        return shapes.route(score) == "strips"

    def attend_grads(
        self, score: Score, sums: Sums, of: Attended, needs: Needs, with_values: bool, workspace: int
    ) -> tuple[Gradients, Tensor]:
        # Strips multiply U by the embeddings, in the dtype of the sums.
        wide = replace(score, x=score.x.to(score.dtype), y=None if score.y is None else score.y.to(score.dtype))
        return super().attend_grads(wide, sums, of, needs, with_values, workspace)


SWEEPS = Routes(strip_kernels.TritonKernels)
top_k, attend, attend_grads = SWEEPS.top_k, SWEEPS.attend, SWEEPS.attend_grads


def parts(score: Score, terms: Terms, cols: bool, workspace: int, reach: IdPair | None = None) -> tuple[Sums, Sums]:
    """Unmerged sums of rows, and of columns or NO_SUMS; one object for both in a symmetric problem. reach: see `Pairs`."""
    if shapes.route(score) == "strips":
        row, col = SWEEPS.sums(score, terms, cols, workspace)
        return one_part(row), NO_SUMS if col is None else one_part(col)
    twins = cols and score.symmetric
    row, col = launch.sum_parts(Problem.of(score, reach), terms, cols and not twins, workspace)
    return row, row if twins else col


class Sweep(NamedTuple):
    """A sweep for gradients. reach: the first column, and the last + 1, that may hold pairs of each row; of_columns: the same
    for each column."""

    score: Score
    terms: Terms
    sides: Sides
    reach: IdPair | None
    of_columns: IdPair | None

    def transposed(self) -> Sweep:
        return Sweep(self.score.transposed(), self.terms, self.sides.transposed(), self.of_columns, self.reach)

    def pull(self, workspace: int, *, bias: bool = False, scale: bool = False, rows: slice | None = None) -> Pulled:
        problem = Problem.of(self.score, self.reach)
        return launch.pull(problem, self.sides, self.terms, workspace, bias=bias, scale=scale, rows=rows)


def plan(score: Score, terms: Terms, cols: bool, with_gradient: bool, reduction: str, workspace: int) -> Plan:
    one_sided, route = reduction in ("sum", "mean") and not cols, shapes.route(score)
    if route == "strips":
        rows, ld = strip_kernels.sizes(score, workspace, gradient=with_gradient)
        gemms = 1 if not with_gradient else 3 if one_sided else 4
        held = rows * ld * score.dtype.itemsize * (1 + with_gradient)
        return Plan(f"strips of {rows} rows, products by the library", gemms, held)
    if route == "blocks" and with_gradient:
        at_once = one_sided and terms.op != "logsumexp"
        rows, cols_ = blocks.sizes(score, workspace)
        what = f"blocks of {rows} × {cols_}, weights by a kernel, their products by the library"
        if score.symmetric and not at_once:
            return Plan(what, 1 + 1.5 + 0.5 * min(1.0, rows / score.N), workspace)
        return Plan(what, 3 if at_once else 4, workspace)
    tile = shapes.of("pull" if with_gradient else "sums", score)
    what = f"fused, tiles of {tile.rows} × {tile.cols}"
    if score.kind == "sqdist":
        return Plan(f"{what}, distances by differences", 0, 0)
    if score.symmetric:
        return Plan(f"{what}, rows and columns at once", 3 if with_gradient else 1, 0)
    if not with_gradient:
        return Plan(what, 1, 0)
    at_once = one_sided and (terms.op != "logsumexp" or attends(score))
    return Plan(what, 4 if at_once else 5, 0)


def attends(score: Score) -> bool:
    """Whether a row's gradient is its softmax times y, which the sweep for the sums can make."""
    return score.kind == "dot" and score.phi.name == "identity" and not score.symmetric


def _pull(
    score: Score, terms: Terms, row: Weights, col: Weights | None, needs: Needs, to: Gradients, workspace: int
) -> None:
    """All gradients by the fused kernel: rows, then columns as the rows of the transposed problem."""
    if needs.x or needs.scale or needs.row_bias:
        found = _pulled(score, terms, row, col, workspace, bias=needs.row_bias, scale=needs.scale)
        if needs.x:
            to.x += found.embedding
        if found.bias is not None:
            to.row_bias += found.bias
        if found.scale is not None:  # a symmetric problem counts each pair from both its ends
            to.scale += found.scale.sum(dtype=torch.float64) * (0.5 if score.symmetric else 1.0)
    wanted = needs.y.stop > needs.y.start
    if score.symmetric or not (wanted or needs.col_bias or (needs.x and score.y is None)):
        return
    rows = needs.y if wanted and not needs.col_bias else None
    found = _pulled(score.transposed(), terms, col, row, workspace, bias=needs.col_bias, rows=rows)
    if found.bias is not None:
        to.col_bias += found.bias
    if score.y is None and needs.x:
        to.x += found.embedding
    elif wanted:
        to.y += found.embedding if rows else found.embedding[needs.y]


def _pulled(
    score: Score, terms: Terms, row: Weights | None, col: Weights | None, workspace: int, **options: Any
) -> Pulled:
    """The pulled gradients, times α and the factor that fp16 weights lack."""
    sides, unit = scaled(score, row, col)
    found = launch.pull(Problem.of(score), sides, terms, workspace, **options).merged()
    factor = launch.scale_of(score) * (2 if score.kind == "sqdist" else 1)
    if unit is not None:
        factor = factor * unit
        found = found._replace(**{k: getattr(found, k) * unit for k in ("bias", "scale") if options.get(k)})
    factor = factor.to(found.embedding.dtype)
    return found._replace(embedding=found.embedding * (factor[:, None] if factor.ndim else factor))


def scaled(
    score: Score, row: Weights | None, col: Weights | None, *, by_row: bool = True
) -> tuple[Sides, Tensor | None]:
    """Weights divided by a unit in fp16, and that unit: of each row, (N,), if only rows have weights, else 0-d. None: no unit."""
    if score.x.dtype != torch.float16:
        return Sides.of(row, col), None
    by_row = by_row and row is not None and col is None and row.reference is not None
    every = [part for side in (row, col) if side is not None for part in side[1:] if part is not None]
    of_each = torch.cat(
        [part.reshape(-1, part.shape[-1]).abs().amax(dim=0 if by_row else (0, 1), keepdim=True) for part in every]
    )
    largest = of_each.amax(0) if by_row else of_each.amax()
    usual = (largest > torch.finfo(largest.dtype).tiny * 2.0**HALF_SHIFT) & largest.isfinite()
    unit = torch.where(usual, largest, 1.0) * 2.0**-HALF_SHIFT

    def over(side: Weights | None) -> Weights | None:
        return None if side is None else Weights(side.reference, *(None if t is None else t / unit for t in side[1:]))  # pyright: ignore[reportArgumentType]

    one = over(row)
    return Sides.of(one, one if col is row else over(col)), unit


def _of_both(row: Weights, col: Weights) -> Weights:
    """The sum of both sides' weights in a symmetric problem: s_ij = s_ji, so column weights are weights of the same rows."""
    factor, spread = col.factor, col.spread
    if row.reference is not None and col.reference is not None:
        apart = torch.where(factor == 0, 0.0, row.reference - col.reference).exp()
        factor, spread = factor * apart, None if spread is None else spread * apart[0]
    if spread is None or row.spread is None or row.mean is None or col.mean is None:
        return Weights(row.reference, row.factor + factor)
    return Weights(row.reference, row.factor + factor, row.spread + spread, row.mean + col.mean)
