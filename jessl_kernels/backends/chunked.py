"""Strips of rows in plain torch: O(N·D) memory plus one strip of scores, on any device.

    for each strip of B rows:   S = φ(α X_b Yᵀ) + r + c          (B, M), the only N×M object, never all of it at once
        value      row_b = log Σ_j e^{S_bj};   col merges strip after strip, in order
        gradient   P = g_i e^{S − row_i} + h_j e^{S − col_j},   U = φ' ∘ P;   dX_b += α U Y,   dY += α Uᵀ X_b

Products spent (2·N·M·D flops each): value 1. Value and gradient 3 where a row's upstream gradient is known in advance and no
column is asked for, because its log-sum-exp is complete when its strip is, and U is made from the same S; else 4.

Strips are small enough to stay in cache, so the elementwise passes cost little beside the products. Sums run in a fixed
order: the same bits on every run. `reference.py` specifies the results, `strips.py` fills the strips.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..problem.psi import PSIS
from ..problem.score import Score
from ..problem.types import Gradients, Needs, Plan, Upstream, Weighted, known_upstream, upstream_of_anchor
from .strips import Buffers, Strip, Strips, choose_filling

NAME = "chunked"
DESCRIPTION = "pure torch, strips of rows, any device"
MISSING = ""

# e^t below the smallest normal number is flushed to 0. Where many weights are subnormal (small temperatures, KDE in high
# dimension) exp would take 20 to 40 times longer: measured 24.5 ms instead of 0.6 ms for 2²⁰ numbers.
SMALLEST_EXPONENT = {torch.float32: -87.0, torch.float64: -708.0}


def declines(score: Score, op: str) -> list[str]:
    return []


def reduce(score: Score, op: str, cols: bool, workspace: int) -> tuple[Tensor, Tensor]:
    row, col = _Rows(score, op), _Columns(score, op, wanted=cols)
    for strip in Strips(score, workspace, scratch=cols):
        col.absorb(strip)
        row.absorb(strip)
    return row.value, col.value()


def gradient(score: Score, op: str, row: Upstream, col: Upstream | None, needs: Needs, workspace: int) -> Gradients:
    grads = Gradients.zeros(score, needs)
    for strip in Strips(score, workspace, keep_t=_needs_t(score, needs), scratch=col is not None):
        strip.pull_back(_weights(strip, op, row, col), grads)
    return grads


def reduce_and_gradient(
    score: Score, op: str, row: Weighted, col: Weighted | None, needs: Needs, workspace: int
) -> tuple[Tensor, Tensor, Gradients]:
    if col is not None:
        # A column is complete only after the last strip: one pass for the values, one for the gradients.
        row_value, col_value = reduce(score, op, True, workspace)
        upstream = upstream_of_anchor(op, row, row_value), upstream_of_anchor(op, col, col_value)
        return row_value, col_value, gradient(score, op, *upstream, needs, workspace)
    grads, values = Gradients.zeros(score, needs), _Rows(score, op)
    for strip in Strips(score, workspace, keep_t=_needs_t(score, needs)):
        part = Weighted(row.weight[strip.rows], None if row.anchor is None else row.anchor[strip.rows])
        strip.pull_back(values.absorb_and_differentiate(strip, part), grads)
    return values.value, values.value.new_empty(0), grads


def top_k(score: Score, k: int, workspace: int) -> tuple[Tensor, Tensor]:
    values = torch.empty(score.N, k, dtype=score.dtype, device=score.x.device)
    indices = torch.empty(score.N, k, dtype=torch.int64, device=score.x.device)
    for strip in Strips(score, workspace, narrow=False):
        values[strip.rows], indices[strip.rows] = strip.scores.topk(k, dim=1)
    return values, indices


def plan(score: Score, op: str, cols: bool, with_gradient: bool, reduction: str, workspace: int) -> Plan:
    one_pass = not with_gradient or (known_upstream(reduction) and not cols)
    filling = choose_filling(score)
    keep_t = with_gradient and _needs_t(score, Needs(True, True, True, True, True))
    buffers = Buffers.plan(score, filling, workspace, keep_t=keep_t, scratch=cols)
    return Plan(
        path=f"strips of {buffers.rows} rows, {'one pass' if one_pass else 'two passes'}; {filling.why}",
        gemms=1 if not with_gradient else 3 if one_pass else 4,
        workspace=buffers.bytes,
    )


class _Rows:
    """Row values: a row is complete when its strip is."""

    def __init__(self, score: Score, op: str):
        empty = -torch.inf if op == "logsumexp" else 0.0  # rows whose strip is skipped, as no column is in reach
        self.value = torch.full((score.N,), empty, dtype=score.dtype, device=score.x.device)
        self.op = op

    def absorb(self, strip: Strip) -> Tensor | None:
        """Take a strip's rows in. For a log-sum-exp, leaves e^{s − max} in its scores and returns their row sums."""
        if self.op != "logsumexp":
            self.value[strip.rows] = PSIS[self.op].value(strip.scores).sum(dim=1)
            return None
        s = strip.scores
        largest = _finite(s.amax(dim=1))
        total = _exp_(s.sub_(largest[:, None])).sum(dim=1)
        self.value[strip.rows] = total.log() + largest
        return total

    def absorb_and_differentiate(self, strip: Strip, part: Weighted) -> Tensor:
        """Take a strip's rows in and return P for their known weights, (B, C)."""
        total = self.absorb(strip)
        upstream = upstream_of_anchor(self.op, part, self.value[strip.rows]).gradient
        if total is None:
            return PSIS[self.op].slope(strip.scores).mul_(upstream[:, None])
        return strip.scores.mul_(torch.where(total == 0, 0.0, upstream / total)[:, None])


class _Columns:
    """Column values, merged strip after strip; an empty tensor if nobody wants them."""

    def __init__(self, score: Score, op: str, *, wanted: bool):
        self.op, self.wanted = op, wanted
        self.total = torch.zeros(score.M if wanted else 0, dtype=score.dtype, device=score.x.device)
        self.largest = torch.full_like(self.total, -torch.inf)

    def absorb(self, strip: Strip) -> None:
        """Take a strip in; its scores stay as they are."""
        if not self.wanted:
            return
        s, columns = strip.scores, strip.columns
        if self.op != "logsumexp":
            self.total[columns] += PSIS[self.op].value(s).sum(dim=0)
            return
        before = self.largest[columns]
        now = torch.maximum(before, s.amax(dim=0))
        e = _exp_(torch.sub(s, _finite(now)[None, :], out=strip.scratch))
        self.total[columns] = self.total[columns] * torch.exp(before - _finite(now)) + e.sum(dim=0)
        self.largest[columns] = now

    def value(self) -> Tensor:
        return self.total.log() + _finite(self.largest) if self.op == "logsumexp" else self.total


def _weights(strip: Strip, op: str, row: Upstream, col: Upstream | None) -> Tensor:
    """P_ij = g_i ∂row_i/∂s_ij + h_j ∂col_j/∂s_ij, (B, C); overwrites the strip's buffers."""
    g = row.gradient[strip.rows, None]
    if op != "logsumexp":
        upstream = g if col is None else g + col.gradient[None, strip.columns]
        return PSIS[op].slope(strip.scores).mul_(upstream)
    assert row.lse is not None
    p = torch.sub(strip.scores, _finite(row.lse[strip.rows, None]), out=strip.scores if col is None else strip.scratch)
    p = _exp_(p).mul_(g)
    if col is not None:
        assert col.lse is not None
        q = _exp_(strip.scores.sub_(_finite(col.lse[None, strip.columns])))
        p += q.mul_(col.gradient[None, strip.columns])
    return p


def _exp_(t: Tensor) -> Tensor:
    smallest = SMALLEST_EXPONENT[t.dtype]
    return torch.threshold_(t, smallest, -torch.inf).exp_()


def _finite(largest: Tensor) -> Tensor:
    # Where every score of a row is −inf (or one is +inf) differences from its maximum would be NaN; from 0 they are right.
    return torch.where(largest.isinf(), 0.0, largest)


def _needs_t(score: Score, needs: Needs) -> bool:
    return score.phi.name != "identity" or (needs.scale and score.kind == "sqdist")
