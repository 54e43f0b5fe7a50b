"""What backends are handed beside a problem, and what they hand back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .score import OfEmbeddings


class Terms(NamedTuple):
    """What a sweep over the pairs of a score adds up along rows, and along columns.

    op      "logsumexp": Σ_j e^{tilt·s_ij}; else the name of a ψ: Σ_j ψ(tilt·s_ij)
    tilts   one sum for each; above 0 for a log-sum-exp
    linear  also Σ_j s_ij, and the number of pairs; of one tilt, 1
    """

    op: str = "logsumexp"
    tilts: tuple[float, ...] = (1.0,)
    linear: bool = False


class Sums(NamedTuple):
    """What rows, or columns, were summed to. Two of the same rows over other pairs can be merged.

    reference  (tilts, n) finite numbers that exponents were measured from: Σ_j e^{tilt·s_ij} = total · e^reference; None for a ψ
    total      (tilts, n)
    linear     (n,) Σ_j s_ij, or None
    count      (n,) how many pairs, in the dtype of the sums, or None
    """

    reference: Tensor | None
    total: Tensor
    linear: Tensor | None = None
    count: Tensor | None = None

    @staticmethod
    def empty(like: Tensor, terms: Terms, *n: int) -> Sums:
        """To be written to, of this dtype and device; parts of sums have a dimension more, before n."""
        total = like.new_empty(len(terms.tilts), *n)
        linear, count = (like.new_empty(n) if terms.linear else None for _ in range(2))
        return Sums(torch.empty_like(total) if terms.op == "logsumexp" else None, total, linear, count)

    def values(self) -> Tensor:
        """(tilts, n) log-sum-exps, −inf where there is no pair; or sums of ψ."""
        return self.total if self.reference is None else self.total.log() + self.reference

    def part(self, here: slice) -> Sums:
        """Those of some rows."""
        return Sums(*(None if t is None else t[..., here] for t in self))  # pyright: ignore[reportArgumentType]

    def merged(self, other: Sums) -> Sums:
        """The sums over both, which are over pairs of the same rows."""

        def plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
            return None if a is None or b is None else a + b

        linear, count = plus(self.linear, other.linear), plus(self.count, other.count)
        if self.reference is None or other.reference is None:
            return Sums(None, self.total + other.total, linear, count)
        # Where there is no pair the reference means nothing, and must not be the larger one.
        mine, theirs = (s.reference.masked_fill(s.total == 0, -torch.inf) for s in (self, other))  # pyright: ignore[reportOptionalMemberAccess]
        reference = torch.maximum(mine, theirs)
        reference = torch.where(reference.isinf(), 0.0, reference)

        def moved(total: Tensor, level: Tensor) -> Tensor:
            # One that is infinite stays so, however far below the other's its reference is.
            return torch.where(total.isinf(), total, total * (level - reference).exp())

        return Sums(reference, moved(self.total, mine) + moved(other.total, theirs), linear, count)


class SideSums(NamedTuple):
    """The sums of a loss's rows, or of its columns: over their negatives, and over their positives unless there are none.

    Where a row has one positive at most, its sum is e^0 times e^{its score}.
    """

    negatives: Sums
    positives: Sums | None = None

    def merged(self, other: SideSums) -> SideSums:
        """The sums over the pairs of both."""
        if self.positives is None or other.positives is None:
            return SideSums(self.negatives.merged(other.negatives), self.positives or other.positives)
        return SideSums(self.negatives.merged(other.negatives), self.positives.merged(other.positives))


class RowSums(NamedTuple):
    """What a problem is summed to: its rows, and its columns where these are wanted."""

    row: SideSums
    col: SideSums | None = None


class SideSlopes(NamedTuple):
    """What arrives at the sums of rows, or of columns, from above.

    N                (tilts, n) at each log-sum-exp, or sum of ψ, of the negatives
    P, spread        (n,) at that of the positives, and at P − mean_p s_ip; None for 0
    negative_spread  (n,) at N − mean_j s_ij of the negatives; None for 0
    """

    N: Tensor
    P: Tensor | None = None
    spread: Tensor | None = None
    negative_spread: Tensor | None = None


class Slopes(NamedTuple):
    """Of rows, and of columns where these have sums."""

    row: SideSlopes
    col: SideSlopes | None = None


class Weights(NamedTuple):
    """What the slopes of one side come to, for the pairs of a sweep with these `Terms`:

    P_ij = Σ_k factor_ki e^{tilt_k s_ij − reference_ki} + [the pair is in] (spread_i e^{s_ij − reference_0i} − mean_i)

    or Σ_k factor_ki ψ'(tilt_k s_ij). Made in fp32 at least, and rounded once.

    reference     (tilts, n), or None for a ψ
    factor        (tilts, n), the tilt multiplied in
    spread, mean  (n,), or None for 0
    """

    reference: Tensor | None
    factor: Tensor
    spread: Tensor | None = None
    mean: Tensor | None = None

    @staticmethod
    def of(sums: Sums, tilts: tuple[float, ...], slope: Tensor, spread: Tensor | None = None) -> Weights:
        """From slopes (tilts, n) at the sums, and (n,) at how far the first lies above the mean of its scores."""
        steepness = slope
        if tilts != (1.0,):
            steepness = torch.stack([tilt * of_tilt for tilt, of_tilt in zip(tilts, slope.unbind(0), strict=True)])
        if sums.reference is None:
            return Weights(None, steepness)
        empty = sums.total == 0
        factor = (steepness / sums.total).masked_fill(empty, 0.0)
        if spread is None:
            return Weights(sums.reference, factor)
        assert sums.count is not None
        several = sums.count > 1  # one score is its own mean, also in the last digit
        of_spread = torch.where(several, spread / sums.total[0], 0.0)
        return Weights(sums.reference, factor, of_spread, torch.where(several, spread / sums.count, 0.0))


class Needs(NamedTuple):
    """Which gradients somebody will use.

    x       of X; where Y is X, of both
    y       columns whose gradient is wanted, from the first to the last; an empty slice where none is, or Y is X
    given   of positives' scores that were given, or of a log-sum-exp beside the pairs
    """

    x: bool
    y: slice
    scale: bool
    row_bias: bool
    col_bias: bool
    given: bool = False

    @property
    def any(self) -> bool:
        return self.of_pairs or self.given

    @property
    def of_pairs(self) -> bool:
        """Whether there is one that a sweep over the pairs makes."""
        return self.x or self.y.stop > self.y.start or self.scale or self.row_bias or self.col_bias


NOTHING = Needs(False, slice(0, 0), False, False, False)


@dataclass
class Gradients:
    """Gradients of one problem, in its accumulation dtype; an empty tensor where nobody asked.

    x                   (N, D); where Y is X it holds both halves
    y                   (columns wanted, D): those of `Needs.y`
    scale               0-d, fp64
    row_bias, col_bias  (N,), (M,)
    score, col_score    (N,), (M,) of positives' scores that were given
    also                (N,) of a log-sum-exp that negatives are joined by
    """

    x: Tensor
    y: Tensor
    scale: Tensor
    row_bias: Tensor
    col_bias: Tensor
    score: Tensor
    col_score: Tensor
    also: Tensor

    @staticmethod
    def empty(like: Tensor, problem: OfEmbeddings, needs: Needs) -> Gradients:
        """To be written to; of a dtype and device like this."""
        N, M, D = problem.N, problem.M, problem.D

        def new(wanted: bool, *shape: int, dtype: torch.dtype = like.dtype) -> Tensor:
            return like.new_empty(shape if wanted else 0, dtype=dtype)

        columns = needs.y.stop - needs.y.start
        return Gradients(
            x=new(needs.x, N, D),
            y=new(columns > 0, columns, D),
            scale=new(needs.scale, dtype=problem.scale_dtype),
            row_bias=new(needs.row_bias, N),
            col_bias=new(needs.col_bias, M),
            score=new(False),
            col_score=new(False),
            also=new(False),
        )

    @staticmethod
    def zeros(like: Tensor, problem: OfEmbeddings, needs: Needs) -> Gradients:
        """To be added to."""
        made = Gradients.empty(like, problem, needs)
        for gradient in (made.x, made.y, made.scale, made.row_bias, made.col_bias):
            gradient.zero_()
        return made


@dataclass(frozen=True)
class Plan:
    """How a backend would compute a problem.

    path       its own words for the route taken, and why that route
    gemms      matrix products of 2·N·M·D flops spent on value and gradient
    workspace  bytes beyond inputs, outputs and a few vectors
    skipping   what it would make of skip_below
    """

    path: str
    gemms: float
    workspace: int
    skipping: str = "this backend computes every pair"
