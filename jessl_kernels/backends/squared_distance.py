"""Squared distances: by differences, block by block; and the condition under which they may be a matrix product.

‖x − y‖² = ‖x‖² + ‖y‖² − 2⟨x, y⟩ around the mean rounds u = −α‖x − y‖² by about ε·α·R², R the radius of the data, however close
two points are. That is exact enough if it is below the last bits that matter, or if no two points are close, because differences
round u by ε·|u| as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..problem.score import Score

BAR = {torch.float32: 2.0**-21, torch.float64: 2.0**-40}  # admitted rounding of u: 8 ulp of 1 in fp32, 4096 in fp64
CLOSE = 0.25  # pairs closer than this share of the squared radius are close
BLOCK = 4 << 20  # bytes of converted rows held at once


def score_radius(score: Score) -> float:
    """|α|·R², R² the largest ‖x_i − ȳ‖² and ‖y_j − ȳ‖²; NaN or inf if the data are. It reads the data, a block of rows at a
    time, so it is for CPU tensors."""
    mean = center(score, score.dtype)
    most = max(1, BLOCK // (score.D * score.dtype.itemsize))
    radii = [
        (block.to(score.dtype) - mean).square().sum(dim=1).amax()
        for source in ((score.x,) if score.y is None else (score.x, score.y))
        for block in source.detach().split(most)
    ]
    return abs(score.scale_number) * float(torch.stack(radii).amax())


def exact_enough(score: Score, score_radius: float, dtype: torch.dtype) -> bool:
    """Whether an expansion in this dtype is exact enough for any two points."""
    return score_radius * torch.finfo(dtype).eps <= bar(score)


def bar(score: Score) -> float:
    """The rounding of u that this problem admits."""
    return BAR[score.dtype] if score.phi.lipschitz else BAR[score.dtype] ** 2  # √ turns an error δ near 0 into √δ


def far_apart(score: Score, score_radius: float) -> float | None:
    """The u below which pairs are far enough apart for an expansion; None if there is none."""
    return -CLOSE * score_radius if score.phi.name == "identity" else None


def center(score: Score, dtype: torch.dtype) -> Tensor:
    """The mean of Y, around which squares are expanded, (D,)."""
    return score.keys.detach().mean(dim=0, dtype=dtype)


class Centered(NamedTuple):
    """Points around the mean of Y, in the dtype of the sums, for a product whose operands nobody on the host reads.

    x_squares, y_squares  (N,), (M,) squared norms
    close_above           0-d: pairs with −‖x − y‖² above it are too close for the product
    """

    x: Tensor
    y: Tensor
    x_squares: Tensor
    y_squares: Tensor
    close_above: Tensor


def centered(score: Score, scale: Tensor, *, tf32: bool) -> Centered:
    """scale: 0-d, on the device; tf32: products keep 11 bits of their operands."""
    middle = center(score, score.dtype)
    middle = torch.where(middle.isfinite(), middle, 0.0)
    x = score.x.to(score.dtype) - middle
    y = x if score.y is None else score.y.to(score.dtype) - middle
    x_squares = x.square().sum(dim=1)
    y_squares = x_squares if score.y is None else y.square().sum(dim=1)
    radius = torch.maximum(x_squares.amax(), y_squares.amax())
    # With 11 bits a product is exact enough for small radii only; otherwise all pairs count as close.
    eps = 2.0**-11 if tf32 else torch.finfo(score.dtype).eps
    harmless = (scale.abs() * radius).double() * eps <= bar(score)
    close = torch.full_like(radius, -torch.inf) if tf32 else -CLOSE * radius
    return Centered(x, y, x_squares, y_squares, torch.where(harmless, torch.inf, close).to(score.dtype))


def squared_distances(x: Tensor, y: Tensor, out: Tensor) -> Tensor:
    """‖x_i − y_j‖² by differences, into a block (B, C): exact however close the points are, at 2D passes over the block."""
    out.zero_()
    for x_d, y_d in _dimensions(x, y, out.dtype):
        out += torch.sub(x_d[:, None], y_d[None, :]).square_()
    return out


def pull(weights: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_j w_ij (y_j − x_i), (B, D), and Σ_i w_ij (x_i − y_j), (C, D), by differences, one dimension at a time."""
    toward_y, toward_x = weights.new_empty(x.shape), weights.new_empty(y.shape)
    for d, (x_d, y_d) in enumerate(_dimensions(x, y, weights.dtype)):
        product = torch.sub(y_d[None, :], x_d[:, None]).mul_(weights)
        toward_y[:, d] = product.sum(dim=1)
        toward_x[:, d] = -product.sum(dim=0)
    return toward_y, toward_x


def _dimensions(x: Tensor, y: Tensor, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    for d in range(x.shape[1]):
        yield x[:, d].to(dtype), y[:, d].to(dtype)
