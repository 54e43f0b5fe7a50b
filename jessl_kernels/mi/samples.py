"""Pairs (x_i, y_i) for the estimator: three splits of the rows, standardised columns, in the dtype of the training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .._checks import fail, widest

STOPPING_BLOCKS = 32  # at most: they are evaluated again and again, and cost a third of the training


@dataclass(frozen=True)
class Split:
    """Rows of pairs, by index. `stopping` and `held_out` have whole blocks of the batch size."""

    training: Tensor
    stopping: Tensor
    held_out: Tensor

    def to(self, device: torch.device) -> Split:
        return Split(self.training.to(device), self.stopping.to(device), self.held_out.to(device))


def split(function: str, N: int, size: int, held_out: float, generator: torch.Generator) -> Split:
    """N pairs in random order: held_out·N for the value; as many, but at most 32 blocks, to stop by; the rest to train on.

    size  pairs of a block
    """
    kept = int(held_out * N)
    most = min(kept // 2, N - 2 * kept)
    if most < 2:
        must = f"must have more: with held_out={held_out:g}, two blocks of two held-out pairs and one to train on are the least"
        fail(function, "x", f"of {N} rows", must)
    if size > most:
        must = (
            f"must be at most {most} for {N} pairs with held_out={held_out:g}: "
            "two blocks of held-out pairs and one of training pairs are the least"
        )
        fail(function, "batch_size", size, must)
    blocks = kept // size
    sizes = [min(blocks, STOPPING_BLOCKS) * size, blocks * size]
    order = torch.randperm(N, generator=generator)
    stopping, held, training = order.split([*sizes, N - sum(sizes)])
    return Split(training, stopping, held)


def standardised(function: str, argument: str, z: Tensor, training: Tensor | None = None) -> Tensor:
    """Each column less its mean, by its standard deviation, both of the training rows: an invertible map, so that the information
    is the same. In fp64 if the device has it.

    training  rows by index; None: all of them
    """
    z = z.to(widest(z.device))
    seen = z if training is None else z[training]
    spread, mean = torch.std_mean(seen, dim=0)
    constant = seen.amin(dim=0) == seen.amax(dim=0)
    if bool(constant.any()):
        column = int(constant.nonzero()[0])
        must = "must vary: leave that column out, since it has no information"
        where = "" if training is None else f" of the {len(seen)} training rows"
        fail(function, argument, f"constant in column {column}{where}", must)
    for wrong, size in ((~spread.isfinite(), "large"), (spread == 0, "small")):
        if bool(wrong.any()):
            must = "must have a standard deviation that a float64 can hold: multiply that column by a number"
            fail(function, argument, f"too {size} in column {int(wrong.nonzero()[0])}", must)
    return (z - mean) / spread


def cast(function: str, argument: str, z: Tensor, dtype: torch.dtype) -> Tensor:
    """z in the dtype of the training, which must hold it."""
    made = z.to(dtype)
    wrong = ~made.isfinite()
    if bool(wrong.any()):
        row, column = wrong.nonzero()[0].tolist()
        must = f"must be within what {dtype} holds: standardize the columns, or choose dtype=torch.float64"
        fail(function, argument, f"{float(z[row, column]):g} at row {row}, column {column}", must)
    return made
