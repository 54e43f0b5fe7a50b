"""A loss of rows: scores, the positives among them, sums over negatives and over positives, and the loss made from these sums.

Two sweeps over the pairs serve every such loss: one for the sums, one for their gradients. A join is evaluated between them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from .exclude import Exclude
from .phi import Phi
from .score import OfEmbeddings, Score
from .types import Sums, Terms


class Positives(NamedTuple):
    """Which pairs are positives, in at most one of these ways; they are left out of the negatives.

    shift             row i's positive is column (i + shift) mod M; N ≤ M, and N = M where columns have sums
    index             (N,) int64: row i's positive is column index_i, −1 for none; not where columns have sums
    row_ids, col_ids  (N,), (M,) int64: a pair is a positive if its ids are equal and not negative, and `exclude` leaves it in
    score, col_score  (N,), and (M,) where columns have sums: the scores themselves, of positives that are not among the pairs
    """

    shift: int | None = None
    index: Tensor | None = None
    row_ids: Tensor | None = None
    col_ids: Tensor | None = None
    score: Tensor | None = None
    col_score: Tensor | None = None

    @property
    def there(self) -> bool:
        return any(part is not None for part in self)

    @property
    def several(self) -> bool:
        """Whether a row may have several positives, which then take a sweep of their own."""
        return self.row_ids is not None


NO_POSITIVES = Positives()
SUM_OF_EXPONENTIALS = Terms()


@dataclass(frozen=True, eq=False)
class RowProblem(OfEmbeddings):
    """The sums of one loss, not yet computed.

    x             pieces of X: (N_k, D) tensors that follow each other, of one dtype
    y             pieces of Y; () where Y is X
    scale         α, a number or a 0-d tensor
    row_bias, col_bias, exclude, kind, phi, skip_below   as in `Score`; `exclude` need not name the positives
    positives     which pairs are positives
    negatives     the terms summed over the pairs that are neither positive nor excluded
    of_positives  the terms summed over the positives: e^s, or a ψ of s, or of −s with the tilt −1
    normalize     rows of X and Y are divided by their norms first; for dot scores
    cols          columns have sums too
    also          (N,), or None: a further log-sum-exp that is added to each row's negatives, for one tilt
    """

    x: tuple[Tensor, ...]
    y: tuple[Tensor, ...]
    scale: float | Tensor
    row_bias: Tensor | None
    col_bias: Tensor | None
    exclude: Exclude
    kind: str
    phi: Phi
    skip_below: float = 0.0
    positives: Positives = NO_POSITIVES
    negatives: Terms = SUM_OF_EXPONENTIALS
    of_positives: Terms = SUM_OF_EXPONENTIALS
    normalize: bool = False
    cols: bool = False
    also: Tensor | None = None

    @property
    def first(self) -> Tensor:
        return self.x[0]

    @property
    def keys(self) -> tuple[Tensor, ...]:
        """Pieces of Y, which are those of X in a problem of X with itself."""
        return self.y or self.x

    @property
    def N(self) -> int:
        return sum(piece.shape[0] for piece in self.x)

    @property
    def M(self) -> int:
        return sum(piece.shape[0] for piece in self.keys)

    def transposed(self) -> RowProblem:
        """The problem whose rows are the columns of this one. A row's `also`, and an index of positives, have no counterpart."""
        p = self.positives
        assert self.also is None and p.index is None
        shift = None if p.shift is None else (-p.shift) % self.N
        return replace(
            self,
            x=self.keys,
            y=self.x if self.y else (),
            row_bias=self.col_bias,
            col_bias=self.row_bias,
            exclude=self.exclude.transposed(),
            positives=Positives(shift, None, p.col_ids, p.row_ids, p.col_score, p.score),
        )

    def score(self, x: Tensor, y: Tensor | None) -> Score:
        """The scores of these embeddings, of which only `exclude` leaves pairs out."""
        return Score(x, y, self.scale, self.row_bias, self.col_bias, self.exclude, self.kind, self.phi, self.skip_below)

    def of_negatives_alone(self, score: Score) -> Score:
        """The same scores without the positives."""
        exclude, positives = self.exclude, self.positives
        if positives.shift is not None:
            diagonals = (positives.shift, positives.shift - self.M)
            kept = tuple(k for k in exclude.keep if k not in diagonals)
            return replace(score, exclude=replace(exclude, diagonals=(*exclude.diagonals, *diagonals), keep=kept))
        if positives.index is not None:
            return replace(score, without=(positives.index, torch.arange(self.M, device=score.x.device)))
        if positives.row_ids is not None and positives.col_ids is not None:
            return replace(score, without=(positives.row_ids, positives.col_ids))
        return score

    def of_positives_alone(self, score: Score) -> Score:
        """The scores of the positives alone, if rows may have several."""
        assert self.positives.row_ids is not None and self.positives.col_ids is not None
        return replace(score, within=(self.positives.row_ids, self.positives.col_ids))


class Loss(NamedTuple):
    """The loss that is made from the sums.

    join       a name in `JOINS`
    reduction  "sum", "mean" (over rows; for columns over columns), or "mean_counted" (over rows that have a positive)
    factor     multiplies the result
    weights, col_weights   (N,), (M,) constants, or None for 1
    """

    join: str
    reduction: str = "mean"
    factor: float = 1.0
    weights: Tensor | None = None
    col_weights: Tensor | None = None

    def of_rows(self, n: int, positives: Sums | None, like: Tensor, *, cols: bool = False) -> Tensor:
        """(n,) the factor of each row's, or column's, loss in the result; of the dtype and device of `like`."""
        weights = self.col_weights if cols else self.weights
        weight = like.new_full((n,), self.factor) if weights is None else weights * self.factor
        if self.reduction == "mean":
            return weight / n
        if self.reduction == "mean_counted" and positives is not None and positives.count is not None:
            return weight / (positives.count > 0).sum().clamp_min(1)
        return weight
