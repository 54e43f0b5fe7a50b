"""A join evaluated in torch, between the two sweeps: one without a name, or one with `reduction="none"`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._checks import fail, wrong_type
from ..problem.join import JOINS, Join
from ..problem.row_loss import Loss
from .sums import SumsOfColumns, SumsOfRows

# Rows evaluated at a time: so few that torch uses one thread, because a second thread's share would change the last bits.
CHUNK = 1 << 14

Evaluate = Callable[..., Tensor]


def join_of(join: str | Evaluate) -> Evaluate:
    """A named join as a function with the arguments of a user's join."""
    if not isinstance(join, str):
        return join
    named: Join = JOINS[join]
    return lambda N, P, spread, n_pos, n_neg: named.value(N, P, spread, n_pos)


def joined(sums: SumsOfRows, join: Evaluate, loss: Loss, params: tuple) -> Any:
    """The loss of rows, and of columns if these were summed."""
    sides: list[tuple[SumsOfRows | SumsOfColumns, Tensor | None, tuple]] = [(sums, loss.weights, params)]
    if sums.raw.col is not None:
        sides.append((sums.cols, loss.col_weights, params))
    found = [_side(*side, join, loss) for side in sides]
    if loss.reduction == "none":
        return found[0] if len(found) == 1 else tuple(found)
    return found[0] if len(found) == 1 else found[0] + found[1]


def _side(
    sums: SumsOfRows | SumsOfColumns, weights: Tensor | None, params: tuple, join: Evaluate, loss: Loss
) -> Tensor:
    """Each row's loss, or their reduction."""
    rows = sums.N[0].shape[0]
    P, spread, n_pos = sums.of_positives() or (None, None, None)
    # A named join does not use the number of negatives.
    n_neg = None if loss.join else sums.n_neg
    parts = []
    # A trace takes all rows at once: with chunks there would be a graph for each number of rows.
    firsts, step = ((0,), rows) if torch.compiler.is_compiling() else (range(0, rows, CHUNK), CHUNK)
    for first in firsts:
        count = min(step, rows - first)
        logs = tuple(_part(n, rows, first, count) for n in sums.N)
        others = (_part(t, rows, first, count) for t in (P, spread))
        positives = None if n_pos is None else _part(n_pos, rows, first, count)
        at_least_one = None if positives is None else positives.clamp_min(1)
        mine = (_part(param, rows, first, count) for param in params)
        part = join(logs, *others, at_least_one, _part(n_neg, rows, first, count), *mine)
        _check(part, count)
        if positives is not None and (not loss.join or JOINS[loss.join].positives):
            part = torch.where(positives > 0, part, 0.0)
        if weights is not None:  # a row of weight 0 does not count, even if its value is infinite
            weight = _part(weights, rows, first, count)
            part = torch.where(weight == 0, 0.0, weight * part)
        parts.append(part if loss.reduction == "none" else part.sum())
    if loss.reduction == "none":
        found = parts[0] if len(parts) == 1 else torch.cat(parts)
        return found if loss.factor == 1 else loss.factor * found
    total = (parts[0] if len(parts) == 1 else torch.stack(parts).sum()) * loss.factor
    if loss.reduction == "mean":
        return total / rows
    if loss.reduction == "mean_counted" and n_pos is not None:
        return total / (n_pos > 0).sum().clamp_min(1)
    return total


def _part(value: Any, rows: int, first: int, count: int) -> Any:
    """The part of a value for some rows, if it has one number for each row."""
    one_for_each = isinstance(value, Tensor) and value.shape == (rows,)
    return value.narrow(0, first, count) if one_for_each and count != rows else value


def _check(loss: Any, rows: int) -> None:
    if not isinstance(loss, Tensor):
        wrong_type("row_loss", "join", loss, f"must return a tensor of {rows} losses, one for each row it was handed")
    if loss.shape != (rows,):
        must = f"must return ({rows},), one loss for each row it was handed"
        fail("row_loss", "join", f"a function that returned {tuple(loss.shape)}", must)
