"""Which kernels a reduction takes, and what becomes of their results: gradients with upstream and scale multiplied in.

Upstream gradients never meet a half-precision weight unscaled: they are taken out as a common `loss_scale`, or multiplied into
the result, so that the weights of a batch of any size, multiplied by any loss scale, keep their digits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..problem.score import Score
from ..problem.types import Gradients, Needs, Plan, Upstream, Weighted, known_upstream
from ..problem.types import upstream_of_anchor as arriving
from . import blocks, launch, shapes, strips
from .launch import Problem, Side, Sides

HALF_SHIFT = 13  # weights in fp16 are kept 2^13 times larger: what is below 4e-9 of a row's sum is lost, not below 6e-5


def reduce(score: Score, op: str, cols: bool, workspace: int) -> tuple[Tensor, Tensor]:
    if shapes.route(score) == "strips":
        return strips.reduce(score, op, cols, workspace)
    twins = cols and score.symmetric
    row, col = launch.sums(Problem.of(score), op, cols and not twins, workspace)
    return row, row.clone() if twins else col


def gradient(score: Score, op: str, row: Upstream, col: Upstream | None, needs: Needs, workspace: int) -> Gradients:
    route = shapes.route(score)
    if route == "strips":
        return strips.gradient(score, op, row, col, needs, workspace)
    grads = Gradients.zeros(score, needs)
    if route == "fused":
        _pull(score, op, row, col, grads, workspace)
        return grads
    if score.symmetric:
        row = col = _of_both(row, col)
    loss_scale = _loss_scale(score, row, col)
    sides = Sides.of(row, col, loss_scale)
    blocks.pull_back(score, op, sides, loss_scale, grads, workspace)
    return grads


def reduce_and_gradient(
    score: Score, op: str, row: Weighted, col: Weighted | None, needs: Needs, workspace: int
) -> tuple[Tensor, Tensor, Gradients]:
    route = shapes.route(score)
    if col is None and route == "strips":
        return strips.reduce_and_gradient(score, op, row, needs, workspace)
    if col is None and route == "blocks" and op != "logsumexp":
        return _block_by_block(score, op, row, needs, workspace)
    if col is None and route == "fused" and op == "logsumexp" and _attends(score):
        return _attend(score, row, needs, workspace)
    row_value, col_value = reduce(score, op, col is not None, workspace)
    upstream = arriving(op, row, row_value), None if col is None else arriving(op, col, col_value)
    return row_value, col_value, gradient(score, op, *upstream, needs, workspace)


def top_k(score: Score, k: int, workspace: int) -> tuple[Tensor, Tensor]:
    return strips.top_k(score, k, workspace)


def plan(score: Score, op: str, cols: bool, with_gradient: bool, reduction: str, workspace: int) -> Plan:
    one_sided, route = known_upstream(reduction) and not cols, shapes.route(score)
    if route == "strips":
        rows, _ = strips.sizes(score, workspace, gradient=with_gradient)
        gemms = 1 if not with_gradient else 3 if one_sided else 4
        return Plan(f"strips of {rows} rows, products by the library", gemms, workspace)
    if route == "blocks" and with_gradient:
        at_once = one_sided and op != "logsumexp"
        rows, cols_ = blocks.sizes(score, workspace)
        what = f"blocks of {rows} × {cols_}, weights by a kernel, their products by the library"
        if score.symmetric and not at_once:
            return Plan(what, 1 + 1.5 + 0.5 * min(1.0, rows / score.N), workspace)
        return Plan(what, 3 if at_once else 4, workspace)
    tile = shapes.of("pull" if with_gradient else "sums", score)
    what = f"fused, tiles of {tile.rows} × {tile.cols}"
    if score.kind == "sqdist":
        return Plan(f"{what}, distances by differences", 0, 0)
    if score.symmetric:
        return Plan(f"{what}, rows and columns at once", 3 if with_gradient else 1, 0)
    if not with_gradient:
        return Plan(what, 1, 0)
    at_once = one_sided and (op != "logsumexp" or _attends(score))
    return Plan(what, 4 if at_once else 5, 0)


def _attends(score: Score) -> bool:
    """Whether a row's gradient is its softmax times y, so that the sweep for the values can make it."""
    return score.kind == "dot" and score.phi.name == "identity" and not score.symmetric


def _attend(score: Score, row: Weighted, needs: Needs, workspace: int) -> tuple[Tensor, Tensor, Gradients]:
    grads = Gradients.zeros(score, needs)
    lse, attended, mean = launch.attend(Problem.of(score), needs.scale, _half_shift(score), workspace).merged()
    upstream = arriving("logsumexp", row, lse)
    g = upstream.gradient[:, None]
    if mean is not None:
        grads.scale += (mean * upstream.gradient).sum(dtype=torch.float64)
    if needs.row_bias:
        grads.row_bias += torch.where(lse == -torch.inf, 0.0, upstream.gradient + 0.0 * lse)  # a NaN stays one
    if needs.x:
        grads.x += attended * (g * score.scale)
    if needs.y or needs.col_bias or (needs.x and score.y is None):
        _pull_rows(score.transposed(), "logsumexp", None, upstream, _transposed(score, grads), False, workspace)
    return lse, lse.new_empty(0), grads


def _block_by_block(
    score: Score, op: str, row: Weighted, needs: Needs, workspace: int
) -> tuple[Tensor, Tensor, Gradients]:
    """A sum of ψ has weights that are known before it is: one sweep makes both."""
    grads, value = Gradients.zeros(score, needs), score.x.new_zeros(score.N, dtype=score.dtype)
    upstream = arriving(op, row, value)
    loss_scale = _loss_scale(score, upstream, None)
    blocks.pull_back(score, op, Sides.of(upstream, None, loss_scale), loss_scale, grads, workspace, value)
    return value, value.new_empty(0), grads


def _pull(score: Score, op: str, row: Upstream, col: Upstream | None, grads: Gradients, workspace: int) -> None:
    """All gradients by the fused kernel: rows, then columns as the rows of the transposed problem."""
    if score.symmetric:
        both = _of_both(row, col)
        _pull_rows(score, op, both, both, grads, True, workspace)
        grads.scale *= 0.5  # each pair is there from both its ends
        return
    if grads.x.numel() or grads.scale.numel() or grads.row_bias.numel():
        _pull_rows(score, op, row, col, grads, True, workspace)
    if grads.y.numel() or grads.col_bias.numel() or (grads.x.numel() and score.y is None):
        _pull_rows(score.transposed(), op, col, row, _transposed(score, grads), False, workspace)


def _pull_rows(
    score: Score, op: str, row: Upstream | None, col: Upstream | None, grads: Gradients, scale: bool, workspace: int
) -> None:
    if row is not None and col is None and row.lse is not None:
        shift, by_row = _half_shift(score), True
        sides, factor = Sides(Side(row.lse, row.lse, row.lse), None, None), row.gradient * 2.0**-shift
    else:
        loss_scale, shift, by_row = _loss_scale(score, row, col), 0, False
        sides, factor = Sides.of(row, col, loss_scale), loss_scale.expand(score.N)
    bias, scale = bool(grads.row_bias.numel()), scale and bool(grads.scale.numel())
    options = {"shift": shift, "unit_upstream": by_row, "bias": bias, "scale": scale}
    found = launch.pull(Problem.of(score), sides, op, workspace, **options).merged()
    if grads.x.numel():
        grads.x += found.embedding * (factor * score.scale * (2 if score.kind == "sqdist" else 1))[:, None]
    if found.bias is not None:
        grads.row_bias += found.bias * factor
    if found.scale is not None:
        grads.scale += (found.scale * factor).sum(dtype=torch.float64)


def _of_both(row: Upstream, col: Upstream | None) -> Upstream:
    """Of a symmetric problem: s_ij = s_ji, so U + Uᵀ is the U of a problem in which each row counts as a column too."""
    return row if col is None else Upstream(row.gradient + col.gradient, row.lse)


def _half_shift(score: Score) -> int:
    return HALF_SHIFT if score.x.dtype == torch.float16 else 0


def _loss_scale(score: Score, row: Upstream | None, col: Upstream | None) -> Tensor:
    """What weights are taken out of, 0-d: the largest upstream gradient, so that they do not depend on what the loss was
    multiplied by, over 2^HALF_SHIFT in fp16."""
    largest = torch.stack([side.gradient.abs().amax() for side in (row, col) if side is not None]).amax()
    usual = (largest > torch.finfo(largest.dtype).tiny * 2.0**HALF_SHIFT) & largest.isfinite()
    return torch.where(usual, largest, 1.0) * 2.0 ** -_half_shift(score)


def _transposed(score: Score, grads: Gradients) -> Gradients:
    """Where the gradients of the transposed problem's x and row bias belong."""
    none = grads.x.new_empty(0)
    return Gradients(grads.x if score.y is None else grads.y, none, none, grads.col_bias, none)
