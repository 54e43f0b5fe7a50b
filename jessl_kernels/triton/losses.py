"""Whole losses of rows that may have partners, in few launches: the kernels of `rowwise.py` around the sweeps.

What arrives at a row's log-sum-exp is known when that is, as a share of the loss's weight, by which only the finished gradient
is multiplied. So no half-precision weight depends on the number of rows. fp16, which knows no share below 6e-8, takes the
reductions of `dispatch.py` in the middle, and so does all that is not fused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .._checks import accumulation_dtype
from ..problem.row_loss import Pairing
from ..problem.score import Score
from ..problem.types import Gradients, Needs, Weighted
from . import dispatch, launch, rowwise, shapes
from .launch import MAX_PROGRAMS, TYPES, Problem, Pulled, Side, Sides, aligned, cdiv
from .launch_cache import launch_cached

NOTHING = Needs(False, False, False, False, False)
ELEMENTS = 2048  # of a tile of rows, 8 a thread
WIDEST = 1024  # dimensions that a program holds at a time
ROWS = 128  # that a program of `finalize_rows` takes at a time
ONE_STAGE = {"num_stages": 1}  # nothing multiplies: there is no pipeline to fill


def paired(score: Score, op: str, pairing: Pairing, needs: Needs, workspace: int) -> tuple[Tensor, Gradients]:
    """The value, 0-d, and the gradients."""
    loss = Loss(score, op, pairing, workspace)
    if not any(needs.flatten()):
        loss.add(*dispatch.reduce(loss.score, op, pairing.cols, workspace))
        return loss.value(), Gradients.zeros(score, needs)
    return _schedule(loss, needs)(loss, needs)


def _schedule(loss: Loss, needs: Needs) -> Callable[[Loss, Needs], tuple[Tensor, Gradients]]:
    """Who makes the gradients: a schedule of few launches, where there is one for all that is asked for."""
    score, alone = loss.score, loss.score.y is not None and not loss.pairing.cols
    fused = score.kind == "dot" and shapes.route(score) == "fused" and score.x.dtype != torch.float16
    if not fused or needs.col_bias:
        return _by_reductions
    if loss.op != "logsumexp":
        return _sums if alone else _by_reductions
    if needs.row_bias:
        return _by_reductions
    if alone:
        return _one_side if score.phi.name == "identity" else _by_reductions
    twins = score.symmetric and not loss.pairing.cols  # each row is a column as well
    return _both_sides if twins or score.y is not None else _by_reductions


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
        pieces = [aligned(piece) for piece in given if len(piece)]
        norms = [piece.new_empty(len(piece), dtype=accumulation_dtype(piece.dtype)) for piece in pieces if normalize]
        if not normalize and len(pieces) == 1:
            return Rows(pieces, pieces[0], norms)
        return Rows(pieces, pieces[0].new_empty(sum(map(len, pieces)), pieces[0].shape[1]), norms)

    def piece(self, k: int) -> tuple[Tensor, Tensor | None, Tensor | None, int]:
        """A piece, the unit if it is a copy, the piece's norms, and its first row."""
        copied = self.unit is not self.pieces[0]
        first = sum(map(len, self.pieces[:k]))
        return self.pieces[k], self.unit if copied else None, self.norms[k] if self.norms else None, first


class Loss:
    """One loss on its way: its rows are normalised and scored, and the gradients at their sums are added a side at a time.

    score          of the rows in one piece, divided by their norms
    x, y           its rows; y None where they are x
    raw, positive  (N,) ⟨x_i, y_k⟩ of each row and its partner, and their score; None where there are no partners
    shares         Side of rows, then of columns: what arrives at them, as a share of the weight
    pair           (N,) what arrives at `positive`, likewise
    losses         sums of some rows' losses, and zeros
    """

    def __init__(self, score: Score, op: str, pairing: Pairing, workspace: int):
        self.op, self.pairing, self.workspace = op, pairing, workspace
        self.dtype = score.dtype
        self.weight = score.x.new_full((), pairing.weight, dtype=torch.float64)
        self.raw = self.positive = self.pair = None
        self.shares: list[Side] = []
        self._normalize_and_score(score)
        y = None if self.y is None else self.y.unit
        self.score = replace(score, x=self.x.unit, y=y, rest=None)
        self.lse_range = score.x.new_empty(2 * MAX_PROGRAMS + 1, dtype=score.dtype)
        self.losses = score.x.new_empty(2 * MAX_PROGRAMS, dtype=score.dtype)

    def _normalize_and_score(self, score: Score) -> None:
        """Rows beside their partners where they stand so, in two batches or in two views; else each where it is."""
        N, shift, normalize = score.N, self.pairing.shift, self.pairing.normalize
        rest = [] if score.rest is None else [score.rest]
        partners = self.pairing.join != "none"
        two = partners and score.y is None and bool(rest) and score.row_bias is None
        views = two and 2 * shift == N == 2 * len(rest[0])
        beside = partners and score.y is not None and shift == 0 and len(score.y) >= N
        self.x = Rows.of([score.x, *rest] if score.y is None else [score.x], normalize)
        keys = [] if score.y is None else [score.y[:N], score.y[N:]] if beside else [score.y]
        self.y = Rows.of([*keys, *rest], normalize) if keys else None
        if partners:
            self.raw, self.positive, self.pair = (score.x.new_empty(N, dtype=self.dtype) for _ in range(3))
        others = self.x if self.y is None else self.y
        together: list[tuple[Rows, int, Rows, int]] = []
        if views:
            together = [(self.x, 0, self.x, 1)]
        elif beside and self.y is not None:
            together = [(self.x, 0, self.y, 0)]
        for rows in (self.x,) if self.y is None else (self.x, self.y):
            for k in range(len(rows.pieces)):
                if not any((rows is a and k == i) or (rows is b and k == j) for a, i, b, j in together):
                    self._prepare(score, rows.piece(k), None)
        for a, i, b, j in together:
            self._prepare(score, a.piece(i), b.piece(j), twice=views)
        if partners and not together:
            partner = others.unit.roll(-shift, 0)[:N].contiguous()
            self._prepare(score, (self.x.unit, None, None, 0), (partner, None, None, 0))

    def _prepare(self, score: Score, a: tuple, b: tuple | None, twice: bool = False) -> None:
        (given, unit, norm, first), other = a, b or (None, None, None, 0)
        normalize = norm is not None
        if unit is None and b is None:
            return
        raw, positive = (None, None) if b is None else (self.raw, self.positive)
        bias = None if b is None or score.row_bias is None else aligned(score.row_bias)
        tile = _tile(score.D)
        launch_cached(
            rowwise.normalize_and_score, (cdiv(given.shape[0], tile["BM"]),),
            given, other[0], unit, other[1], norm, other[2], raw, positive, score.scale, bias, first, other[3], given.shape[0],
            D=score.D, NORMALIZE=normalize, TWICE=twice, DTYPE=TYPES[self.dtype], **tile,
        )  # fmt: skip

    def add(self, row: Tensor, col: Tensor | None = None) -> None:
        """Log-sum-exps or sums of rows, and of columns if they have a loss: from parts, (parts, N), or as they are."""
        for part in (row, col) if self.pairing.cols else (row,):
            assert part is not None
            self._finalize_rows(part if part.ndim == 2 else part[None], row if row.ndim == 2 else row[None])

    def _finalize_rows(self, parts: Tensor, origin: Tensor) -> None:
        count, rows = parts.shape
        lse, share, rescaled = (parts.new_empty(rows) for _ in range(3))
        is_lse, second = self.op == "logsumexp", bool(self.shares)
        grid, options = over_rows(rows, count)
        launch_cached(
            rowwise.finalize_rows, grid,
            parts, self.positive, self.weight, self.pair if second else None, lse, share, self.pair, self.losses,
            rescaled if is_lse else None, self.lse_range, origin if is_lse and not second else None, count, origin.shape[0],
            origin.shape[1], rows, SECOND=second, LSE=is_lse, JOIN=self.pairing.join, **options,
        )  # fmt: skip
        self.shares.append(Side(share, lse, rescaled))

    def value(self) -> Tensor:
        return self.losses.sum()

    def rows_backward(
        self, rows: Rows, parts: Tensor, of_parts: Tensor | None = None, lse: Tensor | None = None,
        factor: Tensor | None = None, shares: bool = True,
    ) -> Tensor:  # fmt: skip
        """The gradient of the rows as they were given, (rows, D): see `rowwise.rows_backward`."""
        score, tile = self.score, _tile(self.score.D)
        out = parts.new_empty(parts.shape[1:])
        paired = self.pairing.join != "none"
        ahead = score.keys if paired and rows is self.x else None
        behind = score.x if paired and (rows is self.y or self.y is None) else None
        for k in range(len(rows.pieces)):
            given, _, norm, first = rows.piece(k)
            launch_cached(
                rowwise.rows_backward, (cdiv(given.shape[0], tile["BM"]),),
                parts, of_parts, lse, factor, score.scale, self.weight, ahead, behind, self.pair, given, norm, out, first,
                first + given.shape[0], out.shape[0], parts.shape[0], score.N, score.M, self.pairing.shift, D=score.D,
                NORMALIZE=norm is not None, SHARES=shares, DTYPE=TYPES[self.dtype], **tile,
            )  # fmt: skip
        return out

    def scale(self, over_pairs: Tensor) -> Tensor:
        """The gradient of the scale, from Σ U t as shares of the weight: that of the partners on top. fp64, since it cancels."""
        if self.pair is not None and self.raw is not None:
            over_pairs = over_pairs + (self.pair.double() * self.raw).sum()
        return over_pairs * self.weight


def over_rows(rows: int, parts: int) -> tuple[tuple[int], dict[str, int]]:
    """Programs of a kernel that takes rows in turn, each in so many parts, and its constants."""
    constants = {"BLOCK": ROWS, "PARTS_PER_LOAD": 4 if parts <= 4 else 32, **ONE_STAGE}
    return (min(cdiv(rows, ROWS), MAX_PROGRAMS),), constants


def _tile(D: int) -> dict[str, int]:
    wide = min(shapes.padded(D), WIDEST)
    # With the limit NVIDIA's assembler does not spill a few registers to make room for another program.
    limit = {} if torch.version.hip else {"maxnreg": 255}
    return {"BM": ELEMENTS // wide, "BD": wide, "num_warps": 8, **ONE_STAGE, **limit}


def _one_side(loss: Loss, needs: Needs) -> tuple[Tensor, Gradients]:
    """The sweep for L leaves the gradient of x, up to what arrives; a second goes along the columns."""
    score, grads = loss.score, Gradients.empty(loss.score, NOTHING)
    found = launch.attend(Problem.of(score), needs.scale, 0, loss.workspace)
    loss.add(found.lse)
    side = loss.shares[0]
    if needs.x:
        several = len(found.lse) > 1
        levels = (found.lse, side.lse) if several else (None, None)
        grads.x = loss.rows_backward(loss.x, found.embedding, *levels, side.gradient)
    if needs.y:
        assert loss.y is not None
        sides = Sides(None, side, None)
        pulled = launch.pull(Problem.of(score.transposed()), sides, loss.op, loss.workspace)
        grads.y = loss.rows_backward(loss.y, pulled.embedding)
    if needs.scale:
        mean = found.merged().mean
        assert mean is not None
        grads.scale = loss.scale((mean.double() * side.gradient).sum())
    return loss.value(), grads


def _both_sides(loss: Loss, needs: Needs) -> tuple[Tensor, Gradients]:
    """Rows and columns have losses, or each row is a column too: all log-sum-exps first, then a sweep for each side's rows."""
    score, grads = loss.score, Gradients.empty(loss.score, NOTHING)
    summed = launch.sum_parts(Problem.of(score), loss.op, loss.pairing.cols and not score.symmetric, loss.workspace)
    loss.add(summed.row, summed.col)
    row, col = loss.shares[0], loss.shares[-1]

    def pull(of: Score, one: Side, other: Side, scale: bool) -> Pulled:
        sides = Sides(one, other, loss.lse_range)
        return launch.pull(Problem.of(of), sides, loss.op, loss.workspace, scale=scale)

    if needs.x or needs.scale:
        found = pull(score, row, col, needs.scale)
        grads.x = loss.rows_backward(loss.x, found.embedding) if needs.x else grads.x
        if found.scale is not None:
            # Of a symmetric problem each pair is there from both its ends.
            grads.scale = loss.scale(found.scale.sum(dtype=torch.float64) * (0.5 if score.symmetric else 1.0))
    if needs.y and loss.y is not None:
        grads.y = loss.rows_backward(loss.y, pull(score.transposed(), col, row, False).embedding)
    return loss.value(), grads


def _sums(loss: Loss, needs: Needs) -> tuple[Tensor, Gradients]:
    """A sum of ψ has weights that are known before it is: a sweep along rows makes both, one along columns the rest."""
    score, grads = loss.score, Gradients.empty(loss.score, NOTHING)
    one = score.x.new_ones(max(score.N, score.M), dtype=score.dtype)
    side = Side(one, one, one)
    problem, sides = Problem.of(score), Sides(side, None, None)
    found = launch.pull(problem, sides, loss.op, loss.workspace, psi=True, bias=needs.row_bias, scale=needs.scale)
    assert found.psi is not None
    loss.add(found.psi)
    if needs.x:
        grads.x = loss.rows_backward(loss.x, found.embedding)
    if needs.y and loss.y is not None:
        of = Problem.of(score.transposed())
        pulled = launch.pull(of, Sides(None, side, None), loss.op, loss.workspace)
        grads.y = loss.rows_backward(loss.y, pulled.embedding)
    if found.bias is not None:
        of_pairs = found.bias.sum(dim=0)
        grads.row_bias = (of_pairs if loss.pair is None else of_pairs + loss.pair) * loss.weight.to(score.dtype)
    if found.scale is not None:
        grads.scale = loss.scale(found.scale.sum(dtype=torch.float64))
    return loss.value(), grads


def _by_reductions(loss: Loss, needs: Needs) -> tuple[Tensor, Gradients]:
    """With the gradients of the reductions of `dispatch.py`, in which weights and upstream gradients are multiplied already."""
    score, pairing = loss.score, loss.pairing
    weight = score.x.new_full((score.N,), pairing.weight, dtype=score.dtype)
    side = Weighted(weight, loss.positive if pairing.join == "anchor" else None)
    row, col, made = dispatch.reduce_and_gradient(
        score, loss.op, side, side if pairing.cols else None, needs, loss.workspace
    )
    loss.add(row, col)
    if needs.x:
        made.x = loss.rows_backward(loss.x, made.x[None], shares=False)
    if needs.y and loss.y is not None:
        made.y = loss.rows_backward(loss.y, made.y[None], shares=False)
    if loss.pair is not None and needs.row_bias:
        made.row_bias += loss.pair * loss.weight.to(score.dtype)
    if needs.scale:
        made.scale += loss.scale(torch.zeros_like(loss.weight))
    return loss.value(), made
