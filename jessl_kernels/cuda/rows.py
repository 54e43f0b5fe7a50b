"""The O(N·D) work on rows before and after the sweeps, by the kernels of csrc/cuda/rows.cu, because launches cost time."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..backends.rows import Batch, Rows
from ..problem.exclude import NOTHING
from ..problem.row_loss import RowProblem
from ..problem.types import Gradients, Terms
from .arguments import FP32, MOST_PIECES, Sweep, address, pieces_of, points


class CudaBatch(Batch):
    """X or Y as the scores see it."""

    def __init__(self, pieces: tuple[Tensor, ...], normalize: bool, launch):
        self._launch = launch
        given = [piece.detach() for piece in pieces]
        self._held = given if len(given) <= MOST_PIECES else [torch.cat(given)]
        self._pieces = pieces_of(self._held)
        first, count = given[0], sum(map(len, pieces))
        self._norms = first.new_empty(count, dtype=FP32) if normalize else None
        self.rows = first
        if normalize or len(pieces) > 1:
            self.rows = first.new_empty(count, first.shape[1])
            if count:
                launch.unit_rows(self._pieces, address(self._norms), self.rows.data_ptr())

    def pulled_back(self, gradient: Tensor, columns: slice, pull: tuple) -> None:
        """Add the partners' pull to the gradient of these rows, and take it back through the norms, in place."""
        rows, here = points(self.rows), (columns.start, columns.stop)
        self._launch.rows_back(self._pieces, address(self._norms), rows, pull, *here, gradient.data_ptr())


class CudaRows(Rows):
    """The rows of a problem, before and after the sweeps."""

    def __init__(self, problem: RowProblem):
        # Of the words, the kernels over rows need φ, α and the biases.
        self._sweep = Sweep(replace(problem.score(problem.x[0], None), exclude=NOTHING), Terms())
        index = problem.positives.index
        self._index = None if index is None else index.contiguous()
        super().__init__(problem)

    def _batch(self, pieces: tuple[Tensor, ...]) -> Batch:
        return CudaBatch(pieces, self.problem.normalize, self._sweep.kernels)

    def _scores_of(self, partner: Tensor) -> tuple[Tensor, Tensor]:
        t, s = (self.score.x.new_empty(self.problem.N, dtype=FP32) for _ in range(2))
        batches = points(self.score.x), points(self.keys)
        distances = self.problem.kind != "dot"
        self._sweep.kernels.pair_scores(*batches, self._partners_argument(), distances, t.data_ptr(), s.data_ptr())
        return t, s

    def _back(self, grads: Gradients, pull: Tensor | None) -> None:
        by_kernel = pull is not None and self.problem.positives.shift is not None  # then a column has one row
        if pull is not None and not by_kernel:
            self._pull_at_partners(grads, pull)
        x, y, of_itself = self.score.x, self.keys, self.y is None
        for batch, gradient, columns, ahead, behind in (
            (self.x, grads.x, slice(0, self.problem.N), y, x if of_itself else None),
            (self.y, grads.y, self.needs.y, None, x),
        ):
            if batch is None or not gradient.numel():
                continue
            assert isinstance(batch, CudaBatch)
            pulls = None if pull is None else ahead, behind if by_kernel else None
            if self.problem.normalize or any(other is not None for other in pulls):
                argument = address(pull), *map(points, pulls), self._partners_argument(), self.problem.kind != "dot"
                batch.pulled_back(gradient, columns, argument)

    def _partners_argument(self) -> tuple[int, int, int, int]:
        problem, positives = self.problem, self.problem.positives
        return problem.N, problem.M, (positives.shift or 0) % problem.M, address(self._index)
