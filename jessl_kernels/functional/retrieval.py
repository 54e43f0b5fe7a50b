"""Retrieval metrics without the matrix: ranks by counting the scores above a row's threshold, so that nothing is sorted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._checks import choice, embeddings, fail, flag, integer, same_shape, wrong_type
from ..literals import TIES, Ties
from ..pairwise import pairwise_sum, pairwise_topk
from ..problem.exclude import DIAGONAL, Exclude, IdPair, ids_of
from .rows import prepare, rowwise_dot


@torch.no_grad()
def retrieval_metrics(
    x: Tensor,
    y: Tensor,
    k: int | Sequence[int] = (1, 5),
    *,
    ids: IdPair | None = None,
    ties: Ties = "worst",
    average_precision: bool = False,
) -> dict[str, Tensor]:
    """What evaluation scripts read off the N×M matrix ⟨x_i, y_j⟩, in O((N + M)·D) memory; no gradient.

    x, y   (N, D) and (M, D) float tensors; normalise them first for cosines
    k      ranks to report, ints ≥ 1
    ids    (N,) and (M,) integers: rows of equal ids are partners. A row may have several (five captions an image), or none, if
           its id is negative or occurs on one side only. None: row i of both are partners, and N = M
    ties   a negative that scores like the partner, up to rounding, counts as above it for "worst", so that collapsed
           embeddings, whose scores are all equal, have recall 0 and not 1; as half above it for "mean"; as below it for "best"
    average_precision   mean average precision too, in further sweeps, as many as the most partners of a row; that number is
                        read from the device, so this is not for a trace

    A row's rank is 1 + the number of negatives that score above its best partner. Rows without a partner do not count; if no
    row has a partner, the metrics are NaN. Returns 0-d tensors by name:

        x_to_y/recall@k, y_to_x/recall@k   share of rows whose rank is at most k
        …/mean_rank, …/median_rank         of these ranks; of an even number of rows the lower median
        …/map                              mean over rows of mean_p (partners that score at least as p does) / (rank of p)
        mean_positive                      mean_i of the score of x_i's best partner
        hardest_negative                   mean_i max_j ⟨x_i, y_j⟩ over those that are no partners; −inf if a row has none

    Raises ValueError or TypeError naming the argument at fault.

    >>> jk.retrieval_metrics(torch.eye(3), torch.eye(3), k=1)["x_to_y/recall@1"]
    tensor(1.)
    """
    function = "retrieval_metrics"
    embeddings(function, "x", x)
    embeddings(function, "y", y, like=("x", x))
    choice(function, "ties", ties, TIES)
    flag(function, "average_precision", average_precision)
    ranks = _ranks(function, k)
    if ids is None:
        same_shape(function, "y", y, ("x", x), "row i of both are partners")
    else:
        ids = _ids(function, ids, x, y)
    x, y = prepare(x, y, normalize=False)
    to_y, to_x = Queries(x, y, ids), Queries(y, x, None if ids is None else (ids[1], ids[0]))
    metrics = {}
    for name, queries in (("x_to_y", to_y), ("y_to_x", to_x)):
        rank = queries.rank(queries.best, ties)
        for r in ranks:
            metrics[f"{name}/recall@{r}"] = queries.mean((rank <= r).to(rank.dtype))
        metrics[f"{name}/mean_rank"] = queries.mean(rank)
        metrics[f"{name}/median_rank"] = rank.where(queries.has, torch.nan).nanmedian()
        if average_precision:
            metrics[f"{name}/map"] = queries.mean(queries.average_precision(ties))
    hardest, _ = pairwise_topk(x, y, k=1, exclude=to_y.partners)
    return metrics | {"mean_positive": to_y.mean(to_y.best), "hardest_negative": hardest.mean()}


class Queries:
    """The rows of one side, each looking for its partners on the other.

    ids       of both sides: rows of equal ids are partners
    partner   without ids: (N,) the key that is the partner of each row; None: row i of both are partners

    partners  the pairs that are no negatives
    best      (N,) the score of the best partner; 0 without one
    has       (N,) whether there is one
    """

    def __init__(self, x: Tensor, keys: Tensor, ids: IdPair | None = None, partner: Tensor | None = None):
        self.x, self.keys, self.ids = x, keys, ids
        self.partners = DIAGONAL if ids is None else Exclude(same=ids)
        if partner is not None:
            self.partners = Exclude(same=(partner, torch.arange(len(keys), device=keys.device)))
        if ids is None:
            self.best = rowwise_dot(x, keys if partner is None else keys[partner])
            self.has = torch.ones_like(self.best, dtype=torch.bool)
        else:
            best, place = pairwise_topk(x, keys, k=1, exclude=Exclude(different=ids))
            self.has = place.squeeze(1) >= 0
            self.best = best.squeeze(1).masked_fill(~self.has, 0.0)
        norm, of_keys = (torch.linalg.vector_norm(z, dim=1, dtype=self.best.dtype) for z in (x, keys))
        # Scores that should be equal may be sums in different orders; those of a row of zeros are equal to the last bit.
        limits = torch.finfo(self.best.dtype)
        self.rounding = (16 * limits.eps * norm * of_keys.amax()).clamp_min(limits.tiny)

    def mean(self, of_rows: Tensor) -> Tensor:
        """The mean over the rows that have a partner."""
        return of_rows.where(self.has, 0.0).sum() / self.has.sum()

    def rank(self, score: Tensor, ties: str) -> Tensor:
        """1 + the number of negatives above a score of each row."""
        levels = {"worst": (-1,), "mean": (-1, 1), "best": (1,)}[ties]
        counts = [self._above(score + level * self.rounding) for level in levels]
        return 1 + (counts[0] if len(counts) == 1 else 0.5 * (counts[0] + counts[1]))

    def _above(self, threshold: Tensor) -> Tensor:
        return pairwise_sum(self.x, self.keys, psi="step", row_bias=-threshold, exclude=self.partners)

    def average_precision(self, ties: str) -> Tensor:
        """(N,) the mean over a row's partners of (place among the partners) / (rank among all)."""
        scores = self._scores_of_partners()
        total = torch.zeros_like(self.best)
        for p, score in enumerate(scores):
            there = score > -torch.inf
            # Among partners with equal scores the earlier one ranks higher.
            place = sum((other >= score if q <= p else other > score).to(total.dtype) for q, other in enumerate(scores))
            rank = self.rank(score.masked_fill(~there, 0.0), ties) - 1 + place
            total += torch.where(there, place / rank, 0.0)
        count = sum((score > -torch.inf).to(total.dtype) for score in scores)
        return total / count  # pyright: ignore[reportOperatorIssue]

    def _scores_of_partners(self) -> list[Tensor]:
        """(N,) scores, as many as the most partners of a row; −inf for rows with fewer."""
        if self.ids is None:
            return [self.best]
        own, others = self.ids
        sorted_ids, order = others.sort(stable=True)
        first, last = (torch.searchsorted(sorted_ids, own, right=right) for right in (False, True))
        count = (last - first).masked_fill(own < 0, 0)
        found = []
        for p in range(max(int(count.max()), 1)):
            place = order[(first + p).clamp_max(len(order) - 1)]
            found.append(rowwise_dot(self.x, self.keys[place]).masked_fill(p >= count, -torch.inf))
        return found


def _ranks(function: str, k: Any) -> tuple[int, ...]:
    ranks = tuple(k) if isinstance(k, Sequence) else (k,)
    for rank in ranks:
        if integer(function, "k", rank, "must be an int or a sequence of ints") < 1:
            fail(function, "k", rank, "must be >= 1")
    if not ranks:
        fail(function, "k", k, "must name at least one rank")
    return tuple(int(rank) for rank in ranks)


def _ids(function: str, ids: Any, x: Tensor, y: Tensor) -> IdPair:
    if not isinstance(ids, (tuple, list)) or len(ids) != 2:
        wrong_type(function, "ids", ids, "must be two tensors of integers, of the rows of x and of y")
    own, others = (ids_of(function, "ids", side) for side in ids)
    for side, z, name in ((own, x, "x"), (others, y, "y")):
        if len(side) != len(z):
            fail(function, "ids", f"{len(side)} ids of {name}", f"must be {len(z)}, one per row")
        if side.device != z.device:
            fail(function, "ids", f"on {side.device}", f"must be on {z.device} like {name}")
    return own, others
