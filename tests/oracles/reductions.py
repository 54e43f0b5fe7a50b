"""Scores, exclusion and the reductions over them.

    dot      u_ij = α⟨x_i, y_j⟩            s_ij = φ(u_ij) + r_i + c_j
    sqdist   u_ij = −α‖x_i − y_j‖²

Excluded pairs are (N, M) bool matrices, True for an excluded pair.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .precision import inner_products, random_last_bit

Phi = None | str | tuple[str, float, float] | tuple[str, float]
Ids = tuple[Tensor, Tensor] | None


def score(
    x: Tensor,
    y: Tensor | None = None,
    *,
    kind: str = "dot",
    phi: Phi = None,
    scale: float | Tensor = 1.0,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
) -> Tensor:
    """The (N, M) matrix s. phi is None, "laplace" (−√−u), ("clamp", low, high), ("student", power) or a compact one."""
    y = x if y is None else y
    s = apply_phi(scale * (inner_products(x, y) if kind == "dot" else -squared_distances(x, y)), phi)
    if row_bias is not None:
        s = s + row_bias[:, None]
    if col_bias is not None:
        s = s + col_bias[None, :]
    return s


def distances(x: Tensor, y: Tensor) -> Tensor:
    """‖x_i − y_j‖, by differences; its gradient where two points coincide is 0."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    return random_last_bit(distances(x, y).square())


def apply_phi(u: Tensor, phi: Phi) -> Tensor:
    if phi is None:
        return u
    if phi == "laplace":
        apart = u != 0
        return torch.where(apart, -torch.where(apart, -u, 1.0).sqrt(), 0.0)  # its gradient at u = 0 is 0, not NaN
    if isinstance(phi, str):
        return log_compact(phi, -u)
    if phi[0] == "student":
        return -phi[1] * torch.log1p(-u / phi[1])
    name, low, high = phi
    assert name == "clamp"
    return u.clamp(low, high)


def log_compact(name: str, square: Tensor) -> Tensor:
    """log of 1, 1 − r², 1 − r or cos(πr/2) for r² < 1, −inf beyond; its gradient by r is 0 at r = 0 and beyond."""
    inside = square < 1
    square = torch.where(inside, square, 0.0)
    apart = square > 0
    r = torch.where(apart, torch.where(apart, square, 1.0).sqrt(), 0.0)
    value = {
        "tophat": lambda: 0 * square,
        "epanechnikov": lambda: torch.log1p(-square),
        "linear": lambda: torch.log1p(-r),
        "cosine": lambda: torch.sin(0.5 * torch.pi * (1 - square) / (1 + r)).log(),
    }[name]()
    return torch.where(inside, value, -torch.inf)


def excluded(
    N: int,
    M: int,
    diagonals: Sequence[int] = (),
    same: Ids = None,
    different: Ids = None,
    keep: Sequence[int] = (),
) -> Tensor:
    """(N, M) bool, True for an excluded pair: by its diagonal j − i or by its ids, unless that diagonal is kept."""
    offset = torch.arange(M)[None, :] - torch.arange(N)[:, None]
    out = torch.zeros(N, M, dtype=torch.bool)
    for diagonal in diagonals:
        out |= offset == diagonal
    if same is not None:
        out |= _match(*same)
    if different is not None:
        out |= ~_match(*different)
    for diagonal in keep:
        out &= offset != diagonal
    return out


def _match(row_ids: Tensor, col_ids: Tensor) -> Tensor:
    return (row_ids[:, None] == col_ids[None, :]) & (row_ids[:, None] >= 0)  # a negative id matches nothing


def logsumexp(s: Tensor, out: Tensor | None = None, *, dim: int = 1, anchor: Tensor | None = None) -> Tensor:
    """log Σ e^s over the included pairs, or log(1 + Σ e^{s − anchor}); dim=1 per row, dim=0 per column."""
    if out is not None:
        s = s.masked_fill(out, -torch.inf)
    empty = (s == -torch.inf).all(dim=dim)
    # An empty row is computed as one of zeros and replaced: −inf − (−inf) would make its gradient NaN.
    s = s.masked_fill(empty.unsqueeze(dim), 0.0)
    if (
        s.dtype == torch.float64
    ):  # e^{s − most} / Σ, where torch's own gradient e^{s − lse} has the rounding of the lse in it
        most = s.detach().amax(dim=dim, keepdim=True)
        most = torch.where(most.isinf(), 0.0, most)
        lse = (s - most).exp().sum(dim=dim).log() + most.squeeze(dim)
    else:
        lse = torch.logsumexp(s, dim=dim)
    lse = lse.masked_fill(empty, -torch.inf)
    return lse if anchor is None else softplus((lse - anchor).masked_fill(empty, -torch.inf))


def total_logsumexp(s: Tensor, out: Tensor | None = None) -> Tensor:
    """log Σ_ij e^{s_ij} over all included pairs."""
    return logsumexp(s.reshape(1, -1), None if out is None else out.reshape(1, -1))[0]


def softplus(s: Tensor) -> Tensor:
    """log(1 + e^s), exact to the last bits for every s (torch's own is s itself above 20)."""
    return torch.logaddexp(s, torch.zeros_like(s))


def softplus_sum(s: Tensor, out: Tensor | None = None, *, dim: int = 1) -> Tensor:
    """Σ log(1 + e^s) over the included pairs."""
    terms = softplus(s)
    return (terms if out is None else terms.masked_fill(out, 0.0)).sum(dim=dim)


def topk(s: Tensor, out: Tensor | None = None, *, k: int = 1, dim: int = 1) -> tuple[Tensor, Tensor]:
    """The k largest scores per row (dim=1) or column (dim=0) and their places; missing ones are −inf and −1."""
    if out is not None:
        s = s.masked_fill(out, -torch.inf)
    values, indices = (s if dim == 1 else s.T).topk(k, dim=1)
    return values, indices.masked_fill(values == -torch.inf, -1)


def reduce(rows: Tensor, reduction: str, weights: Tensor | None = None) -> Tensor:
    """The rows ("none"), Σ w_i row_i ("sum"), Σ w_i row_i / N ("mean") or log Σ e^{row_i} ("logsumexp")."""
    if reduction == "logsumexp":
        return logsumexp(rows[None, :])[0]
    if weights is not None:
        rows = torch.where(weights == 0, 0.0, weights * rows)
    return {"none": lambda r: r, "sum": torch.sum, "mean": torch.mean}[reduction](rows)


def attend(s: Tensor, values: Tensor, out: Tensor | None = None) -> Tensor:
    """Σ_j p_ij v_j with the softmax p of the included pairs of each row; 0 for a row without pairs."""
    if out is not None:
        s = s.masked_fill(out, -torch.inf)
    empty = (s == -torch.inf).all(dim=1, keepdim=True)
    p = s.masked_fill(empty, 0.0).softmax(dim=1).masked_fill(empty, 0.0)
    return inner_products(p, values.T)
