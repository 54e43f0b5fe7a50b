"""The rows of a loss before and after its sweeps, by the kernels of `rowwise.py`: normalised and scored; and their gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .._checks import accumulation_dtype
from ..problem.row_loss import RowProblem
from . import rowwise, shapes
from .launch import ONE_STAGE, TYPES, Side, aligned, cdiv, phi_of
from .launch_cache import launch_cached

ELEMENTS = 2048  # elements of a tile of rows, 8 a thread
WIDEST = 1024  # dimensions that a program holds at a time
NONE = None, None, None, 0  # no piece


@dataclass
class Rows:
    """Rows of X or of Y.

    pieces  the given tensors, in order and aligned
    unit    all rows as scores see them, in one tensor: divided by their norms if the loss normalizes
    norms   the norms of each piece, or none
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

    def piece(self, k: int) -> tuple[Tensor, Tensor | None, Tensor | None, int]:
        """A piece, the unit if it is a copy, the piece's norms, and its first row."""
        unit, norm = self.unit if self.unit is not self.pieces[0] else None, self.norms[k] if self.norms else None
        return self.pieces[k], unit, norm, sum(map(len, self.pieces[:k]))

    def every(self) -> list[tuple[Tensor, Tensor | None, Tensor | None, int]]:
        return [self.piece(k) for k in range(len(self.pieces))]


class Prepared:
    """The rows of a problem as its scores see them, and the scores of single positives.

    x, y           the rows; y is None if it is x
    scale          0-d, fp64
    raw, positive  (N,) t of each row and its partner, and their score; None without partners
    shift, index   which columns the partners are
    """

    def __init__(self, problem: RowProblem, scale: Tensor):
        self.problem, self.scale = problem, scale
        self.dtype = problem.dtype
        positives = problem.positives
        self.partners = positives.shift is not None or positives.index is not None
        self.shift = 0 if positives.shift is None else positives.shift % problem.M
        self.index = aligned(positives.index)
        self.raw = self.positive = None
        if self.partners:
            self.raw, self.positive = (scale.new_empty(problem.N, dtype=self.dtype) for _ in range(2))
        self._normalize_and_score()

    def _normalize_and_score(self) -> None:
        """Handle rows and their partners in one launch if they stand in matching places of two batches or views; else apart."""
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
        pair = None
        if self.partners and views:
            pair = self.x.piece(0), self.x.piece(1)
        elif beside and self.y is not None:
            pair = self.x.piece(0), self.y.piece(0)
        for piece in (*self.x.every(), *(() if self.y is None else self.y.every())):
            if pair is None or not any(piece[0] is one[0] for one in pair):
                self._launch(piece, NONE)
        if pair is not None:
            self._launch(*pair, BESIDE=True, TWICE=views)
        elif self.partners:
            self._launch((self.x.unit, None, None, 0), (self.keys, None, None, 0))

    def _launch(self, a: tuple, b: tuple, **how: bool) -> None:
        (given, unit, norm, first), problem, alone = a, self.problem, b[0] is None
        if unit is None and alone:
            return
        raw, positive = (None, None) if alone else (self.raw, self.positive)
        of_pairs = (None,) * 3 if alone else (aligned(problem.row_bias), aligned(problem.col_bias), self.index)
        tile = _tile(problem.D)
        launch_cached(
            rowwise.normalize_and_score, (cdiv(given.shape[0], tile["BM"]),),
            given, b[0], unit, b[1], norm, b[2], raw, positive, self.scale, *of_pairs, first, b[3],
            given.shape[0], self.shift, problem.M, D=problem.D, NORMALIZE=norm is not None, KIND=problem.kind,
            **phi_of(problem.phi), DTYPE=TYPES[self.dtype], **{"BESIDE": False, "TWICE": False, **how}, **tile,
        )  # fmt: skip

    @property
    def keys(self) -> Tensor:
        return self.x.unit if self.y is None else self.y.unit

    def partner(self) -> Tensor:
        """(N,) the column of each row's partner, negative for none."""
        if self.index is not None:
            return self.index
        return (torch.arange(self.problem.N, device=self.scale.device) + self.shift) % self.problem.M

    def out(
        self, rows: Rows, here: slice, parts: Tensor, pair: Tensor | None, weight: Tensor, counted: Tensor | None, *,
        scaled: bool, of_parts: Tensor | None = None, to_rows: Side | None = None,
    ) -> Tensor:  # fmt: skip
        """The gradient of some rows as they were given: see `rowwise.rows_backward`. pair (N,): the gradient of the scores of
        positives."""
        problem, tile = self.problem, _tile(self.problem.D)
        out = parts.new_empty(parts.shape[1:])
        partnered = pair is not None and self.partners
        ahead = self.keys if partnered and rows is self.x else None
        behind = self.x.unit if partnered and self.index is None and (rows is self.y or self.y is None) else None
        for given, _, norm, first in rows.every():
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
                self.shift, D=problem.D, NORMALIZE=norm is not None, SCALED=scaled, KIND=problem.kind,
                **phi_of(problem.phi), DTYPE=TYPES[self.dtype], **tile,
            )  # fmt: skip
        return out


def _tile(D: int) -> dict[str, int]:
    wide = min(shapes.padded(D), WIDEST)
    # The limit keeps NVIDIA's assembler from spilling a few registers to make room for another program.
    limit = {} if torch.version.hip else {"maxnreg": 255}
    return {"BM": ELEMENTS // wide, "BD": wide, "num_warps": 8, **ONE_STAGE, **limit}
