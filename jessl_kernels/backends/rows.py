"""The O(N·D) work on rows before and after the sweeps, in torch: `rows_in` and `rows_out` of the executor.

    x̂_i = x_i / max(‖x_i‖, 1e−12)        dx_i = (dx̂_i − x̂_i⟨x̂_i, dx̂_i⟩) / ‖x_i‖

and for the single positive k of a row, with the weight w_i = ∂loss/∂s_ik and u = α t:

    dot      dx_i += α w_i φ' y_k          dy_k += α w_i φ' x_i          dα += w_i φ' ⟨x_i, y_k⟩
    sqdist   dx_i += 2α w_i φ' (y_k − x_i) and so on                     dr_i += w_i    dc_k += w_i
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..problem.psi import PSIS
from ..problem.row_loss import RowProblem
from ..problem.types import Gradients, Needs, RowSums, Slopes, Sums
from .ordered_sums import sums_by_number

EPS = 1e-12  # the least norm that torch.nn.functional.normalize divides by


class Batch:
    """X or Y as the scores see it: in one piece, divided by norms if requested, in the given dtype."""

    def __init__(self, pieces: tuple[Tensor, ...], normalize: bool, dtype: torch.dtype):
        given = pieces[0].detach() if len(pieces) == 1 else torch.cat([piece.detach() for piece in pieces])
        self.rows, self._norm, self._unit = given, None, None
        if normalize:
            wide = given.to(dtype)
            self._norm = torch.linalg.vector_norm(wide, dim=1, keepdim=True)
            self._unit = wide / self._norm.clamp_min(EPS)
            self.rows = self._unit.to(given.dtype)

    def back(self, gradient: Tensor, columns: slice = slice(None)) -> Tensor:
        """The gradient of the given rows, from that of these rows."""
        if self._norm is None or self._unit is None:
            return gradient
        norm, unit = self._norm[columns], self._unit[columns]
        along = (unit * gradient).sum(dim=1, keepdim=True)
        return (gradient - unit * torch.where(norm > EPS, along, 0.0)) / norm.clamp_min(EPS)


class Rows:
    """The rows of a problem, before and after the sweeps.

    negatives  the scores of the pairs that are neither positive nor excluded
    several    the scores of the positives, if a row may have several
    """

    def __init__(self, problem: RowProblem):
        self.problem = problem
        self.x = self._batch(problem.x)
        self.y = self._batch(problem.y) if problem.y else None
        self.score = problem.score(self.x.rows, None if self.y is None else self.y.rows)
        self.negatives = problem.of_negatives_alone(self.score)
        self.several = problem.of_positives_alone(self.score) if problem.positives.several else None
        self.partner: Tensor | None = None  # (N,) the column of each row's positive; any column if it has none
        self._has: Tensor | None = None  # (N,) whether it has one
        if problem.positives.shift is not None or problem.positives.index is not None:
            self._score_partners()

    def _batch(self, pieces: tuple[Tensor, ...]) -> Batch:
        return Batch(pieces, self.problem.normalize, self.problem.dtype)

    @property
    def keys(self) -> Tensor:
        return self.score.keys

    def gradients(self, needs: Needs) -> Gradients:
        problem = self.problem
        like = self.score.x.new_empty(0, dtype=problem.dtype)
        self.needs = needs
        return Gradients.zeros(like, problem, needs)

    def _score_partners(self) -> None:
        problem, positives = self.problem, self.problem.positives
        N, M, device = problem.N, problem.M, self.score.x.device
        if positives.shift is not None:
            self.partner = (torch.arange(N, device=device) + positives.shift) % M
            self._has = torch.ones(N, dtype=torch.bool, device=device)
        else:
            assert positives.index is not None
            self.partner, self._has = positives.index.clamp_min(0), positives.index >= 0
        self._t, self._s = self._scores_of(self.partner)

    def _scores_of(self, partner: Tensor) -> tuple[Tensor, Tensor]:
        """t of each row and its partner, and their score."""
        problem = self.problem
        x, y = self.score.x.to(problem.dtype), self.keys.index_select(0, partner).to(problem.dtype)
        t = (x * y).sum(dim=1) if problem.kind == "dot" else -(y - x).square().sum(dim=1)
        s = problem.phi((t * problem.scale).to(problem.dtype))
        if problem.row_bias is not None:
            s = s + problem.row_bias
        if problem.col_bias is not None:
            s = s + problem.col_bias.index_select(0, partner)
        return t, s

    def single_sums(self) -> tuple[Sums | None, Sums | None]:
        """The sums over positives of rows, and of columns, that have at most one positive."""
        problem, positives = self.problem, self.problem.positives
        terms = problem.of_positives

        def sums(score: Tensor | None, has: Tensor | None) -> Sums | None:
            if score is None:
                return None
            count = torch.ones_like(score) if has is None else has.to(score.dtype)
            score = score if has is None else score.masked_fill(~has, 0.0)
            if terms.op != "logsumexp":
                return Sums(None, (PSIS[terms.op].value(terms.tilts[0] * score) * count)[None], score, count)
            return Sums(score[None], count[None], score, count)

        if self.partner is None:
            return sums(positives.score, None), sums(positives.col_score, None)
        # If columns have sums, each column is the partner of one row.
        of_columns = self._s.index_select(0, self.partner.argsort()) if problem.cols else None
        return sums(self._s, self._has), sums(of_columns, None)

    def with_also(self, sums: Sums, here: slice = slice(None)) -> Sums:
        """Sums of the rows `here` over negatives, merged with the log-sum-exps given beside the pairs."""
        also = self.problem.also
        if also is None:
            return sums
        also = also.detach()[here]
        empty = also == -torch.inf
        return sums.merged(Sums(also.masked_fill(empty, 0.0)[None], (~empty).to(also.dtype)[None]))

    def out(self, grads: Gradients, sums: RowSums, slopes: Slopes) -> Gradients:
        """The gradients of the given tensors, from those that the sweeps have added."""
        row, col, positives = slopes.row, slopes.col, self.problem.positives
        if positives.score is not None and row.P is not None:
            grads.score = self._at_scores(positives.score, row.P)
        if positives.col_score is not None and col is not None and col.P is not None:
            grads.col_score = self._at_scores(positives.col_score, col.P)
        if self.problem.also is not None:
            negatives = sums.row.negatives
            assert negatives.reference is not None
            share = (self.problem.also.detach() - negatives.reference[0]).exp() / negatives.total[0]
            grads.also = torch.where(negatives.total[0] == 0, 0.0, row.N[0] * share)
        pull = None
        if self.partner is not None and row.P is not None:
            weight = row.P if col is None or col.P is None else row.P + col.P.index_select(0, self.partner)
            pull = self._pull_of_partners(grads, weight)
        self._back(grads, pull)
        return grads

    def _at_scores(self, score: Tensor, weight: Tensor) -> Tensor:
        """The gradients of the scores of single positives, from those of their sums."""
        terms = self.problem.of_positives
        if terms.op == "logsumexp":
            return weight
        return weight * terms.tilts[0] * PSIS[terms.op].slope(terms.tilts[0] * score.detach())

    def _pull_of_partners(self, grads: Gradients, weight: Tensor) -> Tensor:
        """Add the gradients of biases and of the scale through the single positives. Returns (N,), those of their t times α, or
        2α for distances: a row's share of its partner."""
        assert self.partner is not None and self._has is not None
        problem = self.problem
        weight = torch.where(self._has, self._at_scores(self._s, weight), 0.0)
        if grads.row_bias.numel():
            grads.row_bias += weight
        if grads.col_bias.numel():
            grads.col_bias += sums_by_number(weight, self.partner, problem.M)
        if problem.phi.name != "identity":
            weight = weight * problem.phi.derivative((self._t * problem.scale).to(weight.dtype))
        if grads.scale.numel():
            grads.scale += (weight * self._t).sum()
        return ((1 if problem.kind == "dot" else 2) * weight * problem.scale).to(weight.dtype)

    def _back(self, grads: Gradients, pull: Tensor | None) -> None:
        """Add what partners pull, and take the gradients of the rows back to the given ones."""
        if pull is not None:
            if grads.x.numel():
                grads.x += pull[:, None] * self._partners(apart=self.problem.kind != "dot")
            self._pull_at_partners(grads, pull)
        if grads.x.numel():
            grads.x = self.x.back(grads.x)
        if grads.y.numel() and self.y is not None:
            grads.y = self.y.back(grads.y, self.needs.y)

    def _pull_at_partners(self, grads: Gradients, pull: Tensor) -> None:
        """Add what rows pull at their partners, of which several may be one."""
        assert self.partner is not None
        if not (grads.y.numel() or (self.y is None and grads.x.numel())):
            return
        problem = self.problem
        x = self.score.x.to(problem.dtype) if problem.kind == "dot" else -self._partners(apart=True)
        sums = sums_by_number(pull[:, None] * x, self.partner, problem.M)
        if self.y is None:  # the partners' gradient is X's too
            grads.x += sums
        else:
            grads.y += sums[self.needs.y]

    def _partners(self, *, apart: bool) -> Tensor:
        """(N, D) each row's partner; apart: minus the row."""
        assert self.partner is not None
        y = self.keys.index_select(0, self.partner).to(self.problem.dtype)
        return y - self.score.x.to(self.problem.dtype) if apart else y
