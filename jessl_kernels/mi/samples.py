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


@dataclass(frozen=True, eq=False)
class Columns:
    """Means and standard deviations of columns, (D,) each, in fp64 if the device has it."""

    mean: Tensor
    deviation: Tensor

    def standardised(self, z: Tensor) -> Tensor:
        """Each column less its mean, by its standard deviation: an invertible map, so that the information is the same."""
        return (z.to(self.mean.device, self.mean.dtype) - self.mean) / self.deviation


def columns_of(function: str, argument: str, z: Tensor) -> Columns:
    """Those of rows that vary in every column."""
    z = z.to(widest(z.device))
    deviation, mean = torch.std_mean(z, dim=0)
    constant = z.amin(dim=0) == z.amax(dim=0)
    if bool(constant.any()):
        column = int(constant.nonzero()[0])
        must = "must vary: leave that column out, since it has no information"
        fail(function, argument, f"constant in column {column} of the {len(z)} rows", must)
    for wrong, size in ((~deviation.isfinite(), "large"), (deviation == 0, "small")):
        if bool(wrong.any()):
            must = "must have a standard deviation that a float64 can hold: multiply that column by a number"
            fail(function, argument, f"too {size} in column {int(wrong.nonzero()[0])}", must)
    return Columns(mean, deviation)


def cast(function: str, argument: str, z: Tensor, dtype: torch.dtype) -> Tensor:
    """z in the dtype of the training, which must hold it."""
    made = z.to(dtype)
    wrong = ~made.isfinite()
    if bool(wrong.any()):
        row, column = wrong.nonzero()[0].tolist()
        must = f"must be within what {dtype} holds: standardize the columns, or choose dtype=torch.float64"
        fail(function, argument, f"{float(z[row, column]):g} at row {row}, column {column}", must)
    return made
