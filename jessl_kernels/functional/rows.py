"""What losses do to rows before and after the reduction, in O(N·D)."""

from __future__ import annotations

import torch
from torch import Tensor

from .._checks import accumulation_dtype, choice, flag
from ..autocast import under_autocast

REDUCTIONS = ("mean", "sum", "none")


def unit(z: Tensor) -> Tensor:
    """Each row (last dimension) divided by its norm; computed in fp32 at least and rounded once, to the dtype of z."""
    return torch.nn.functional.normalize(z.to(accumulation_dtype(z.dtype)), dim=-1).to(z.dtype)


def prepare(*batches: Tensor, normalize: bool) -> tuple[Tensor, ...]:
    """Embeddings as their scores will see them: unit rows if asked for, in the dtype autocast asks for.

    Positives are computed from these too: a positive and the negatives it stands against must come from the same numbers.
    """
    return under_autocast(*(unit(z) if normalize else z for z in batches))


def rowwise_dot(x: Tensor, y: Tensor) -> Tensor:
    """⟨x_i, y_i⟩ over the last dimension, in the accumulation dtype."""
    dtype = accumulation_dtype(x.dtype)
    return (x.to(dtype) * y.to(dtype)).sum(dim=-1)


def scaled(row: Tensor, scale: Tensor) -> Tensor:
    """scale · row, for an fp64 scale: its gradient Σ g_i row_i is summed in fp64 too."""
    return (row.double() * scale).to(row.dtype)


def reduce_rows(row: Tensor, reduction: str) -> Tensor:
    """The mean, the sum or the rows themselves."""
    return row.mean() if reduction == "mean" else row.sum() if reduction == "sum" else row


def check_options(function: str, reduction: str, **flags: bool) -> None:
    """ValueError unless the reduction is "mean", "sum" or "none", TypeError unless the flags are bools."""
    choice(function, "reduction", reduction, REDUCTIONS)
    for name, value in flags.items():
        flag(function, name, value)
