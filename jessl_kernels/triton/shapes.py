"""Which tile for which problem: a table, so that every shape that ships is one that was compiled and looked at."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch

from ..score import Score

FEW_DIMENSIONS = 16  # up to here distances are taken by differences, in the fused kernels


class Shape(NamedTuple):
    """BM rows, BN columns, and how a program is run."""

    rows: int
    cols: int
    warps: int
    stages: int


# By the padded dimension. "sums" keeps a tile of x, "attend" and "pull" a tile of the result too, in registers. The elements of
# TF32 take twice the room of bf16's, and in 256 dimensions no shape has all it needs on every GPU.
SUMS = {16: Shape(128, 64, 4, 3), 32: Shape(128, 64, 4, 3), 64: Shape(128, 64, 4, 3), 128: Shape(128, 64, 8, 3),
        256: Shape(64, 64, 4, 2)}  # fmt: skip
PULL = {16: Shape(64, 64, 4, 3), 32: Shape(64, 64, 4, 3), 64: Shape(64, 32, 4, 3), 128: Shape(64, 32, 4, 2),
        256: Shape(64, 32, 8, 2)}  # fmt: skip
SUMS_TF32 = {16: Shape(128, 64, 4, 3), 32: Shape(128, 64, 4, 3), 64: Shape(64, 64, 4, 2), 128: Shape(64, 64, 4, 2)}
PULL_TF32 = {16: Shape(64, 64, 4, 2), 32: Shape(64, 32, 4, 2), 64: Shape(64, 32, 4, 2), 128: Shape(64, 32, 4, 2)}
DIFFERENCES = Shape(16, 32, 4, 1)
STRIP = Shape(16, 64, 4, 1)


def padded(D: int) -> int:
    """D as tensor cores want it: a power of 2, at least 16."""
    return max(16, 1 << (D - 1).bit_length())


def is_fused(score: Score, op: str) -> bool:
    """Whether tiles are made by the kernels themselves, and no strip by the library's product.

    A sum of ψ has nothing to normalise by, so that a strip gives all its gradients at 3 products; fused it would take 4.
    """
    if score.kind == "sqdist":
        return score.D <= FEW_DIMENSIONS
    half = score.x.dtype in (torch.bfloat16, torch.float16)
    fits = padded(score.D) in (PULL if half else PULL_TF32)
    return op == "logsumexp" and fits and (half or tf32(score.x.dtype))


def tf32(dtype: torch.dtype) -> bool:
    """Whether torch's own switch lets products of this dtype be made of 11 bits; AMD's have no such mode."""
    asked = torch.backends.cuda.matmul.fp32_precision == "tf32"
    return dtype == torch.float32 and asked and torch.version.hip is None


def of(kernel: str, score: Score) -> Shape:
    """For "sums", "attend" or "pull"."""
    if score.kind == "sqdist":
        return DIFFERENCES
    if tf32(score.x.dtype):
        return (SUMS_TF32 if kernel == "sums" else PULL_TF32)[padded(score.D)]
    return (SUMS if kernel == "sums" else PULL)[padded(score.D)]


def around(kernel: str, score: Score) -> list[Shape]:
    """What `tune.py` tries beside the table."""
    if score.kind == "sqdist":
        sizes = (16, 32), (32, 64), (4, 8), (1,)
    else:
        sizes = (64, 128), (64, 128) if kernel == "sums" else (32, 64), (4, 8), (2, 3, 4)
    every = (Shape(*numbers) for numbers in itertools.product(*sizes))
    return [shape for shape in every if score.kind == "sqdist" or shape.rows % shape.cols == 0]
