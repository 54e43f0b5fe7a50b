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
        self.x = Batch(problem.x, problem.normalize, problem.dtype)
        self.y = Batch(problem.y, problem.normalize, problem.dtype) if problem.y else None
        self.score = problem.score(self.x.rows, None if self.y is None else self.y.rows)
        self.negatives = problem.of_negatives_alone(self.score)
        self.several = problem.of_positives_alone(self.score) if problem.positives.several else None
        self.partner: Tensor | None = None  # (N,) the column of each row's positive; any column if it has none
        self._has: Tensor | None = None  # (N,) whether it has one
        if problem.positives.shift is not None or problem.positives.index is not None:
            self._score_partners()

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
        x, y = self.score.x.to(problem.dtype), self.keys.index_select(0, self.partner).to(problem.dtype)
        self._apart = y - x
        self._t = (x * y).sum(dim=1) if problem.kind == "dot" else -self._apart.square().sum(dim=1)
        self._s = problem.phi((self._t * problem.scale).to(problem.dtype))
        if problem.row_bias is not None:
            self._s = self._s + problem.row_bias
        if problem.col_bias is not None:
            self._s = self._s + problem.col_bias.index_select(0, self.partner)

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
        if self.partner is not None and row.P is not None:
            weight = row.P if col is None or col.P is None else row.P + col.P.index_select(0, self.partner)
            self._add_partners(grads, weight)
        if grads.x.numel():
            grads.x = self.x.back(grads.x)
        if grads.y.numel() and self.y is not None:
            grads.y = self.y.back(grads.y, self.needs.y)
        return grads

    def _at_scores(self, score: Tensor, weight: Tensor) -> Tensor:
        """The gradients of the scores of single positives, from those of their sums."""
        terms = self.problem.of_positives
        if terms.op == "logsumexp":
            return weight
        return weight * terms.tilts[0] * PSIS[terms.op].slope(terms.tilts[0] * score.detach())

    def _add_partners(self, grads: Gradients, weight: Tensor) -> None:
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
        x = self.score.x.to(problem.dtype)
        if problem.kind == "dot":
            factor = (weight * problem.scale).to(weight.dtype)[:, None]
            of_x, of_y = factor * (self._apart + x), factor * x
        else:
            of_x = (2 * weight * problem.scale).to(weight.dtype)[:, None] * self._apart
            of_y = -of_x
        if grads.x.numel():
            grads.x += of_x
        if self.y is None and grads.x.numel():  # the partners' gradient is X's too
            grads.x += sums_by_number(of_y, self.partner, problem.M)
        elif grads.y.numel():
            grads.y += sums_by_number(of_y, self.partner, problem.M)[self.needs.y]
