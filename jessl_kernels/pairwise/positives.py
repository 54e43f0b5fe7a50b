"""Which pairs are positives: a shift, an index, ids on both sides, or their scores; and the terms that are summed over them."""

from __future__ import annotations

import numbers
from typing import Any

import torch
from torch import Tensor

from .._checks import fail, integer, readable, wrong_type
from ..problem.exclude import ids_like
from ..problem.row_loss import NO_POSITIVES, Positives
from ..problem.types import Terms
from .arguments import vector


def positives_of(function: str, positives: Any, N: int, M: int, like: Tensor, cols: bool) -> Positives:
    """The `positives` argument of a loss of rows, checked."""
    if positives is None:
        return NO_POSITIVES
    if isinstance(positives, (int, numbers.Integral)) and not isinstance(positives, bool):
        if N > M or (cols and N != M):
            must = "must be a tensor or a pair of ids where rows are not as many as columns" if cols else "needs N <= M"
            fail(function, "positives", f"{positives}, a shift, for {N} rows and {M} columns", must)
        return Positives(shift=integer(function, "positives", positives) % M)
    if isinstance(positives, Tensor) and positives.dtype.is_floating_point:
        if cols:
            fail(function, "positives", "one float tensor", 'must be two with dim="both", for rows and for columns')
        return Positives(score=vector(function, "positives", positives, like, N))
    if isinstance(positives, Tensor):
        index = ids_like(function, "positives", positives, N, ("x", like))
        if readable(index) and (int(index.min()) < -1 or int(index.max()) >= M):
            must = f"must hold columns, below {M}, or -1 for none"
            fail(function, "positives", f"an index from {int(index.min())} to {int(index.max())}", must)
        if cols:  # a column may be the positive of several rows
            return Positives(row_ids=index, col_ids=torch.arange(M, device=like.device))
        return Positives(index=index)
    if isinstance(positives, (tuple, list)) and len(positives) == 2 and all(isinstance(p, Tensor) for p in positives):
        one, other = positives
        if one.dtype.is_floating_point:
            if not cols:
                fail(function, "positives", "two float tensors", 'must be one with dim="row"')
            scores = (vector(function, "positives", p, like, n) for p, n in ((one, N), (other, M)))
            return Positives(score=next(scores), col_score=next(scores))
        row_ids = ids_like(function, "positives", one, N, ("x", like))
        col_ids = row_ids if other is one else ids_like(function, "positives", other, M, ("x", like))
        return Positives(row_ids=row_ids, col_ids=col_ids)
    wrong_type(function, "positives", positives, "must be an int, a tensor, a pair of tensors or None")


def terms_of_positives(of_positives: str) -> Terms:
    """The terms of the sums over positives; with the sum of their scores and their number."""
    return Terms(linear=True) if of_positives == "logsumexp" else Terms(of_positives, (-1.0,), linear=True)
