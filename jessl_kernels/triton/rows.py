"""A loss's rows on their way in and out, by the kernels of `rowwise.py`: normalised and scored, and their gradients back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .._checks import accumulation_dtype
from ..problem.exclude import Exclude, IdPair, one_tensor
from ..problem.row_loss import Loss, RowProblem
from ..problem.types import Gradients, Needs
from . import rowwise, shapes
from .launch import ONE_STAGE, TYPES, Side, aligned, cdiv
from .launch_cache import launch_cached

ELEMENTS = 2048  # of a tile of rows, 8 a thread
WIDEST = 1024  # dimensions that a program holds at a time
NONE = None, None, None, 0  # no piece


@dataclass
class Rows:
    """Rows of X or of Y.

    pieces  as they were given, in order and aligned
    unit    as scores see them, in one tensor: divided by their norms, where that is asked for
    norms   of each piece, or none
    """

    pieces: list[Tensor]
    unit: Tensor
    norms: list[Tensor]

    @staticmethod
    def of(given: list[Tensor], normalize: bool) -> Rows:
        pieces = [aligned(piece.detach()) for piece in given if len(piece)] or [aligned(given[0].detach())]
        norms = [piece.new_empty(len(piece), dtype=accumulation_dtype(piece.dtype)) for piece in pieces if normalize]
        if not normalize and len(pieces) == 1:
            return Rows(pieces, pieces[0], norms)
        return Rows(pieces, pieces[0].new_empty(sum(map(len, pieces)), pieces[0].shape[1]), norms)

    def first(self, k: int) -> int:
        return sum(map(len, self.pieces[:k]))

    def piece(self, k: int) -> tuple[Tensor, Tensor | None, Tensor | None, int]:
        """A piece, the unit if it is a copy, the piece's norms, and its first row."""
        copied = self.unit is not self.pieces[0]
        return self.pieces[k], self.unit if copied else None, self.norms[k] if self.norms else None, self.first(k)


class Prepared:
    """The rows of a problem as its scores see them, and the scores of single positives.

    x, y           its rows; y None where they are x
    scale          0-d, fp64
    raw, positive  (N,) t of each row and its partner, and their score; None where there are none
    shift, index   which those are
    """

    def __init__(self, problem: RowProblem, scale: Tensor):
        self.problem, self.scale = problem, scale
        self.dtype = problem.dtype
        positives = problem.positives
        self.partners = positives.shift is not None or positives.index is not None
        self.shift = 0 if positives.shift is None else positives.shift % problem.M
        self.index = None if positives.index is None else aligned(positives.index)
        self.raw = self.positive = None
        if self.partners:
            self.raw, self.positive = (scale.new_empty(problem.N, dtype=self.dtype) for _ in range(2))
        self._normalize_and_score()

    def _normalize_and_score(self) -> None:
        """Rows beside their partners where they stand so, in two batches or in two views; else each where it is."""
        problem = self.problem
        N, biased = problem.N, problem.row_bias is not None or problem.col_bias is not None
        views = self.shift * 2 == N == 2 * len(problem.x[0]) and not problem.y and not biased and self.index is None
        beside = bool(problem.y) and self.shift == 0 and self.index is None and len(problem.x) == 1
        beside = beside and self.partners and len(problem.y[0]) >= N
        keys = list(problem.y)
        if beside and len(keys[0]) > N:
            keys = [keys[0][:N], keys[0][N:], *keys[1:]]
        self.x = Rows.of(list(problem.x), problem.normalize)
        self.y = Rows.of(keys, problem.normalize) if keys else None
        together = None
        if self.partners and views:
            together = (self.x, 0), (self.x, 1)
        elif beside and self.y is not None:
            together = (self.x, 0), (self.y, 0)
        for rows in (self.x,) if self.y is None else (self.x, self.y):
            for k in range(len(rows.pieces)):
                if together is None or not any(rows is of and k == number for of, number in together):
                    self._launch(rows.piece(k), NONE)
        if together is not None:
            (a, i), (b, j) = together
            self._launch(a.piece(i), b.piece(j), BESIDE=True, TWICE=views)
        elif self.partners:
            self._launch((self.x.unit, None, None, 0), (self.keys, None, None, 0))

    def _launch(self, a: tuple, b: tuple, **how: bool) -> None:
        (given, unit, norm, first), problem, alone = a, self.problem, b[0] is None
        if unit is None and alone:
            return
        raw, positive = (None, None) if alone else (self.raw, self.positive)
        row_bias, col_bias, index = (
            None if t is None or alone else aligned(t) for t in (problem.row_bias, problem.col_bias, self.index)
        )
        tile = _tile(problem.D)
        launch_cached(
            rowwise.normalize_and_score, (cdiv(given.shape[0], tile["BM"]),),
            given, b[0], unit, b[1], norm, b[2], raw, positive, self.scale, row_bias, col_bias, index, first, b[3],
            given.shape[0], self.shift, problem.M, D=problem.D, NORMALIZE=norm is not None, KIND=problem.kind, **self._phi,
            DTYPE=TYPES[self.dtype], **{"BESIDE": False, "TWICE": False, **how}, **tile,
        )  # fmt: skip

    @property
    def keys(self) -> Tensor:
        return self.x.unit if self.y is None else self.y.unit

    @property
    def _phi(self) -> dict[str, Any]:
        low, high = self.problem.phi.parameters or (0.0, 0.0)
        return {"PHI": self.problem.phi.name, "LOW": low, "HIGH": high}

    def partner(self) -> Tensor:
        """(N,) the column of each row's partner, negative for none."""
        if self.index is not None:
            return self.index
        return (torch.arange(self.problem.N, device=self.scale.device) + self.shift) % self.problem.M

    def out(
        self, rows: Rows, here: slice, parts: Tensor, pair: Tensor | None, weight: Tensor, counted: Tensor | None, *,
        scaled: bool, of_parts: Tensor | None = None, to_rows: Side | None = None,
    ) -> Tensor:  # fmt: skip
        """The gradient of some rows as they were given: see `rowwise.rows_backward`. pair (N,): what arrives at the scores of
        positives."""
        problem, tile = self.problem, _tile(self.problem.D)
        out = parts.new_empty(parts.shape[1:])
        partnered = pair is not None and self.partners
        ahead = self.keys if partnered and rows is self.x else None
        behind = self.x.unit if partnered and self.index is None and (rows is self.y or self.y is None) else None
        for k in range(len(rows.pieces)):
            given, _, norm, first = rows.piece(k)
            begin, end = max(first, here.start), min(first + len(given), here.stop)
            if begin >= end:
                continue
            if end - begin < len(given):
                within = slice(begin - first, end - first)
                given, norm = aligned(given[within]), None if norm is None else aligned(norm[within])
            launch_cached(
                rowwise.rows_backward, (cdiv(end - begin, tile["BM"]),),
                parts, of_parts, to_rows or Side(), self.scale, weight, counted, ahead, behind, pair, self.raw, self.index,
                rows.unit, given, norm, out, here.start, begin, end, out.shape[0], parts.shape[0], problem.N, problem.M,
                self.shift, D=problem.D, NORMALIZE=norm is not None, SCALED=scaled, KIND=problem.kind, **self._phi,
                DTYPE=TYPES[self.dtype], **tile,
            )  # fmt: skip
        return out


def _tile(D: int) -> dict[str, int]:
    wide = min(shapes.padded(D), WIDEST)
    # With the limit NVIDIA's assembler does not spill a few registers to make room for another program.
    limit = {} if torch.version.hip else {"maxnreg": 255}
    return {"BM": ELEMENTS // wide, "BD": wide, "num_warps": 8, **ONE_STAGE, **limit}


class Sorted:
    """A problem whose rows may have several positives, rows and columns in the order of their ids: so the positives of a tile of
    rows stand within few tiles of columns.

    reach, transposed  the first such column of each row, and the last + 1; and the rows of each column
    """

    def __init__(self, problem: RowProblem, loss: Loss, needs: Needs):
        assert problem.positives.row_ids is not None and problem.positives.col_ids is not None
        self._given, self._needs = problem, needs
        together = not problem.y and one_tensor(problem.positives.row_ids, problem.positives.col_ids)
        row_ids, self._rows = problem.positives.row_ids.sort(stable=True)
        col_ids, self._cols = (row_ids, self._rows) if together else problem.positives.col_ids.sort(stable=True)
        self.problem, self.loss = self._permuted(row_ids, col_ids, together, loss)
        wanted = needs.y.stop > needs.y.start or (needs.x and not problem.y and not together)
        self.needs = needs._replace(y=slice(0, problem.M if wanted else 0))
        self.reach = _bounds(col_ids, row_ids)
        self.transposed = self.reach if together else _bounds(row_ids, col_ids)

    def _permuted(self, row_ids: Tensor, col_ids: Tensor, together: bool, loss: Loss) -> tuple[RowProblem, Loss]:
        problem, rows, cols = self._given, self._rows, self._cols

        def ids(pair: IdPair) -> IdPair:
            first = pair[0].index_select(0, rows)
            return first, first if together and one_tensor(*pair) else pair[1].index_select(0, cols)

        def of(t: Tensor | None, order: Tensor) -> Tensor | None:
            return None if t is None else t.detach().index_select(0, order)

        def piece(pieces: tuple[Tensor, ...], order: Tensor) -> tuple[Tensor]:
            whole = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
            return (whole.detach().index_select(0, order),)

        exclude = problem.exclude
        # A row keeps its own number among the columns if both are sorted alike; else diagonals are told by the numbers they had.
        kept = tuple(d for d in exclude.diagonals if d == 0 and together)
        moved = tuple((rows + d, cols) for d in exclude.diagonals if d not in kept)
        same = tuple(map(ids, exclude.same)) + moved
        permuted = replace(
            problem,
            x=piece(problem.x, rows),
            y=() if together else piece(problem.keys, cols),
            row_bias=of(problem.row_bias, rows),
            col_bias=of(problem.col_bias, cols),
            exclude=Exclude(kept, same, tuple(map(ids, exclude.different))),
            positives=problem.positives._replace(row_ids=row_ids, col_ids=col_ids),
            also=of(problem.also, rows),
        )
        return permuted, loss._replace(weights=of(loss.weights, rows), col_weights=of(loss.col_weights, cols))

    def back(self, made: Gradients) -> Gradients:
        """Gradients by the numbers that rows had."""

        def inverse(order: Tensor) -> Tensor:
            return torch.empty_like(order).index_copy_(0, order, torch.arange(len(order), device=order.device))

        def unsorted(t: Tensor, places: Tensor) -> Tensor:
            return t.index_select(0, places) if t.numel() else t

        rows = inverse(self._rows)
        cols = rows if self._cols is self._rows else inverse(self._cols)
        x, y = unsorted(made.x, rows), unsorted(made.y, cols)
        if not self._given.y:  # Y is X
            x, y = x + y if y.numel() else x, y.new_empty(0)
        row_bias, col_bias, also = (
            unsorted(made.row_bias, rows),
            unsorted(made.col_bias, cols),
            unsorted(made.also, rows),
        )
        return replace(
            made, x=x, y=y[self._needs.y] if y.numel() else y, row_bias=row_bias, col_bias=col_bias, also=also
        )


def _bounds(sorted_ids: Tensor, ids: Tensor) -> IdPair:
    first, last = (torch.searchsorted(sorted_ids, ids, right=right) for right in (False, True))
    return first, last
