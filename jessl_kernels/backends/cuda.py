"""CUDA C++ kernels on the GPU, for machines without Triton: `jessl_kernels/cuda` computes.

Products of 2·N·M·D flops, value and gradient, on strips of scores:

    one side, upstream known      3
    both sides, or "none"         4
    softmax-weighted values       2 and 5, the values as wide as the embeddings: value, gradient
    up to 32 dimensions           none, t in registers
    up to 1,024 rows and columns  3; 4 if the upstream comes later; all by its own kernels

No atomics; sums run in a fixed order: the same bits on every run on the same kind of device. Nothing here waits for the device.
"""

from __future__ import annotations

import torch

from .. import cuda
from ..native import cuda_status
from ..problem.row_loss import RowProblem
from ..problem.score import Score
from ..problem.types import Plan, Terms
from .compiled import FUNCTIONS, on_its_device, too_many_offsets, unknown_words
from .torch_neighbours import count_nearer as count_nearer
from .torch_neighbours import kth_distance as kth_distance
from .torch_neighbours import reach_of_nearer as reach_of_nearer

NAME = "cuda"
DESCRIPTION = "CUDA C++, CUDA tensors"
MISSING = cuda_status().reason

DEVICE = "cuda"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MOST_TILTS = 4  # sums of each row (csrc/cuda/strip.h)
MOST_PARTS = 1 << 16  # of the rows' and columns' gradients, in few dimensions (csrc/cuda/few.cuh)


def declines(problem: Score | RowProblem, op: str) -> list[str]:
    reasons = [MISSING] if MISSING else []
    if problem.device.type != DEVICE:
        reasons.append(f"x is on {problem.device}")
    elif problem.device.type == "cuda" and not MISSING and (why := cuda.unserved(problem.device.index or 0)):
        reasons.append(why)
    if problem.input_dtype not in DTYPES and op != "nearest":
        reasons.append(f"{str(problem.input_dtype).removeprefix('torch.')} is not compiled into it")
    reasons += unknown_words(problem, op) + too_many_offsets(problem)
    if isinstance(problem, RowProblem) and len(problem.negatives.tilts) > MOST_TILTS:
        reasons.append(f"more than {MOST_TILTS} tilts")
    return reasons


row_sums, row_grads, row_loss, total, top_k, attend, attend_grads = on_its_device(lambda: cuda, FUNCTIONS)


def plan(score: Score, terms: Terms, cols: bool, with_gradient: bool, reduction: str, workspace: int) -> Plan:
    one_call = reduction in ("sum", "mean")
    if cuda.without_strips(score) and reduction not in ("top_k", "attend"):
        return _plan_without_strips(score, with_gradient, one_call)
    rows, ld = cuda.sizes(score, workspace)
    differences = cuda.by_differences(score)
    return Plan(
        path=f"strips of {rows} rows, {'distances by differences' if differences else 'products by the library'}",
        gemms=0 if differences else 1 if not with_gradient else 3 if one_call and not cols else 4,
        workspace=rows * ld * score.dtype.itemsize * (1 + with_gradient),
    )


def _plan_without_strips(score: Score, with_gradient: bool, one_call: bool) -> Plan:
    if cuda.few(score):
        parts = MOST_PARTS * (score.D + 2) * score.dtype.itemsize
        return Plan("no strips: few dimensions, scores in registers", gemms=0, workspace=parts)
    gemms = 1 if not with_gradient else 3 if one_call else 4
    held = score.N * score.M * score.dtype.itemsize
    return Plan("no strips: a small batch, all scores in memory", gemms, held * (1 + with_gradient))
