"""The O(N·D) work of losses on rows, before and after the reduction."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .._checks import accumulation_dtype, choice, flag
from ..literals import REDUCTIONS
from ..pairwise.arguments import unit as unit
from ..pairwise.row_loss import scored


def prepare(*batches: Tensor, normalize: bool) -> tuple[Tensor, ...]:
    """Embeddings as their scores will see them: unit rows if requested, in the dtype of autocast.

    Positives are computed from these too, because a positive and its negatives must come from the same numbers.
    """
    seen, _, to_normalize = scored(batches, (), "dot", normalize)
    return tuple(unit(z) for z in seen) if to_normalize else seen


def rowwise_dot(x: Tensor, y: Tensor) -> Tensor:
    """⟨x_i, y_i⟩ over the last dimension, in the accumulation dtype."""
    dtype = accumulation_dtype(x.dtype)
    return (x.to(dtype) * y.to(dtype)).sum(dim=-1)


def scaled(row: Tensor, scale: float | Tensor) -> Tensor:
    """scale · row, in the dtype of the row."""
    return (row * scale).to(row.dtype)


def log_of(count: int, like: Tensor) -> float | Tensor:
    """The logarithm of a number of rows; in a trace a tensor, because a compiler makes a new program for each new float."""
    if not torch.compiler.is_compiling():
        return math.log(count)
    return torch.full((), count, dtype=like.dtype, device=like.device).log()


def expanded(number: float | Tensor, x: Tensor) -> Tensor:
    """A bias that all rows share, (N,), in the accumulation dtype of x."""
    if isinstance(number, Tensor):
        return number.to(accumulation_dtype(x.dtype)).expand(x.shape[0])
    return x.new_full((x.shape[0],), number, dtype=accumulation_dtype(x.dtype))


def averaged(sides: Any, reduction: str) -> Tensor:
    """Half the sum of both sides: of each pair for `reduction="none"`; otherwise both sides are summed already."""
    return sides[0] + sides[1] if reduction == "none" else sides


def reduce_rows(row: Tensor, reduction: str) -> Tensor:
    """The mean, the sum or the rows themselves."""
    return row.mean() if reduction == "mean" else row.sum() if reduction == "sum" else row


def check_options(function: str, reduction: str, **flags: bool) -> None:
    """ValueError unless the reduction is "mean", "sum" or "none", TypeError unless the flags are bools."""
    choice(function, "reduction", reduction, REDUCTIONS)
    for name, value in flags.items():
        flag(function, name, value)
