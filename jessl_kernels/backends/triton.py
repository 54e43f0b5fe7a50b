"""Triton on the GPU: fused kernels over tiles, or kernels around products of the library's; `jessl_kernels/triton` computes.

Products of 2·N·M·D flops, value and gradient:

    fused: bf16 and fp16 of at most 256 dimensions, fp32 of 128 where torch's switch allows TF32; no N×M object, not even a strip
        one side, upstream known      4      L and Σ p_ij y_j in one sweep (2), which is the gradient of x; then that of y (2)
        sums of ψ, upstream known     4      the sum and the gradient of x (2), that of y (2)
        symmetric                     3      L (1), then rows and columns of U at once (2); SupCon too, in two parts
        both sides, or "none"         5      L of both in one sweep (1), gradient of x (2), of y (2)
    fused: distances in at most 16 dimensions: no product, differences in registers
    blocks: half precision and TF32 in more dimensions; U is kept, a block at a time
        one side, both, or "none"     4      L (1), U (1), and U times y and x, by the library (2)
        symmetric                     2½ to 3
        sums of ψ, upstream known     3
    strips: everything else; scores are kept, a strip of rows at a time
        one side, upstream known      3
        both sides, or "none"         4

No atomics; parts are merged in a fixed order: the same bits on every run on the same kind of device. Triton is imported when
it is first needed.

    JESSL_SAFE=1       no software pipelining, for a compiler whose pipeliner is suspected
    JESSL_AUTOTUNE=1   shapes of tiles by timing on the device at hand, kept in ~/.cache/jessl_kernels/shapes.json
"""

from __future__ import annotations

import functools
import importlib.util
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ..problem.row_loss import Labelling, Pairing
from ..problem.score import Score
from ..problem.types import Gradients, Needs, Plan, Upstream, Weighted

NAME = "triton"
DESCRIPTION = "Triton, fused tiles or kernels around the library's products, CUDA tensors"
MISSING = "" if importlib.util.find_spec("triton") else "not installed (pip install triton)"

MOST_ROWS = 2**31 - 2**20  # the end of a tile, or of a range of columns, is a 32-bit number too
MOST_OFFSETS = 64  # diagonals, and kept diagonals: the kernels unroll them


def declines(score: Score, op: str) -> list[str]:
    reasons = [MISSING] if MISSING else []
    if score.x.device.type != "cuda":
        reasons.append(f"x is on {score.x.device}")
    elif torch.cuda.is_available() and torch.version.hip is None and _capability(score.x.device) < (8, 0):
        reasons.append("the GPU is older than Ampere (compute capability 8.0)")
    if score.phi.name not in ("identity", "clamp", "laplace"):
        reasons.append(f"φ {score.phi.name!r} is not compiled into it")
    if max(len(score.exclude.diagonals), len(score.exclude.keep)) > MOST_OFFSETS:
        reasons.append(f"more than {MOST_OFFSETS} diagonals to exclude or to keep")
    if max(score.N, score.M) > MOST_ROWS:
        reasons.append("more than 2³¹ − 2²⁰ rows")
    return reasons


def reduce(score: Score, op: str, cols: bool, workspace: int) -> tuple[Tensor, Tensor]:
    return _run("reduce", score, op, cols, workspace)


def gradient(score: Score, op: str, row: Upstream, col: Upstream | None, needs: Needs, workspace: int) -> Gradients:
    return _run("gradient", score, op, row, col, needs, workspace)


def reduce_and_gradient(
    score: Score, op: str, row: Weighted, col: Weighted | None, needs: Needs, workspace: int
) -> tuple[Tensor, Tensor, Gradients]:
    return _run("reduce_and_gradient", score, op, row, col, needs, workspace)


def paired(score: Score, op: str, pairing: Pairing, needs: Needs, workspace: int) -> tuple[Tensor, Gradients]:
    return _run("paired", score, op, pairing, needs, workspace)


def labelled(score: Score, labelling: Labelling, needs: Needs, workspace: int) -> tuple[Tensor, Gradients]:
    return _run("labelled", score, labelling, needs, workspace)


def whole(score: Score, loss: str) -> bool:
    return loss != "labelled" or _kernels().takes_labels(score)


def top_k(score: Score, k: int, workspace: int) -> tuple[Tensor, Tensor]:
    return _run("top_k", score, k, workspace)


def plan(score: Score, op: str, cols: bool, with_gradient: bool, reduction: str, workspace: int) -> Plan:
    return _kernels().plan(score, op, cols, with_gradient, reduction, workspace)


def _run(function: str, score: Score, *args: Any) -> Any:
    # Triton launches on the current device, which need not be that of x.
    with torch.cuda.device_of(score.x):
        return getattr(_kernels(), function)(score, *args)


@functools.cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


@functools.cache
def _kernels() -> ModuleType:
    from .. import triton

    return triton
