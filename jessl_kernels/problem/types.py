"""The arguments of backends beside a problem, and their results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .score import OfEmbeddings


class Terms(NamedTuple):
    """The terms that a sweep over the pairs of a score sums along rows, and along columns.

    op      "logsumexp": Σ_j e^{tilt·s_ij}; else the name of a ψ: Σ_j ψ(tilt·s_ij)
    tilts   one sum for each; above 0 for a log-sum-exp
    linear  also Σ_j s_ij, and the number of pairs; needs one tilt, 1
    """

    op: str = "logsumexp"
    tilts: tuple[float, ...] = (1.0,)
    linear: bool = False


class Sums(NamedTuple):
    """The sums of rows, or of columns. Sums of the same rows over different pairs can be merged.

    reference  (tilts, n) finite references of the exponents: Σ_j e^{tilt·s_ij} = total · e^reference; None for a ψ
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
        """New sums to write to, of this dtype and device; parts of sums have one dimension more, before n."""
        total = like.new_empty(len(terms.tilts), *n)
        linear, count = (like.new_empty(n) if terms.linear else None for _ in range(2))
        return Sums(torch.empty_like(total) if terms.op == "logsumexp" else None, total, linear, count)

    def values(self) -> Tensor:
        """(tilts, n) log-sum-exps, −inf for a row without pairs; or sums of ψ."""
        return self.total if self.reference is None else self.total.log() + self.reference

    def part(self, here: slice) -> Sums:
        """The sums of some rows."""
        return Sums(*(None if t is None else t[..., here] for t in self))  # pyright: ignore[reportArgumentType]

    def merged(self, other: Sums) -> Sums:
        """The sums over the pairs of both, which have the same rows."""

        def plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
            return None if a is None or b is None else a + b

        linear, count = plus(self.linear, other.linear), plus(self.count, other.count)
        if self.reference is None or other.reference is None:
            return Sums(None, self.total + other.total, linear, count)
        # The reference of a row without pairs is meaningless, and must not be the larger one.
        mine, theirs = (s.reference.masked_fill(s.total == 0, -torch.inf) for s in (self, other))  # pyright: ignore[reportOptionalMemberAccess]
        reference = torch.maximum(mine, theirs)
        reference = torch.where(reference.isinf(), 0.0, reference)

        def moved(total: Tensor, level: Tensor) -> Tensor:
            # An infinite total stays infinite, however far below the other's its reference is.
            return torch.where(total.isinf(), total, total * (level - reference).exp())

        return Sums(reference, moved(self.total, mine) + moved(other.total, theirs), linear, count)


class SideSums(NamedTuple):
    """The sums of a loss's rows, or of its columns: over their negatives, and over their positives if there are any.

    If rows have at most one positive, the sum over it is e^0 times e^{its score}.
    """

    negatives: Sums
    positives: Sums | None = None

    def merged(self, other: SideSums) -> SideSums:
        """The sums over the pairs of both."""
        if self.positives is None or other.positives is None:
            return SideSums(self.negatives.merged(other.negatives), self.positives or other.positives)
        return SideSums(self.negatives.merged(other.negatives), self.positives.merged(other.positives))


class RowSums(NamedTuple):
    """The sums of a problem's rows, and of its columns if requested."""

    row: SideSums
    col: SideSums | None = None


class SideSlopes(NamedTuple):
    """The upstream gradients of the sums of rows, or of columns.

    N                (tilts, n) of each log-sum-exp, or sum of ψ, over the negatives
    P, spread        (n,) of the sum over the positives, and of P − mean_p s_ip; None for 0
    negative_spread  (n,) of N − mean_j s_ij over the negatives; None for 0
    """

    N: Tensor
    P: Tensor | None = None
    spread: Tensor | None = None
    negative_spread: Tensor | None = None


class Slopes(NamedTuple):
    """The slopes of rows, and of columns if these have sums."""

    row: SideSlopes
    col: SideSlopes | None = None


class Weights(NamedTuple):
    """The weights that the slopes of one side give to the pairs of a sweep with these `Terms`:

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
        """Weights from the slopes (tilts, n) of the sums, and (n,) of the first sum's spread above the mean of its scores."""
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
        several = sums.count > 1  # a single score is its own mean to the last digit
        of_spread = torch.where(several, spread / sums.total[0], 0.0)
        return Weights(sums.reference, factor, of_spread, torch.where(several, spread / sums.count, 0.0))

    @staticmethod
    def of_softmax(sums: Sums) -> Weights:
        """The weights that are the shares p_ij of a row's sum."""
        return Weights.of(sums, (1.0,), torch.ones_like(sums.total))


class Attended(NamedTuple):
    """The arguments of the gradients of o_i = Σ_j p_ij v_j: ∂/∂s_ij = p_ij (⟨g_i, v_j⟩ − inner_i).

    upstream  (N, V) g, the upstream gradient of o
    values    (M, V) v
    inner     (N,) ⟨g_i, o_i⟩
    """

    upstream: Tensor
    values: Tensor
    inner: Tensor

    def part(self, rows: slice, columns: slice) -> Attended:
        """Those of some rows and columns."""
        return Attended(self.upstream[rows], self.values[columns], self.inner[rows])

    def of_shares(self, out: Tensor | None = None) -> Tensor:
        """(N, M) ⟨g_i, v_j⟩ − inner_i."""
        return torch.mm(self.upstream, self.values.T, out=out).sub_(self.inner[:, None])


class Needs(NamedTuple):
    """The gradients that are requested.

    x       of X; of both if Y is X
    y       the columns whose gradient is requested, from the first to the last; an empty slice if there are none, or if Y is X
    given   of given scores of positives, or of a log-sum-exp beside the pairs
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
        """Whether a sweep over the pairs makes any of them."""
        return self.x or self.y.stop > self.y.start or self.scale or self.row_bias or self.col_bias


NOTHING = Needs(False, slice(0, 0), False, False, False)


@dataclass
class Gradients:
    """Gradients of one problem, in its accumulation dtype; an empty tensor for each that is not requested.

    x                   (N, D); it holds both halves if Y is X
    y                   (columns of `Needs.y`, D)
    scale               0-d, fp64
    row_bias, col_bias  (N,), (M,)
    score, col_score    (N,), (M,) of given scores of positives
    also                (N,) of a log-sum-exp that was added to the negatives
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
        """New gradients to write to, of the dtype and device of `like`."""
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
        """New gradients to add to."""
        made = Gradients.empty(like, problem, needs)
        for gradient in (made.x, made.y, made.scale, made.row_bias, made.col_bias):
            gradient.zero_()
        return made


@dataclass(frozen=True)
class Plan:
    """How a backend would compute a problem.

    path       the route in the backend's words, and the reason for it
    gemms      matrix products of 2·N·M·D flops spent on value and gradient
    workspace  bytes beyond inputs, outputs and a few vectors
    skipping   the effect of skip_below
    """

    path: str
    gemms: float
    workspace: int
    skipping: str = "this backend computes every pair"
