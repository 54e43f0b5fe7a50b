"""Strips of rows in plain torch: O(N·D) memory plus one strip of scores, on any device.

`strips.py` runs the sweeps; `torch_kernels.py` fills the strips and makes their sums and weights. Products spent (2·N·M·D flops
each): 1 for sums; 3 for value and gradient if a row's upstream gradient is known in advance and no column has a sum, else 4.
"""

from __future__ import annotations

from torch import Tensor

from ..problem.row_loss import RowProblem
from ..problem.score import Score
from ..problem.types import NOTHING, Needs, Plan, Terms
from .executor import Executor
from .strips import Strips
from .torch_kernels import Buffers, TorchKernels, choose_filling
from .torch_neighbours import count_nearer as count_nearer
from .torch_neighbours import kth_distance as kth_distance
from .torch_neighbours import reach_of_nearer as reach_of_nearer

NAME = "chunked"
DESCRIPTION = "pure torch, strips of rows, any device"
MISSING = ""


def declines(problem: Score | RowProblem, op: str) -> list[str]:
    return []


def top_k(score: Score, k: int, workspace: int) -> tuple[Tensor, Tensor]:
    return _strips.top_k(score, k, workspace)


def plan(score: Score, terms: Terms, cols: bool, with_gradient: bool, reduction: str, workspace: int) -> Plan:
    one_pass = not with_gradient or (reduction in ("sum", "mean") and not cols)
    filling = choose_filling(score)
    needs = Needs(True, slice(0, score.M), True, True, True) if with_gradient else NOTHING
    buffers = Buffers.plan(score, filling, terms, workspace, cols, needs)
    guided = 0 if score.exclude.guide is None else 1 if one_pass else 2
    return Plan(
        path=f"strips of {buffers.rows} rows, {'one pass' if one_pass else 'two passes'}; {filling.why}",
        gemms=(1 if not with_gradient else 3 if one_pass else 4) + guided,
        workspace=buffers.bytes,
    )


_strips = Strips(TorchKernels)
_executor = Executor(_strips)
attend, attend_grads = _strips.attend, _strips.attend_grads
row_sums, row_grads, row_loss, total = _executor.row_sums, _executor.row_grads, _executor.row_loss, _executor.total
