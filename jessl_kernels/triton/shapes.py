"""Which tile for which problem: a table, so that every shape that ships is one that was compiled and looked at."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..score import Score

WIDEST = 256  # dimensions of which a row, and a row of the result, stay on chip
FEW_DIMENSIONS = 16  # up to here distances are taken by differences, in the fused kernels


class Shape(NamedTuple):
    """BM rows, BN columns, and how a program is run."""

    rows: int
    cols: int
    warps: int
    stages: int


# By the padded dimension. sums keeps a tile of x, attend and pull a tile of the result too, in registers.
SUMS = {16: Shape(128, 64, 4, 3), 32: Shape(128, 64, 4, 3), 64: Shape(128, 64, 4, 3), 128: Shape(128, 64, 8, 3),
        256: Shape(64, 64, 4, 2)}  # fmt: skip
PULL = {16: Shape(64, 64, 4, 3), 32: Shape(64, 64, 4, 3), 64: Shape(64, 32, 4, 3), 128: Shape(64, 32, 4, 2),
        256: Shape(64, 32, 8, 2)}  # fmt: skip
DIFFERENCES = Shape(16, 32, 4, 1)
STRIP = Shape(16, 64, 4, 1)


def padded(D: int) -> int:
    """D as tensor cores want it: a power of 2, at least 16."""
    return max(16, 1 << (D - 1).bit_length())


def is_fused(score: Score, op: str) -> bool:
    """Whether tiles are made by the kernels themselves, and no strip by the library's product.

    A sum of ψ has nothing to normalise by, so that a strip gives all its gradients at 3 products; fused it would take 4. For fp32
    the library's products obey torch's own switch for TF32.
    """
    if score.kind == "sqdist":
        return score.D <= FEW_DIMENSIONS
    return op == "logsumexp" and score.D <= WIDEST and score.x.dtype in (torch.bfloat16, torch.float16)


def sums_shape(score: Score) -> Shape:
    return DIFFERENCES if score.kind == "sqdist" else SUMS[padded(score.D)]


def pull_shape(score: Score) -> Shape:
    return DIFFERENCES if score.kind == "sqdist" else PULL[padded(score.D)]
