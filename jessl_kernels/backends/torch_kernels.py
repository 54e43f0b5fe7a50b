"""The table of strips in plain torch, on any device.

With t_ij = ⟨x_i, y_j⟩ or −‖x_i − y_j‖², the score is s = φ(α t) + r + c, and

    sums       Σ_j e^{τ s_ij − m_i} with m_i = max_j τ s_ij, or Σ_j ψ(τ s_ij), for each tilt τ; the same over columns
    U          φ' ∘ P, P_ij = Σ_k f_ki e^{τ_k s_ij − m_ki} + spread_i e^{s_ij − m_0i} − mean_i, and the same of columns

A strip's scores are held in one buffer that the next strip reuses. There are three ways to fill it; the first exact one is taken:

    product       t by one matrix product, in the accumulation dtype; a square is expanded around the mean,
                  −‖x − y‖² = [2x, −‖x‖², −1]·[y, 1, ‖y‖²]
    fp64 product  the same in double precision, for fp32 and half inputs; α t is then rounded to fp32 once
    differences   ‖x − y‖² one dimension after the other, exact for any bandwidth, 2D elementwise passes; for few dimensions

An expanded square is exact enough for all pairs, or for pairs that are far apart (`squared_distance.py`). Whether pairs are far
apart is known only afterwards, so a plain product is tried first, and done again in fp64 for strips in which some pair is closer
than half the radius; in high dimension there are none. On a device the radius cannot be read without waiting, so squares are
taken by differences. Gradients are made the way the scores were.

Strips are small enough to stay in cache, so the elementwise passes cost little beside the products. To save a pass each, the
scale is multiplied into x before the product, U comes without it, and e^{s − m} of the sums is kept for U.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .._checks import readable, widest
from ..problem.psi import PSIS
from ..problem.score import Score
from ..problem.types import Attended, Gradients, Needs, Sums, Terms, Weights
from . import squared_distance
from .products import rounds_factors
from .squared_distance import BLOCK, pull, squared_distances
from .strips import Strip, columns_wanted, length, overlap, within

CACHED_STRIP = 4 << 20  # bytes: a strip this small stays in the last cache levels while it is worked on
FEWEST_ROWS = 128  # below this many rows the library's matrix product loses its speed
FEW_DIMENSIONS = 4  # up to here the 2D passes of differences cost less than a product in fp64

# e^t below the smallest normal number is flushed to 0. With many subnormal weights (small temperatures, KDE in high dimension)
# exp would take 20 to 40 times longer: measured 24.5 ms instead of 0.6 ms for 2²⁰ numbers.
SMALLEST_EXPONENT = {torch.float32: -87.0, torch.float64: -708.0}


@dataclass(frozen=True)
class Filling:
    """One of the three ways, and its description; far_apart: a strip may be a plain product if all its u lie below this."""

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
    rounded = rounds_factors(score.dtype, score.x.device)
    for dtype in dict.fromkeys((score.dtype, widest(score.x.device))):
        if dtype == score.dtype and rounded:
            continue
        if squared_distance.exact_enough(score, score_radius, dtype):
            if dtype == score.dtype:
                return Filling(dtype, False, f"one matrix product: scale·radius² = {score_radius:.3g}")
            far_apart = None if rounded else squared_distance.far_apart(score, score_radius)
            where = " for strips with close pairs" if far_apart is not None else ""
            return Filling(
                dtype, False, f"one matrix product, in fp64{where}: scale·radius² = {score_radius:.3g}", far_apart
            )
    return Filling(
        score.dtype, True, f"differences: scale·radius² = {score_radius:.3g} is too large to expand the square"
    )


@dataclass(frozen=True)
class Buffers:
    """The buffers of a strip's size that a sweep needs, and the rows that a strip then has.

    t        keep t beside the scores: for φ', for the gradient of the scale of a distance, or because its dtype differs
    scratch  a second buffer like the scores: for columns, and for several terms
    rows     the rows of one strip
    bytes    the bytes of all buffers together
    """

    t: bool
    scratch: bool
    rows: int
    bytes: int

    @staticmethod
    def plan(score: Score, filling: Filling, terms: Terms, workspace: int, cols: bool, needs: Needs) -> Buffers:
        keep_t = filling.dtype != score.dtype or (needs.any and _needs_t(score, needs))
        scratch = cols or len(terms.tilts) > 1 or terms.linear
        row_bytes = score.M * ((1 + scratch) * score.dtype.itemsize + keep_t * filling.dtype.itemsize)
        # Temporary tensors of torch: masks, a converted P, a guide's scores.
        guided = score.exclude.guide is not None
        passing = score.M * (filling.dtype.itemsize + guided * score.dtype.itemsize)
        rows = max(1, workspace // (row_bytes + passing))
        if score.x.device.type == "cpu":
            rows = min(rows, max(FEWEST_ROWS, CACHED_STRIP // (score.M * score.dtype.itemsize)))
        rows = min(rows, score.N)
        return Buffers(keep_t, scratch, rows, rows * row_bytes)


def _needs_t(score: Score, needs: Needs) -> bool:
    return score.phi.name != "identity" or (needs.scale and score.kind == "sqdist")


@dataclass
class TorchStrip(Strip):
    """One strip.

    dtype    the dtype in which t was computed and U is multiplied
    scores   (B, C), free to overwrite
    t        (B, C), or None
    scratch  a second buffer like scores, or None
    base     (B,): the scores have become e^{τ s − base}; or None
    """

    dtype: torch.dtype
    scores: Tensor
    t: Tensor | None
    scratch: Tensor | None
    base: Tensor | None = None


class Sides(NamedTuple):
    """Weights of both sides."""

    row: Weights
    col: Weights | None

    def part(self, rows: slice, columns: slice) -> Sides:
        """The weights of a strip: of rows (tilts, B, 1), of columns (tilts, 1, C); spread and mean without the tilts."""
        row = Weights(*(None if t is None else t[..., rows, None] for t in self.row))  # pyright: ignore[reportArgumentType]
        if self.col is None:
            return Sides(row, None)
        return Sides(row, Weights(*(None if t is None else t[..., None, columns] for t in self.col)))  # pyright: ignore[reportArgumentType]


class TorchKernels:
    """The table of one sweep."""

    def __init__(self, score: Score, terms: Terms, workspace: int, cols: bool, needs: Needs):
        self.score, self.terms = score, terms
        self.filling = choose_filling(score)
        buffers = Buffers.plan(score, self.filling, terms, workspace, cols, needs)
        self.rows = buffers.rows
        self.narrow = readable(score.x) and score.has_sorted_classes()  # on a device a read would wait
        self._keep_t = needs.any and _needs_t(score, needs)
        self._center = squared_distance.center(score, self.filling.dtype) if score.kind == "sqdist" else None
        size = self.rows * score.M
        self._scores = score.x.new_empty(size, dtype=score.dtype)
        self._scratch = score.x.new_empty(size, dtype=score.dtype) if buffers.scratch else None
        self._t = score.x.new_empty(size, dtype=self.filling.dtype) if buffers.t else None

    def settle(self, rows: slice, columns: slice) -> TorchStrip:
        score, far_apart = self.score, self.filling.far_apart
        if far_apart is not None:
            strip = self._scaled_t(rows, columns, score.dtype)
            score.leave_out(strip.scores, rows.start, columns)
            if float(strip.scores.amax()) <= far_apart:
                return self._finished(strip)
        return self._finished(self._scaled_t(rows, columns, self.filling.dtype))

    def absorb(self, strip: TorchStrip, row: Sums, col: Sums | None) -> None:
        if col is not None:
            _write(col, col.merged(self._sums(strip, 0)))
        _write(row, self._sums(strip, 1))

    def _sums(self, strip: TorchStrip, dim: int) -> Sums:
        """Sums over the columns, or over the rows. Those over columns are made last: with one tilt they overwrite the scores."""
        s, terms, linear, count = strip.scores, self.terms, None, None
        if terms.linear:
            there = s != -torch.inf
            linear, count = torch.where(there, s, 0.0).sum(dim=dim), there.sum(dim=dim).to(s.dtype)
        if terms.op != "logsumexp":
            psi = PSIS[terms.op]
            totals = [psi.value(_tilted(s, tilt)).sum(dim=dim) for tilt in terms.tilts]
            return Sums(None, torch.stack(totals), linear, count)
        largest = s.amax(dim=dim)
        bases = [_finite(largest if tilt == 1 else tilt * largest) for tilt in terms.tilts]
        alone = dim == 1 and len(terms.tilts) == 1
        totals = [
            _powers(s, tilt, base.unsqueeze(dim), out=s if alone else strip.scratch).sum(dim=dim)
            for tilt, base in zip(terms.tilts, bases, strict=True)
        ]
        strip.base = bases[0] if alone else None
        return Sums(torch.stack(bases), torch.stack(totals), linear, count)

    def sides(self, row: Weights, col: Weights | None) -> Sides:
        return Sides(row, col)

    def weights(self, strip: TorchStrip, sides: Sides) -> Tensor:
        strip.scores = self._weights(strip, *sides)
        return strip.scores

    def add_grads(
        self, strip: TorchStrip, sides: Sides, needs: Needs, to: Gradients, of: Attended | None = None
    ) -> None:
        score = self.score
        p = self._weights(strip, *sides) if of is None else strip.scores.mul_(of.of_shares(out=strip.scratch))
        if needs.row_bias:
            to.row_bias[strip.rows] += p.sum(dim=1)
        if needs.col_bias:
            to.col_bias[strip.columns] += p.sum(dim=0)
        if strip.t is not None and score.phi.name != "identity":
            p *= score.phi.derivative(strip.t * score.scale)
        u = p.to(strip.dtype)
        if needs.scale and score.kind == "sqdist" and strip.t is not None:
            to.scale += torch.dot(u.reshape(-1), strip.t.reshape(-1))
        (self._pull_by_differences if self.filling.differences else self._pull)(strip, u, needs, to)

    def _pull_by_differences(self, strip: TorchStrip, u: Tensor, needs: Needs, to: Gradients) -> None:
        score, columns, factor = self.score, strip.columns, 2 * self.score.scale
        wanted, of_y = columns_wanted(score, needs, to)
        here = overlap(columns, wanted)
        if not needs.x and length(here) == 0:
            return
        toward_y, toward_x = pull(u, score.x[strip.rows], score.keys[columns])
        if needs.x:
            to.x[strip.rows] += toward_y * factor
        if length(here) > 0:
            of_y[within(here, wanted)] += toward_x[within(here, columns)] * factor

    def _pull(self, strip: TorchStrip, u: Tensor, needs: Needs, to: Gradients) -> None:
        """Add the gradients of embeddings by products of U, and for dot scores that of the scale, Σ_i ⟨x_i, (U Y)_i⟩."""
        score, dot = self.score, self.score.kind == "dot"
        factor, scale = score.scale if dot else 2 * score.scale, needs.scale and dot
        wanted, of_y = columns_wanted(score, needs, to)
        here = strip.columns if needs.x or scale else overlap(strip.columns, wanted)
        if length(here) == 0:
            return
        x = self._load(score.x, strip.rows, u.dtype)
        # For distances two terms that may be equal are subtracted first, and multiplied by the factor afterwards.
        left, uy = x * factor if dot else x, torch.zeros_like(x)
        for block in self._blocks(here, u.dtype):
            y, part = self._load(score.keys, block, u.dtype), u[:, within(block, strip.columns)]
            if needs.x or scale:
                uy.addmm_(part, y)
            at = overlap(block, wanted)
            if length(at) == 0:
                continue
            # A U in fp64 is rounded to the gradient's dtype after its large terms have cancelled.
            target, part = of_y[within(at, wanted)], part[:, within(at, block)]
            if dot and target.dtype == u.dtype:
                target.addmm_(part.T, left)
                continue
            ux = part.T @ left
            if not dot:
                # A separate product, rounded like that of the matrices, so that a pair of equal rows leaves 0.
                ux = (ux - y[within(at, block)] * part.sum(dim=0)[:, None]) * factor
            target += ux
        if scale:
            to.scale += (x * uy).sum(dtype=to.scale.dtype)
        if needs.x:
            to.x[strip.rows] += (uy if dot else uy - x * u.sum(dim=1)[:, None]).mul_(factor)

    def _weights(self, strip: TorchStrip, row: Weights, col: Weights | None) -> Tensor:
        """P, (B, C); overwrites the strip's buffers."""
        tilts, s = self.terms.tilts, strip.scores
        if row.reference is None:
            p = None
            for k, tilt in enumerate(tilts):
                factor = row.factor[k] if col is None else row.factor[k] + col.factor[k]
                q = PSIS[self.terms.op].slope(_tilted(s, tilt)).mul_(factor)
                p = q if p is None else p.add_(q)
            assert p is not None
            return p
        if strip.base is not None:
            # The sums' exponentials, with another reference if a log-sum-exp beside the pairs was merged into the sums.
            return s.mul_(row.factor[0] * (strip.base[:, None] - row.reference[0]).exp())
        sides = [side for side in (row, col) if side is not None]
        out = s == -torch.inf if any(side.spread is not None for side in sides) else None
        terms = [(side, k) for side in sides for k in range(len(tilts))]
        p = None
        for left, (side, k) in zip(range(len(terms) - 1, -1, -1), terms, strict=True):
            assert side.reference is not None
            # The last term overwrites the scores, the first takes the scratch, and further terms get new tensors.
            room = s if left == 0 else strip.scratch if p is None else torch.empty_like(s)
            q = _powers(s, tilts[k], side.reference[k], out=room)
            if k == 0 and side.spread is not None and side.mean is not None and out is not None:
                apart = torch.mul(q, side.spread).sub_(side.mean).masked_fill_(out, 0.0)
                q = apart.addcmul_(q, side.factor[0])
            else:
                q.mul_(side.factor[k])
            p = q if p is None else p.add_(q)
        assert p is not None
        return p

    def finish(self, strip: TorchStrip) -> Tensor:
        return strip.scores

    def _blocks(self, columns: slice, dtype: torch.dtype) -> Iterator[slice]:
        """Ranges of columns whose rows of Y are held at once: a single one if loading copies nothing."""
        copies = self._center is not None or self.score.x.dtype != dtype
        most = max(1, BLOCK // (self.score.D * dtype.itemsize)) if copies else columns.stop - columns.start
        for first in range(columns.start, columns.stop, most):
            yield slice(first, min(first + most, columns.stop))

    def _load(self, source: Tensor, rows: slice, dtype: torch.dtype) -> Tensor:
        """Rows of X or Y for products; centered for distances."""
        loaded = source[rows].to(dtype)
        return loaded if self._center is None else loaded - self._center.to(dtype)

    def _finished(self, strip: TorchStrip) -> TorchStrip:
        strip.scores = self.score.finish(strip.scores, strip.rows.start, strip.columns)
        return strip

    def _scaled_t(self, rows: slice, columns: slice, dtype: torch.dtype) -> TorchStrip:
        """A strip whose scores are still α t, with t computed in this dtype."""
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        scores, scratch = (
            None if buffer is None else buffer[: math.prod(shape)].view(shape)
            for buffer in (self._scores, self._scratch)
        )
        assert scores is not None
        if self._t is None or not (self._keep_t or dtype != self.score.dtype):
            # Rounded as in a sweep that keeps t: weights must come from the very scores that were summed, to the last bit.
            folded = self.score.kind == "dot" and self.score.phi.name == "identity"
            self._fill_t(scores, rows, columns, self.score.scale if folded else None)
            if not folded:
                scores.mul_(self.score.scale)
            return TorchStrip(rows, columns, dtype, scores, None, scratch)
        t = self._t.view(dtype)[: math.prod(shape)].view(shape)
        self._fill_t(t, rows, columns, None)
        torch.mul(t, self.score.scale, out=scores)  # rounded to the scores' dtype, once
        return TorchStrip(rows, columns, dtype, scores, t, scratch)

    def _fill_t(self, out: Tensor, rows: slice, columns: slice, scale: float | Tensor | None) -> None:
        """Write scale·t into a block, (B, C), whose dtype is that of the computation."""
        score = self.score
        if self.filling.differences:
            squared_distances(score.x[rows], score.keys[columns], out=out).neg_()
            if scale is not None:
                out.mul_(scale)
            return
        x = self._load(score.x, rows, out.dtype)
        left = x if score.kind == "dot" else torch.cat([2 * x, -_squares(x), -torch.ones_like(x[:, :1])], dim=1)
        if scale is not None:
            left = left * scale
        for block in self._blocks(columns, out.dtype):
            y = self._load(score.keys, block, out.dtype)
            right = y if score.kind == "dot" else torch.cat([y, torch.ones_like(y[:, :1]), _squares(y)], dim=1)
            torch.mm(left, right.T, out=out[:, block.start - columns.start : block.stop - columns.start])
        if score.kind == "sqdist" and not score.phi.lipschitz:
            out.clamp_(max=0.0)  # rounding may leave −‖x − y‖² slightly above 0, where √(−u) is NaN


def _write(to: Sums, found: Sums) -> None:
    for there, t in zip(to, found, strict=True):
        if there is not None and t is not None:
            there.copy_(t)


def _tilted(s: Tensor, tilt: float) -> Tensor:
    """The argument of ψ. Excluded pairs are −inf for any tilt, where every ψ is 0."""
    if tilt == 1:
        return s
    return s * tilt if tilt > 0 else (s * tilt).masked_fill_(s == -torch.inf, -torch.inf)


def _powers(s: Tensor, tilt: float, base: Tensor, out: Tensor | None) -> Tensor:
    """e^{tilt·s − base}, into `out`, which may be s itself."""
    t = torch.sub(s, base, out=out) if tilt == 1 else torch.mul(s, tilt, out=out).sub_(base)
    return torch.threshold_(t, SMALLEST_EXPONENT[t.dtype], -torch.inf).exp_()


def _finite(largest: Tensor) -> Tensor:
    # If every score of a row is −inf (or one is +inf), differences from its maximum would be NaN; from 0 they are right.
    return torch.where(largest.isinf(), 0.0, largest)


def _squares(x: Tensor) -> Tensor:
    return (x * x).sum(dim=1, keepdim=True)
