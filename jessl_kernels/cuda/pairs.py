"""Sweeps over all pairs at once, without strips, by the kernels of csrc/cuda/pairs.h; all other problems go by strips.

few dimensions  t is made where it is needed, from coordinates in registers
small batches   t and U lie whole in memory
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..backends.executor import Sweeps, Weigh
from ..backends.strips import Strips
from ..problem.row_loss import RowProblem
from ..problem.score import Score
from ..problem.types import Gradients, Needs, Sums, Terms, Weights
from .arguments import FP32, Sweep, points, vectors
from .strip_kernels import contiguous

FEW_DIMENSIONS = 32  # that fit into a thread's registers (csrc/cuda/pairs.h); beyond, products of matrices are faster
SMALL_BATCH = 1024  # rows, and columns, whose scores fit into a GPU's cache


def few(problem: Score | RowProblem) -> bool:
    """Whether the coordinates of a point fit into a thread's registers."""
    return problem.D <= FEW_DIMENSIONS


def without_strips(problem: Score | RowProblem) -> bool:
    """Whether one launch goes over all pairs."""
    some = problem.N > 0 and problem.M > 0 and problem.D > 0
    return some and (few(problem) or max(problem.N, problem.M) <= SMALL_BATCH)


class CudaSweeps(Sweeps):
    """Sweeps over all pairs, or over strips."""

    def __init__(self, strips: Strips):
        self._strips = strips

    def sums(self, score: Score, terms: Terms, cols: bool, workspace: int) -> tuple[Sums, Sums | None]:
        if not without_strips(score):
            return self._strips.sums(score, terms, cols, workspace)
        row = Sums.empty(score.x.new_empty(0, dtype=FP32), terms, score.N)
        col = Sums.empty(row.total, terms, score.M) if cols else None
        sweep = Sweep(score, terms)
        pairs, room = _pairs(sweep, score)
        sweep.kernels.pair_sums(pairs, room.data_ptr(), vectors(row), vectors(col))
        return row, col

    def grads(
        self, score: Score, terms: Terms, row: Weights, col: Weights | None, needs: Needs, to: Gradients, workspace: int
    ) -> None:
        if not needs.any:
            return
        if not without_strips(score):
            self._strips.grads(score, terms, row, col, needs, to, workspace)
            return
        sweep, sides = Sweep(score, terms), (contiguous(row), None if col is None else contiguous(col))
        pairs, room = _pairs(sweep, score)
        sweep.kernels.pair_grads(pairs, room.data_ptr(), (*map(vectors, sides), 0), targets(to, needs))

    def at_once(self, score: Score, terms: Terms) -> bool:
        return not without_strips(score)

    def sums_and_grads(
        self, score: Score, terms: Terms, weigh: Weigh, needs: Needs, to: Gradients, workspace: int
    ) -> Sums:
        return self._strips.sums_and_grads(score, terms, weigh, needs, to, workspace)


def _pairs(sweep: Sweep, score: Score) -> tuple[tuple, Tensor]:
    """The pairs as kernels take them, and their workspace."""
    x, y = points(score.x), points(score.keys)
    pairs = x, y, score.N, score.M, score.kind == "sqdist", score.y is None, few(score)
    return pairs, score.x.new_empty(sweep.kernels.pairs_room(pairs), dtype=torch.uint8)


def targets(to: Gradients, needs: Needs) -> tuple:
    """Gradients as kernels take them."""
    x, y, row_bias, col_bias, scale = (
        t.data_ptr() if t.numel() else 0 for t in (to.x, to.y, to.row_bias, to.col_bias, to.scale)
    )
    return x, y, (needs.y.start, needs.y.stop), row_bias, col_bias, scale, to.scale.dtype == torch.float64
