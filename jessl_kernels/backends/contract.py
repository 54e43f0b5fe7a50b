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
