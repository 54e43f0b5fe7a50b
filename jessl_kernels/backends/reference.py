"""The matrix form: every reduction from its definition, with the N×M matrix in memory. Read this first.

    logsumexp   row_i = log Σ_j e^{s_ij}            ∂row_i/∂s_ij = p_ij = e^{s_ij − row_i}
    sum of ψ    row_i = Σ_j ψ(s_ij)                 ∂row_i/∂s_ij = ψ'(s_ij)
    col_j is the same over i.

With upstream gradients g (rows) and h (columns), P_ij = g_i ∂row_i/∂s_ij + h_j ∂col_j/∂s_ij and U = φ'(u) ∘ P:

    dot      dx = α U y                 dy = α Uᵀ x                 dα = Σ_ij U_ij ⟨x_i, y_j⟩
    sqdist   dx_i = 2α Σ_j U_ij (y_j − x_i)   dy_j = 2α Σ_i U_ij (x_i − y_j)   dα = −Σ_ij U_ij ‖x_i − y_j‖²
    dr = P·1    dc = Pᵀ·1               and dx + dy where y is x.

It computes in fp32 (fp64 for fp64). Squared distances are taken by differences.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..problem.psi import PSIS
from ..problem.score import Score
from ..problem.types import Gradients, Needs, Plan, Upstream, Weighted, upstream_of_anchor
from .squared_distance import pull, squared_distances

NAME = "reference"
DESCRIPTION = "pure torch, the matrix form, any device; only when asked for by name"
MISSING = ""


def declines(score: Score, op: str) -> list[str]:
    return []


def reduce(score: Score, op: str, cols: bool, workspace: int) -> tuple[Tensor, Tensor]:
    _, s = _matrices(score)
    if op == "logsumexp":
        row, col = torch.logsumexp(s, dim=1), torch.logsumexp(s, dim=0)
    else:
        terms = PSIS[op].value(s)
        row, col = terms.sum(dim=1), terms.sum(dim=0)
    return row, col if cols else row.new_empty(0)


def gradient(score: Score, op: str, row: Upstream, col: Upstream | None, needs: Needs, workspace: int) -> Gradients:
    t, s = _matrices(score)  # (N, M) each
    p = _slopes(s, op, row, dim=1)
    if col is not None:
        p = p + _slopes(s, op, col, dim=0)
    u = score.phi.derivative(score.scale * t) * p
    x, y = score.x.to(score.dtype), score.keys.to(score.dtype)
    if score.kind == "dot":
        dx, dy = score.scale * (u @ y), score.scale * (u.T @ x)
    else:
        dx, dy = (2 * score.scale * d for d in pull(u, x, y))
    if score.y is None:
        dx = dx + dy
    made = Gradients(dx, dy, (u * t).sum(dtype=torch.float64), p.sum(dim=1), p.sum(dim=0))
    return _only(made, Gradients.zeros(score, needs))


def reduce_and_gradient(
    score: Score, op: str, row: Weighted, col: Weighted | None, needs: Needs, workspace: int
) -> tuple[Tensor, Tensor, Gradients]:
    row_value, col_value = reduce(score, op, col is not None, workspace)
    upstream_row = upstream_of_anchor(op, row, row_value)
    upstream_col = None if col is None else upstream_of_anchor(op, col, col_value)
    return row_value, col_value, gradient(score, op, upstream_row, upstream_col, needs, workspace)


def top_k(score: Score, k: int, workspace: int) -> tuple[Tensor, Tensor]:
    _, s = _matrices(score)
    values, indices = s.topk(k, dim=1)
    return values, indices


def plan(score: Score, op: str, cols: bool, with_gradient: bool, reduction: str, workspace: int) -> Plan:
    matrix = score.N * score.M * score.x.new_empty(0, dtype=score.dtype).element_size()
    return Plan(f"{score.N}×{score.M} matrices", 4 if with_gradient else 1, 4 * matrix)


def _matrices(score: Score) -> tuple[Tensor, Tensor]:
    # t is ⟨x_i, y_j⟩ or −‖x_i − y_j‖², so that u = α t in both kinds; s is the score.
    x, y = score.x.to(score.dtype), score.keys.to(score.dtype)
    t = x @ y.T if score.kind == "dot" else -squared_distances(x, y, out=x.new_empty(score.N, score.M))
    return t, score.finish(score.scale * t, 0, slice(0, score.M))


def _slopes(s: Tensor, op: str, side: Upstream, dim: int) -> Tensor:
    upstream = side.gradient.unsqueeze(dim)
    if side.lse is None:
        return upstream * PSIS[op].slope(s)
    # A row with no pairs has L = −inf; measured from 0 instead, its weights are e^{−inf} = 0 and not NaN.
    lse = torch.where(side.lse == -torch.inf, 0.0, side.lse)
    return upstream * torch.exp(s - lse.unsqueeze(dim))


def _only(made: Gradients, asked: Gradients) -> Gradients:
    return Gradients(*(m if a.numel() else a for m, a in zip(made.flatten(), asked.flatten(), strict=True)))
