"""The matrix form: every reduction from its definition, with the N×M matrix in memory. Read this first.

    logsumexp   N_i = log Σ_j e^{τ s_ij}            ∂N_i/∂s_ij = τ e^{τ s_ij − N_i}        τ a tilt, mostly 1
    sum of ψ    N_i = Σ_j ψ(τ s_ij)                 ∂N_i/∂s_ij = τ ψ'(τ s_ij)
    spread      N_i − mean_j s_ij                   ∂/∂s_ij = e^{s_ij − N_i} − 1/n_i       of positives mostly

and the same over columns. With P_ij = ∂loss/∂s_ij, made from the upstream gradients (see `Weights`), and U = φ'(u) ∘ P:

    dot      dx = α U y                 dy = α Uᵀ x                 dα = Σ_ij U_ij ⟨x_i, y_j⟩
    sqdist   dx_i = 2α Σ_j U_ij (y_j − x_i)   dy_j = 2α Σ_i U_ij (x_i − y_j)   dα = −Σ_ij U_ij ‖x_i − y_j‖²
    dr = P·1    dc = Pᵀ·1               and dx + dy where y is x.

attend, o_i = Σ_j p_ij v_j with p_ij = e^{s_ij − N_i}, has P_ij = p_ij (⟨g_i, v_j⟩ − ⟨g_i, o_i⟩) and dv_j = Σ_i p_ij g_i.

`executor.py` makes the loss from the sums. Computation is in fp32 (fp64 for fp64). Squared distances are taken by differences.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..problem.psi import PSIS
from ..problem.row_loss import RowProblem
from ..problem.score import Score
from ..problem.types import Attended, Gradients, Needs, Plan, Sums, Terms, Weights
from . import torch_neighbours
from .executor import Executor, Sweeps
from .squared_distance import pull, squared_distances

NAME = "reference"
DESCRIPTION = "pure torch, the matrix form, any device; only when asked for by name"
MISSING = ""


def declines(problem: Score | RowProblem, op: str) -> list[str]:
    return []


class Matrices(Sweeps):
    """Both sweeps over a matrix of scores."""

    def sums(self, score: Score, terms: Terms, cols: bool, workspace: int) -> tuple[Sums, Sums | None]:
        _, s = _matrices(score)
        return _sums(s, terms), _sums(s.T, terms) if cols else None

    def grads(
        self, score: Score, terms: Terms, row: Weights, col: Weights | None, needs: Needs, to: Gradients, workspace: int
    ) -> None:
        t, s = _matrices(score)  # (N, M) each
        p = _weighted(s, terms, row)
        if col is not None:
            p = p + _weighted(s.T, terms, col).T
        _add(score, t, p, needs, to)


def _add(score: Score, t: Tensor, p: Tensor, needs: Needs, to: Gradients) -> None:
    """Add the gradients for P."""
    u = score.phi.derivative(score.scale * t) * p
    x, y = score.x.to(score.dtype), score.keys.to(score.dtype)
    if score.kind == "dot":
        dx, dy = score.scale * (u @ y), score.scale * (u.T @ x)
    else:
        dx, dy = (2 * score.scale * d for d in pull(u, x, y))
    if needs.x:
        to.x += dx + dy if score.y is None else dx
    if to.y.numel():
        to.y += dy[needs.y]
    if needs.scale:
        to.scale += (u * t).sum(dtype=to.scale.dtype)
    if needs.row_bias:
        to.row_bias += p.sum(dim=1)
    if needs.col_bias:
        to.col_bias += p.sum(dim=0)


def attend(score: Score, values: Tensor, workspace: int) -> tuple[Tensor, Sums]:
    _, s = _matrices(score)
    sums = _sums(s, Terms())
    return _weighted(s, Terms(), Weights.of_softmax(sums)) @ values.to(score.dtype), sums


def attend_grads(
    score: Score, sums: Sums, of: Attended, needs: Needs, with_values: bool, workspace: int
) -> tuple[Gradients, Tensor]:
    t, s = _matrices(score)
    p = _weighted(s, Terms(), Weights.of_softmax(sums))
    of = of._replace(values=of.values.to(score.dtype))
    grads = Gradients.zeros(sums.total, score, needs)
    _add(score, t, p * of.of_shares(), needs, grads)
    return grads, p.T @ of.upstream if with_values else p.new_empty(0)


def top_k(score: Score, k: int, workspace: int) -> tuple[Tensor, Tensor]:
    _, s = _matrices(score)
    values, indices = s.topk(k, dim=1)
    return values, indices


def plan(score: Score, terms: Terms, cols: bool, with_gradient: bool, reduction: str, workspace: int) -> Plan:
    matrix = score.N * score.M * score.x.new_empty(0, dtype=score.dtype).element_size()
    guided = (score.exclude.guide is not None) * (2 if with_gradient else 1)
    return Plan(f"{score.N}×{score.M} matrices", (4 if with_gradient else 1) + guided, 4 * matrix)


WHOLE = 1 << 62  # workspace for the whole matrix of distances


def kth_distance(score: Score, norm: str, k: int, workspace: int) -> Tensor:
    return torch_neighbours.kth_distance(score, norm, k, WHOLE)


def count_nearer(score: Score, limit: Tensor, workspace: int) -> Tensor:
    return torch_neighbours.count_nearer(score, limit, WHOLE)


def reach_of_nearer(score: Score, split: int, limit: Tensor, workspace: int) -> Tensor:
    return torch_neighbours.reach_of_nearer(score, split, limit, WHOLE)


def _matrices(score: Score) -> tuple[Tensor, Tensor]:
    # t is ⟨x_i, y_j⟩ or −‖x_i − y_j‖², so that u = α t in both kinds; s is the score.
    x, y = score.x.to(score.dtype), score.keys.to(score.dtype)
    t = x @ y.T if score.kind == "dot" else -squared_distances(x, y, out=x.new_empty(score.N, score.M))
    return t, score.finish(score.scale * t, 0, slice(0, score.M))


def _sums(s: Tensor, terms: Terms) -> Sums:
    """Sums over the columns of a matrix of scores, in which excluded pairs are −inf."""
    there = s != -torch.inf
    linear = torch.where(there, s, 0.0).sum(dim=1) if terms.linear else None
    count = there.sum(dim=1).to(s.dtype) if terms.linear else None
    if terms.op != "logsumexp":
        psi = PSIS[terms.op]
        totals = [torch.where(there, psi.value(tilt * s), 0.0).sum(dim=1) for tilt in terms.tilts]
        return Sums(None, torch.stack(totals), linear, count)
    # The reference is 0 if there is no pair, or one is infinite: differences from their maximum would be NaN.
    largest = torch.stack([tilt * s.amax(dim=1) for tilt in terms.tilts])
    largest = torch.where(largest.isinf(), 0.0, largest)
    totals = [(tilt * s - m[:, None]).exp().sum(dim=1) for tilt, m in zip(terms.tilts, largest, strict=True)]
    return Sums(largest, torch.stack(totals), linear, count)


def _weighted(s: Tensor, terms: Terms, side: Weights) -> Tensor:
    """P_ij of one side, for a matrix of scores whose rows are that side."""
    there = s != -torch.inf
    if side.reference is None:
        psi = PSIS[terms.op]
        slopes = [f[:, None] * psi.slope(tilt * s) for tilt, f in zip(terms.tilts, side.factor, strict=True)]
        return torch.where(there, torch.stack(slopes).sum(dim=0), 0.0)
    powers = [(tilt * s - m[:, None]).exp() for tilt, m in zip(terms.tilts, side.reference, strict=True)]
    p = torch.stack([f[:, None] * e for f, e in zip(side.factor, powers, strict=True)]).sum(dim=0)
    if side.spread is not None and side.mean is not None:
        p = p + torch.where(there, side.spread[:, None] * powers[0] - side.mean[:, None], 0.0)
    return p


_executor = Executor(Matrices())
row_sums, row_grads, row_loss, total = _executor.row_sums, _executor.row_grads, _executor.row_loss, _executor.total
