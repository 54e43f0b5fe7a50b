"""Triton on the GPU: fused kernels over tiles, or kernels around the library's products; `jessl_kernels/triton` computes.

Products of 2·N·M·D flops, value and gradient:

    fused: bf16 and fp16 up to 256 dimensions, fp32 up to 128 if torch's switch allows TF32; no N×M object, not even a strip
        one side, upstream known      4      sums and the gradient of x, Σ e^s y_j, in one sweep (2); the gradient of y (2)
        sums of ψ, upstream known     4      sums and the gradient of x (2); the gradient of y (2)
        symmetric                     3      sums (1), rows and columns of U at once (2); several positives a row: in two parts
        both sides, or "none"         5      sums of both in one sweep (1), the gradients of x (2) and of y (2)
    fused: distances in up to 16 dimensions: no product, differences in registers
    blocks: half precision and TF32 in more dimensions; one block of U is kept at a time
        one side, both, or "none"     4      sums (1), U (1), and U times y and x, by the library (2)
        symmetric                     2½ to 3
        sums of ψ, upstream known     3
    strips: everything else; one strip of scores is kept at a time
        one side, upstream known      3
        both sides, or "none"         4
        softmax-weighted values       2 and 5, the values as wide as the embeddings: value, gradient

No atomics; parts are merged in a fixed order: the same bits on every run on the same kind of device. Triton is imported when
it is first needed.

    JESSL_SAFE=1       no software pipelining, for a compiler whose pipeliner is suspected
    JESSL_AUTOTUNE=1   tile shapes by timing on the present device, kept in ~/.cache/jessl_kernels/shapes.json
"""

from __future__ import annotations

import functools
import importlib.util
from types import ModuleType

import torch

from ..problem.row_loss import RowProblem
from ..problem.score import Score
from ..problem.types import Plan, Terms
from .compiled import FUNCTIONS, on_its_device, too_many_offsets, unknown_words
from .torch_neighbours import count_nearer as count_nearer
from .torch_neighbours import kth_distance as kth_distance
from .torch_neighbours import reach_of_nearer as reach_of_nearer

NAME = "triton"
DESCRIPTION = "Triton, fused tiles or kernels around the library's products, CUDA tensors"
MISSING = "" if importlib.util.find_spec("triton") else "not installed (pip install triton)"

MOST_ROWS = 2**31 - 2**20  # the end of a tile, or of a range of columns, must fit 32 bits too


def declines(problem: Score | RowProblem, op: str) -> list[str]:
    reasons = [MISSING] if MISSING else []
    if problem.device.type != "cuda":
        reasons.append(f"x is on {problem.device}")
    elif torch.cuda.is_available() and torch.version.hip is None and _capability(problem.device) < (8, 0):
        reasons.append("the GPU is older than Ampere (compute capability 8.0)")
    reasons += unknown_words(problem, op) + too_many_offsets(problem)
    if max(problem.N, problem.M) > MOST_ROWS:
        reasons.append("more than 2³¹ − 2²⁰ rows")
    return reasons


def plan(score: Score, terms: Terms, cols: bool, with_gradient: bool, reduction: str, workspace: int) -> Plan:
    return _kernels().plan(score, terms, cols, with_gradient, reduction, workspace)


@functools.cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


@functools.cache
def _kernels() -> ModuleType:
    from .. import triton

    return triton


row_sums, row_grads, row_loss, total, top_k, attend, attend_grads = on_its_device(_kernels, FUNCTIONS)
