"""What backends are handed and what they hand back, beside the `Score` and its `Gradients`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Upstream(NamedTuple):
    """One side of a backward pass: the gradient arriving at each row (or column), and that row's log-sum-exp (None for a sum)."""

    gradient: Tensor
    lse: Tensor | None


class Weighted(NamedTuple):
    """One side of a scalar reduction: the constant weight of each row (or column), and its anchor if it has one."""

    weight: Tensor
    anchor: Tensor | None


class Pairing(NamedTuple):
    """A sum of losses of rows that count alike, each of which may have one partner among the columns, left out of its reduction.

    weight     of each loss in their sum
    join       what becomes of the reduction: "anchor" log(1 + e^{L_i − t_i}), "minus" L_i − t_i, "softplus" R_i + softplus(−t_i),
               or "none": there are no partners
    shift      row i's partner is column (i + shift) mod M, and t_i its score
    normalize  rows are divided by their norms first
    cols       columns have a loss too, with the same partners
    """

    weight: float
    join: str = "none"
    shift: int = 0
    normalize: bool = False
    cols: bool = False


class Labelling(NamedTuple):
    """SupCon of rows that count alike: each row's partners are the others of its label.

    labels       (N,) int64
    form         "out" or "in", where the mean over positives stands
    weight       of each row's loss in their sum; rows without a positive have none
    per_counted  the sum is divided by the number of rows that have a positive
    normalize    rows are divided by their norms first
    """

    labels: Tensor
    form: str
    weight: float
    per_counted: bool
    normalize: bool


def known_upstream(reduction: str) -> bool:
    """Whether the gradient that will arrive at each row is known in the forward pass but for one factor."""
    return reduction in ("sum", "mean")


def arriving(op: str, side: Weighted, value: Tensor) -> Upstream:
    """The gradient that reaches each log-sum-exp L through w·log(1 + e^{L − anchor}): w σ(L − anchor)."""
    if op != "logsumexp":
        return Upstream(side.weight, None)
    gradient = side.weight if side.anchor is None else side.weight * torch.sigmoid(value - side.anchor)
    return Upstream(gradient, value)


@dataclass(frozen=True)
class Plan:
    """How a backend would compute a problem.

    path       its own words for the route taken, and why that route
    gemms      matrix products of 2·N·M·D flops spent on value and gradient
    workspace  bytes beyond inputs, outputs and a few vectors
    skipping   what it would make of skip_below
    """

    path: str
    gemms: float
    workspace: int
    skipping: str = "this backend computes every pair"
