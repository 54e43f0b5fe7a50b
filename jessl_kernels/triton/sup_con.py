"""SupCon whole, where the fused kernels take it: rows in the order of their labels, so that the partners of a tile of rows stand
within few tiles of columns.

What pulls and pushes a row nearly cancels once training works. So each log-sum-exp is parted, into that over rows of other
labels and that over the partners, and what is taken off the partners' weights is before they are rounded to half precision.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..problem.exclude import Exclude
from ..problem.row_loss import Labelling, Pairing
from ..problem.score import Score
from ..problem.types import Gradients, Needs
from . import launch, rowwise, shapes
from .launch import MAX_PROGRAMS, Problem, Side, Sides
from .launch_cache import launch_cached
from .losses import NOTHING, Loss, over_rows


def takes_labels(score: Score) -> bool:
    """Whether `labelled` takes this score: of fused kernels, and not in fp16, which knows no share below 6e-8 (`losses.py`)."""
    return shapes.route(score) == "fused" and score.x.dtype != torch.float16


def labelled(score: Score, labelling: Labelling, needs: Needs, workspace: int) -> tuple[Tensor, Gradients]:
    """The value, 0-d, and the gradients."""
    labels, order = labelling.labels.sort(stable=True)
    first, last = (torch.searchsorted(labels, labels, right=right) for right in (False, True))
    pairing = Pairing(labelling.weight, normalize=labelling.normalize)
    loss = Loss(replace(score, x=score.x.index_select(0, order)), "logsumexp", pairing, workspace)
    parted = _parted(loss, labelling, first, last)

    grads = Gradients.empty(score, NOTHING)
    if needs.x or needs.scale:
        embedding, of_scale = _pulled(parted, needs.scale, workspace)
        if needs.x:
            rows = loss.rows_backward(loss.x, embedding[None])
            del embedding
            grads.x = torch.empty_like(rows).index_copy_(0, order, rows)
        if of_scale is not None:
            grads.scale = loss.scale(of_scale * 0.5)  # each pair is there from both its ends
    return loss.value(), grads


class _Parted(NamedTuple):
    """Two problems, of rows of other labels and of partners; what arrives at the log-sum-exps of each; and what the partners'
    weights are less."""

    others: Problem
    partners: Problem
    at_others: Sides
    at_partners: Sides
    linear_grad: Tensor | None


def _parted(loss: Loss, labelling: Labelling, first: Tensor, last: Tensor) -> _Parted:
    """first, last (N,)  row i has the label of rows first_i … last_i − 1"""
    positives, mean_outside = last - first - 1, labelling.form == "out"
    if labelling.per_counted:
        loss.weight = loss.weight / positives.sign().sum().clamp_min(1)
    others = Problem.of(replace(loss.score, exclude=Exclude(same=(first, first))))
    partners = Problem.of(replace(loss.score, exclude=Exclude(diagonals=(0,), different=(first, first))))
    partners.pairs = partners.pairs._replace(first=first, last=last)

    of_others = launch.sum_parts(others, "logsumexp", False, loss.workspace).row
    of_partners, _, linear = launch.sum_parts(partners, "logsumexp", False, loss.workspace, linear=mean_outside)
    N = loss.score.N
    sides = [Side(*(of_others.new_empty(N) for _ in range(3))) for _ in range(2)]
    lse_ranges = [loss.lse_range, of_others.new_empty(2 * MAX_PROGRAMS + 1)]
    linear_grad = of_others.new_empty(N) if mean_outside else None
    grid, options = over_rows(N, max(of_others.shape[0], of_partners.shape[0]))
    launch_cached(
        rowwise.finalize_rows_of_many, grid,
        of_others, of_partners, linear, positives, loss.weight, *sides, linear_grad, loss.losses, *lse_ranges, of_others.shape[0],
        of_partners.shape[0], N, OUT=mean_outside, **options,
    )  # fmt: skip
    at_others, at_partners = (Sides(side, side, lse_range) for side, lse_range in zip(sides, lse_ranges, strict=True))
    return _Parted(others, partners, at_others, at_partners, linear_grad)


def _pulled(parted: _Parted, scale: bool, workspace: int) -> tuple[Tensor, Tensor | None]:
    """Σ_j U_ij y_j, (N, D), and Σ U t, 0-d, if it is wanted, of both problems together."""
    others, partners, at_others, at_partners, linear_grad = parted
    of_partners = launch.pull(
        partners, at_partners, "logsumexp", workspace, scale=scale, linear_grad=linear_grad
    ).merged()
    of_others = launch.pull(others, at_others, "logsumexp", workspace, scale=scale).merged()
    embedding = of_others.embedding.add_(of_partners.embedding)
    if of_others.scale is None or of_partners.scale is None:
        return embedding, None
    return embedding, (of_others.scale + of_partners.scale).sum(dtype=torch.float64)
