"""The operators on real tensors, each a backend's function behind the flat arguments of its schema."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..autocast import without_autocast
from ..backends import BACKENDS
from ..problem.row_loss import Pairing
from ..problem.score import FLAT, Score
from ..problem.types import Gradients, Needs, Upstream, Weighted, upstream_of_anchor


def join(value: Tensor, anchor: Tensor | None) -> Tensor:
    """log(1 + e^{L − anchor}), which is L − anchor joined with the anchor's own term, and exact however small."""
    return value if anchor is None else torch.logaddexp(value - anchor, torch.zeros_like(value))


def run(function: str, backend: str, score: Score, *args: Any) -> Any:
    # Autocast was decided when the score was made; inside a backend it would only lower the precision of its products.
    with without_autocast(score.x):
        return getattr(BACKENDS[backend], function)(score, *args)


def reduce(*args: Any) -> tuple[Tensor, Tensor]:
    score, (op, cols, backend, workspace) = Score.unflatten(args[:FLAT]), args[FLAT:]
    return run("reduce", backend, score, op, cols, workspace)


def gradient(*args: Any) -> tuple[Tensor, ...]:
    score, (op, g, row_lse, h, col_lse, needs, backend, workspace) = Score.unflatten(args[:FLAT]), args[FLAT:]
    col = None if h is None else Upstream(h, col_lse)
    grads: Gradients = run("gradient", backend, score, op, Upstream(g, row_lse), col, Needs(*needs), workspace)
    return grads.flatten()


def scalar(*args: Any) -> tuple[Tensor, ...]:
    return scalar_of(Score.unflatten(args[:FLAT]), *args[FLAT:])


def scalar_of(score: Score, op: str, *rest: Any) -> tuple[Tensor, ...]:
    *sides, needs, backend, workspace = rest
    row = Weighted(*sides[:2])
    col = None if sides[2] is None else Weighted(*sides[2:])
    if any(needs):
        row_value, col_value, grads = run("reduce_and_gradient", backend, score, op, row, col, Needs(*needs), workspace)
    else:
        row_value, col_value = run("reduce", backend, score, op, col is not None, workspace)
        grads = Gradients.zeros(score, Needs(*needs))
    value = _weighted_sum(row_value, row)
    if col is not None:
        value = value + _weighted_sum(col_value, col)
    return value, *grads.flatten(), _anchor_gradient(op, row, row_value), _anchor_gradient(op, col, col_value)


def total(*args: Any) -> tuple[Tensor, ...]:
    needs, backend, workspace = args[FLAT:]
    return total_of(Score.unflatten(args[:FLAT]), Needs(*needs), backend, workspace)


def total_of(score: Score, needs: Needs, backend: str, workspace: int) -> tuple[Tensor, ...]:
    return made("total", backend, score, needs, workspace)


def paired(*args: Any) -> tuple[Tensor, ...]:
    op, *pairing, needs, backend, workspace = args[FLAT:]
    return paired_of(Score.unflatten(args[:FLAT]), op, Pairing(*pairing), Needs(*needs), backend, workspace)


def paired_of(
    score: Score, op: str, pairing: Pairing, needs: Needs, backend: str, workspace: int
) -> tuple[Tensor, ...]:
    return made("paired", backend, score, op, pairing, needs, workspace)


def made(function: str, backend: str, score: Score, *args: Any) -> tuple[Tensor, ...]:
    """The value, its gradients, and last that of the score's `rest` if it has one."""
    value, grads = run(function, backend, score, *args)
    return value, *grads.in_pieces(score)


def top_k(*args: Any) -> tuple[Tensor, Tensor]:
    score, (k, backend, workspace) = Score.unflatten(args[:FLAT]), args[FLAT:]
    return run("top_k", backend, score, k, workspace)


def _weighted_sum(value: Tensor, side: Weighted) -> Tensor:
    # A row of weight 0 counts for nothing, also where its value is infinite.
    return torch.where(side.weight == 0, 0.0, side.weight * join(value, side.anchor)).sum()


def _anchor_gradient(op: str, side: Weighted | None, value: Tensor) -> Tensor:
    if side is None or side.anchor is None:
        return value.new_empty(0)
    return -upstream_of_anchor(op, side, value).gradient
