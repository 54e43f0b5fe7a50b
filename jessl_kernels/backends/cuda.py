"""CUDA C++ kernels on the GPU, for machines without Triton: `jessl_kernels/cuda` computes.

Products of 2·N·M·D flops, value and gradient, on strips of scores:

    one side, upstream known      3
    both sides, or "none"         4
    softmax-weighted values       2 and 5, the values as wide as the embeddings: value, gradient
    distances up to 16 dimensions none, differences in registers

No atomics; sums run in a fixed order: the same bits on every run on the same kind of device. Nothing here waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .. import cuda
from ..native import cuda_status
from ..problem.row_loss import RowProblem
from ..problem.score import Score
from ..problem.types import Plan, Terms
from .torch_neighbours import count_nearer as count_nearer
from .torch_neighbours import kth_distance as kth_distance
from .torch_neighbours import reach_of_nearer as reach_of_nearer

NAME = "cuda"
DESCRIPTION = "CUDA C++, kernels around the library's products, CUDA tensors"
MISSING = cuda_status().reason

DEVICE = "cuda"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
PHIS = ("identity", "clamp", "laplace", "student", "tophat", "epanechnikov", "linear", "cosine")
OPS = ("logsumexp", "softplus", "log1m_exp", "step", "nearest")
MOST_OFFSETS, MOST_TILTS = 64, 4  # diagonals, or kept diagonals; sums of each row (csrc/cuda/strip.h)


def declines(problem: Score | RowProblem, op: str) -> list[str]:
    reasons = [MISSING] if MISSING else []
    if problem.device.type != DEVICE:
        reasons.append(f"x is on {problem.device}")
    elif problem.device.type == "cuda" and not MISSING and (why := cuda.unserved(problem.device.index or 0)):
        reasons.append(why)
    if problem.input_dtype not in DTYPES and op != "nearest":
        reasons.append(f"{str(problem.input_dtype).removeprefix('torch.')} is not compiled into it")
    if problem.phi.name not in PHIS:
        reasons.append(f"φ {problem.phi.name!r} is not compiled into it")
    if op not in OPS:
        reasons.append(f"ψ {op!r} is not compiled into it")
    if max(len(problem.exclude.diagonals), len(problem.exclude.keep)) > MOST_OFFSETS:
        reasons.append(f"more than {MOST_OFFSETS} diagonals to exclude or to keep")
    if isinstance(problem, RowProblem) and len(problem.negatives.tilts) > MOST_TILTS:
        reasons.append(f"more than {MOST_TILTS} tilts")
    if problem.exclude.guide is not None:
        reasons.append("a guide is not compiled into it")
    return reasons


def _on_its_device(function: str) -> Callable[..., Any]:
    """A function of jessl_kernels/cuda on the embeddings' device, where its temporary tensors and launches belong."""

    def run(problem: Score | RowProblem, *args: Any) -> Any:
        with torch.cuda.device_of(problem.x if isinstance(problem, Score) else problem.x[0]):
            return getattr(cuda, function)(problem, *args)

    return run


row_sums, row_grads, row_loss, total, top_k, attend, attend_grads = map(
    _on_its_device, ("row_sums", "row_grads", "row_loss", "total", "top_k", "attend", "attend_grads")
)


def plan(score: Score, terms: Terms, cols: bool, with_gradient: bool, reduction: str, workspace: int) -> Plan:
    rows, ld = cuda.sizes(score, workspace)
    one_pass = reduction in ("sum", "mean") and not cols
    few = cuda.by_differences(score)
    return Plan(
        path=f"strips of {rows} rows, {'distances by differences' if few else 'products by the library'}",
        gemms=0 if few else 1 if not with_gradient else 3 if one_pass else 4,
        workspace=rows * ld * score.dtype.itemsize * (1 + with_gradient),
    )
