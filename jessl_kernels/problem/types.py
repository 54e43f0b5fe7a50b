"""What backends are handed beside the `Score`, and what they hand back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .score import Score


class Upstream(NamedTuple):
    """One side of a backward pass: the gradient arriving at each row (or column), and that row's log-sum-exp (None for a sum)."""

    gradient: Tensor
    lse: Tensor | None


class Weighted(NamedTuple):
    """One side of a scalar reduction: the constant weight of each row (or column), and its anchor if it has one."""

    weight: Tensor
    anchor: Tensor | None


@dataclass(frozen=True)
class Needs:
    """Which gradients somebody will use."""

    x: bool
    y: bool
    scale: bool
    row_bias: bool
    col_bias: bool

    def flatten(self) -> list[bool]:
        return [self.x, self.y, self.scale, self.row_bias, self.col_bias]


@dataclass
class Gradients:
    """Gradients of one reduction, each an empty tensor where nobody asked for it.

    x, y, row_bias, col_bias   like the score's, in its accumulation dtype; where y is x, x holds both halves. A batch in two
                               pieces has one gradient
    scale                      0-d, fp64
    """

    x: Tensor
    y: Tensor
    scale: Tensor
    row_bias: Tensor
    col_bias: Tensor

    @staticmethod
    def empty(score: Score, needs: Needs) -> Gradients:
        """To be written to."""

        def new(needed: bool, shape: tuple[int, ...], dtype: torch.dtype = score.dtype) -> Tensor:
            return score.x.new_empty(shape if needed else 0, dtype=dtype)

        return Gradients(
            new(needs.x, (score.N, score.D)),
            new(needs.y and score.y is not None, (score.M, score.D)),
            new(needs.scale, (), torch.float64),
            new(needs.row_bias, (score.N,)),
            new(needs.col_bias, (score.M,)),
        )

    @staticmethod
    def zeros(score: Score, needs: Needs) -> Gradients:
        """To be added to."""
        made = Gradients.empty(score, needs)
        for gradient in made.flatten():
            gradient.zero_()
        return made

    def flatten(self) -> tuple[Tensor, ...]:
        return (self.x, self.y, self.scale, self.row_bias, self.col_bias)

    def in_pieces(self, score: Score) -> tuple[Tensor, ...]:
        """As `flatten`, and the gradient of the score's `rest` if it has one: views, no copies."""
        if score.rest is None:
            return self.flatten()
        whole, split = self.x if score.y is None else self.y, len(score.keys)
        # By way of `.data` each counts its own versions: who writes to one gradient does not spoil the other for autograd.
        first, rest = whole.data[:split], whole.data[split:]
        x, y = (first, self.y) if score.y is None else (self.x, first)
        return (x, y, self.scale, self.row_bias, self.col_bias, rest)


def known_upstream(reduction: str) -> bool:
    """Whether the gradient that will arrive at each row is known in the forward pass but for one factor."""
    return reduction in ("sum", "mean")


def upstream_of_anchor(op: str, side: Weighted, value: Tensor) -> Upstream:
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
