"""Ids instead of a diagonal: rows that are one item are positives of each other, or at least not negatives."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._checks import choice, readable
from ..literals import SAME_ID
from ..pairwise.positives import terms_of_positives
from ..pairwise.row_loss import loss_of, problem_of
from ..problem.exclude import NOTHING, Exclude, ids_like
from ..problem.row_loss import Positives
from ..problem.types import Terms
from .rows import averaged

OWN_INDEX = Positives(shift=0)  # row i's partner is column i
OWN = 1 << 62  # ids from here on are given to rows without an id


class Partners(NamedTuple):
    """Which columns are positives, which are excluded, and the join and the sum over positives that go with them."""

    positives: Positives = OWN_INDEX
    exclude: Exclude = NOTHING
    join: str = "softplus"
    of_positives: Terms = Terms()


PARTNERS = Partners()
# The values of `same_id` for positives, and their joins: a cross entropy with targets shared evenly among rows of one id, or a
# cross entropy of finding any of them.
JOINS = {"mean": "softplus_spread", "sum": "softplus"}


def partners_of(
    function: str,
    ids: Tensor | None,
    same_id: str,
    like: tuple[str, Tensor],
    others: Tensor | None = None,
    further: int = 0,
) -> Partners:
    """Partners of a cross entropy; a row without an id has only its own key.

    ids      (N,), unchecked, or None
    like     the rows, and their name
    others   (M,) checked ids of further columns, or None for as many as `further` without one
    """
    choice(function, "same_id", same_id, SAME_ID)
    if ids is None:
        return PARTNERS
    ids = ids_like(function, "ids", ids, like[1].shape[0], like, f", one per row of {like[0]}")
    if _all_different(ids, others):
        return PARTNERS
    if others is None and further:
        others = ids.new_full((further,), -1)
    if same_id != "ignore":
        ids = torch.where(ids < 0, OWN + torch.arange(ids.shape[0], device=ids.device), ids)
    cols = ids if others is None else torch.cat([ids, others])
    if same_id == "ignore":
        return Partners(exclude=Exclude(same=(ids, cols)))
    positives = Positives(row_ids=ids, col_ids=cols)
    return Partners(positives, NOTHING, JOINS[same_id], terms_of_positives("logsumexp"))


def _all_different(ids: Tensor, others: Tensor | None) -> bool:
    """Whether ids are known to say no more than the diagonal, which costs less."""
    if not readable(ids):
        return False
    known = [i for i in ids.tolist() if i >= 0]  # for a small batch faster than torch's sorts, by a tenth of a loss
    different = set(known)
    return len(different) == len(known) and (others is None or different.isdisjoint(others.tolist()))


def found(
    function: str,
    x: Tensor,
    keys: tuple[Tensor, ...],
    scale: float | Tensor,
    partners: Partners,
    normalize: bool,
    reduction: str,
    *,
    both: bool = False,
    also: Tensor | None = None,
) -> Tensor:
    """The cross entropy of finding each row's partners among keys, and among given scores or sums beside them.

    both   average it with the cross entropy of finding each key's partners among the rows
    """
    problem = problem_of(
        (x,),
        keys,
        scale=scale,
        positives=partners.positives,
        of_positives=partners.of_positives,
        exclude=partners.exclude,
        normalize=normalize,
        cols=both,
        also=also,
    )
    loss = loss_of(function, problem, partners.join, reduction, factor=0.5 if both else 1.0)
    return averaged(loss, reduction) if both else loss
