"""A strip of scores: how it is filled, and how its gradient is pulled back to the embeddings.

With t_ij = ⟨x_i, y_j⟩ or −‖x_i − y_j‖², the score is φ(α t) + r + c. A strip holds all its rows' columns in one buffer that
the next strip reuses. Three ways to fill it, the first that is exact enough:

    product       t by one matrix product, in the accumulation dtype; a square is expanded around the mean,
                  −‖x − y‖² = [2x, −‖x‖², −1]·[y, 1, ‖y‖²]
    fp64 product  the same in double precision, for fp32 and half inputs; α t is then rounded to fp32 once
    differences   ‖x − y‖² one dimension after the other, exact for any bandwidth, 2D elementwise passes; for few dimensions

An expanded square is exact enough for all pairs, or for those far apart (`squared_distance.py`). The second can only be seen
afterwards, so a plain product is tried first, and done again in fp64 for the strips where some pair is closer than half the
radius; in high dimension there are none. On devices the radius cannot be read without waiting for them, so squares are taken
by differences there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .._checks import readable
from ..problem.score import Score
from ..problem.types import Gradients
from . import squared_distance
from .squared_distance import BLOCK, pull, squared_distances

CACHED_STRIP = 4 << 20  # bytes: a strip this small stays in the last cache levels while it is worked on
FEWEST_ROWS = 128  # below this many rows the library's matrix product loses its speed
FEW_DIMENSIONS = 4  # up to here the 2D passes of differences cost less than a product in fp64


@dataclass(frozen=True)
class Filling:
    """One of the three ways, and the words for it; far_apart: u of a strip whose pairs all lie below may be a plain product."""

    dtype: torch.dtype
    differences: bool
    why: str
    far_apart: float | None = None


def choose_filling(score: Score) -> Filling:
    """The cheapest way of filling strips that is exact enough for this problem."""
    if score.kind == "dot":
        return Filling(score.dtype, False, "one matrix product")
    if score.D <= FEW_DIMENSIONS:
        return Filling(score.dtype, True, f"differences: only {score.D} dimensions")
    if not readable(score.x):
        return Filling(score.dtype, True, "differences: the data's radius cannot be read without synchronising")
    score_radius = squared_distance.score_radius(score)
    for dtype in dict.fromkeys((score.dtype, torch.float64)):
        if squared_distance.exact_enough(score, score_radius, dtype):
            if dtype == score.dtype:
                return Filling(dtype, False, f"one matrix product: scale·radius² = {score_radius:.3g}")
            far_apart = squared_distance.far_apart(score, score_radius)
            where = " for strips with close pairs" if far_apart is not None else ""
            return Filling(
                dtype, False, f"one matrix product, in fp64{where}: scale·radius² = {score_radius:.3g}", far_apart
            )
    return Filling(
        score.dtype, True, f"differences: scale·radius² = {score_radius:.3g} is too large to expand the square"
    )


@dataclass(frozen=True)
class Buffers:
    """Which buffers of a strip's size a route needs, and how many rows a strip then has.

    t        keep t beside the scores: for φ', for the gradient of the scale of a distance, or because its dtype is another
    scratch  a second buffer like the scores
    rows     of one strip
    bytes    of all of them together
    """

    t: bool
    scratch: bool
    rows: int
    bytes: int

    @staticmethod
    def plan(score: Score, filling: Filling, workspace: int, *, keep_t: bool, scratch: bool) -> Buffers:
        keep_t = keep_t or filling.dtype != score.dtype
        row_bytes = score.M * ((1 + scratch) * score.dtype.itemsize + keep_t * filling.dtype.itemsize)
        passing = score.M * filling.dtype.itemsize  # what torch allocates on the way: masks, a converted P
        rows = max(1, workspace // (row_bytes + passing))
        if score.x.device.type == "cpu":
            rows = min(rows, max(FEWEST_ROWS, CACHED_STRIP // (score.M * score.dtype.itemsize)))
        rows = min(rows, score.N)
        return Buffers(keep_t, scratch, rows, rows * row_bytes)


class Strips:
    """The strips of one problem, as an iterable that reuses its buffers.

    score      what to fill them with
    workspace  bytes all buffers together may take
    keep_t     keep t beside the scores
    scratch    provide a second buffer like the scores
    narrow     skip columns that sorted class ids put out of reach
    """

    def __init__(
        self, score: Score, workspace: int, *, keep_t: bool = False, scratch: bool = False, narrow: bool = True
    ):
        self.score = score
        self.keep_t = keep_t
        self.filling = choose_filling(score)
        self.narrow = narrow and readable(score.x) and score.exclude.has_sorted_classes()
        buffers = Buffers.plan(score, self.filling, workspace, keep_t=keep_t, scratch=scratch)
        self.rows = buffers.rows
        self._center = squared_distance.center(score, self.filling.dtype) if score.kind == "sqdist" else None
        size = self.rows * score.M
        self._scores = score.x.new_empty(size, dtype=score.dtype)
        self._scratch = score.x.new_empty(size, dtype=score.dtype) if buffers.scratch else None
        self._t = score.x.new_empty(size, dtype=self.filling.dtype) if buffers.t else None

    def __iter__(self) -> Iterator[Strip]:
        score = self.score
        for first in range(0, score.N, self.rows):
            rows = slice(first, min(first + self.rows, score.N))
            columns = score.exclude.columns_in_reach(rows.start, rows.stop) if self.narrow else slice(0, score.M)
            if columns.start < columns.stop:
                yield self._fill(rows, columns)

    def _fill(self, rows: slice, columns: slice) -> Strip:
        score, far_apart = self.score, self.filling.far_apart
        if far_apart is not None:
            strip = self._scaled_t(rows, columns, score.dtype)
            score.exclude.fill(strip.scores, rows.start, columns, -torch.inf)
            if float(strip.scores.amax()) <= far_apart:
                return self._finished(strip)
        return self._finished(self._scaled_t(rows, columns, self.filling.dtype))

    def _finished(self, strip: Strip) -> Strip:
        strip.scores = self.score.finish(strip.scores, strip.rows.start, strip.columns)
        return strip

    def _scaled_t(self, rows: slice, columns: slice, dtype: torch.dtype) -> Strip:
        """A strip whose scores are α t still, t having been computed in this dtype."""
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        strip = Strip(self, rows, columns, dtype, self._scores[: math.prod(shape)].view(shape))
        if self._scratch is not None:
            strip.scratch = self._scratch[: math.prod(shape)].view(shape)
        if self._t is None or not (self.keep_t or dtype != self.score.dtype):
            self._fill_t(strip.scores, rows, columns, self.score.scale)
            return strip
        strip.t = self._t.view(dtype)[: math.prod(shape)].view(shape)
        self._fill_t(strip.t, rows, columns, None)
        torch.mul(strip.t, self.score.scale, out=strip.scores)  # rounded to the scores' dtype, once
        return strip

    def _fill_t(self, out: Tensor, rows: slice, columns: slice, scale: Tensor | None) -> None:
        """Write scale·t into a block, (B, C), of the dtype to compute in."""
        score = self.score
        if self.filling.differences:
            squared_distances(score.x[rows], score.keys[columns], out=out).neg_()
            if scale is not None:
                out.mul_(scale)
            return
        x = self.load(score.x, rows, out.dtype)
        left = x if score.kind == "dot" else torch.cat([2 * x, -_squares(x), -torch.ones_like(x[:, :1])], dim=1)
        if scale is not None:
            left = left * scale
        for block, within in self.blocks(columns, out.dtype):
            y = self.load(score.keys, block, out.dtype)
            right = y if score.kind == "dot" else torch.cat([y, torch.ones_like(y[:, :1]), _squares(y)], dim=1)
            torch.mm(left, right.T, out=out[:, within])
        if score.kind == "sqdist" and not score.phi.lipschitz:
            out.clamp_(max=0.0)  # rounding may leave −‖x − y‖² a little above 0, where √(−u) is NaN

    def load(self, source: Tensor, rows: slice, dtype: torch.dtype) -> Tensor:
        """Some rows of X or Y as the products want them: in the dtype to compute in, centred for a squared distance."""
        loaded = source[rows].to(dtype)
        return loaded if self._center is None else loaded - self._center.to(dtype)

    def blocks(self, columns: slice, dtype: torch.dtype) -> Iterator[tuple[slice, slice]]:
        """Column ranges to load at once, each also as a range within the strip. One range where loading copies nothing."""
        copies = self._center is not None or self.score.x.dtype != dtype
        most = max(1, BLOCK // (self.score.D * dtype.itemsize)) if copies else columns.stop - columns.start
        for first in range(columns.start, columns.stop, most):
            last = min(first + most, columns.stop)
            yield slice(first, last), slice(first - columns.start, last - columns.start)


@dataclass
class Strip:
    """One strip, valid until the next is drawn.

    rows, columns  where it lies in the score matrix
    dtype          that t was computed in
    scores         (B, C), free to overwrite
    t              (B, C), or None
    scratch        a second buffer like scores, or None
    """

    strips: Strips
    rows: slice
    columns: slice
    dtype: torch.dtype
    scores: Tensor
    t: Tensor | None = None
    scratch: Tensor | None = None

    def pull_back(self, p: Tensor, grads: Gradients) -> None:
        """Add this strip's share to the gradients, given P = ∂/∂s of its scores, (B, C); overwrites P."""
        score = self.strips.score
        if grads.row_bias.numel():
            grads.row_bias[self.rows] += p.sum(dim=1)
        if grads.col_bias.numel():
            grads.col_bias[self.columns] += p.sum(dim=0)
        if self.t is not None and score.phi.name != "identity":
            p *= score.phi.derivative(self.t * score.scale)
        u = p.to(self.dtype)
        if grads.scale.numel() and score.kind == "sqdist":
            assert self.t is not None
            grads.scale += torch.dot(u.reshape(-1), self.t.reshape(-1))
        if grads.x.numel() or grads.y.numel() or grads.scale.numel():
            self._pull_to_embeddings(u, grads)

    def _pull_to_embeddings(self, u: Tensor, grads: Gradients) -> None:
        score, strips = self.strips.score, self.strips
        dx, dy = grads.x, grads.x if score.y is None else grads.y
        if strips.filling.differences:
            toward_y, toward_x = pull(u, score.x[self.rows], score.keys[self.columns])
            if dx.numel():
                dx[self.rows] += toward_y * (2 * score.scale)
            if dy.numel():
                dy[self.columns] += toward_x * (2 * score.scale)
            return
        factor = score.scale if score.kind == "dot" else 2 * score.scale
        x = strips.load(score.x, self.rows, self.dtype)
        uy = torch.zeros_like(x)
        needs_uy = dx.numel() or (grads.scale.numel() and score.kind == "dot")
        for block, within in strips.blocks(self.columns, self.dtype):
            y, part = strips.load(score.keys, block, self.dtype), u[:, within]
            if needs_uy:
                uy.addmm_(part, y)
            if dy.numel() and score.kind == "dot" and dy.dtype == x.dtype:
                dy[block].addmm_(part.T, x * factor)
            elif dy.numel():
                ux = part.T @ x
                if score.kind == "sqdist":
                    ux -= part.sum(dim=0)[:, None] * y
                dy[block] += ux.mul_(factor)
        if grads.scale.numel() and score.kind == "dot":
            grads.scale += (x * uy).sum(dtype=torch.float64)
        if dx.numel():
            if score.kind == "sqdist":
                uy -= u.sum(dim=1)[:, None] * x
            dx[self.rows] += uy.mul_(factor)


def _squares(x: Tensor) -> Tensor:
    return (x * x).sum(dim=1, keepdim=True)
