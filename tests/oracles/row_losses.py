"""Losses of rows from their definition: sums over a mask of negatives and a mask of positives, and a formula of these.

N_i = log Σ_j e^{tilt·s_ij} over negatives      P_i = log Σ_p e^{s_ip} over positives      spread_i = P_i − mean_p s_ip
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .precision import unit_embeddings
from .reductions import Phi, excluded, logsumexp, score, softplus

Ids = tuple[Tensor, Tensor]


def excess(N: Tensor, P: Tensor) -> Tensor:
    """log(1 + e^{N − P})."""
    return torch.where(-torch.inf == N, 0.0, softplus(torch.where(-torch.inf == N, 0.0, N) - P))


JOINS = {
    "none": lambda N, P, spread, n: N[0],
    "softplus": lambda N, P, spread, n: excess(N[0], P),
    "difference": lambda N, P, spread, n: N[0] - P,
    "sum": lambda N, P, spread, n: N[0] + P,
    "softplus_spread": lambda N, P, spread, n: excess(N[0], P) + spread,
    "softplus_count": lambda N, P, spread, n: excess(N[0], P) + n.log(),
    "tilt_difference": lambda N, P, spread, n: N[0] - N[1] - P,
}
PSIS = {
    "softplus": softplus,
    "log1m_exp": lambda s: torch.log1p(-torch.exp(s)),
    "step": lambda s: torch.where(s > 0, 1.0, 0.0) + 0.0 * s,
}


def positives_of(
    N: int, M: int, shift: int | None = None, index: Tensor | None = None, ids: Ids | None = None
) -> Tensor:
    """(N, M) bool, True where a pair is a positive."""
    positive = torch.zeros(N, M, dtype=torch.bool)
    row = torch.arange(N)
    if shift is not None:
        positive[row, (row + shift) % M] = True
    if index is not None:
        positive[row[index >= 0], index[index >= 0]] = True
    if ids is not None:
        positive = (ids[0][:, None] == ids[1][None, :]) & (ids[0] >= 0)[:, None]
    return positive


def excluded_by(
    N: int, M: int, diagonals: Sequence[int] = (), same: Sequence[Ids] = (), keep: Sequence[int] = ()
) -> Tensor:
    """(N, M) bool: by diagonals or by any of several pairs of ids, unless kept."""
    out = excluded(N, M, diagonals)
    for pair in same:
        out |= excluded(N, M, same=pair)
    offset = torch.arange(M)[None, :] - torch.arange(N)[:, None]
    for diagonal in keep:
        out &= offset != diagonal
    return out


def row_loss(
    x: Tensor,
    y: Tensor | None = None,
    *,
    join: str,
    positive: Tensor | None = None,
    out: Tensor | None = None,
    score_of_positives: Tensor | None = None,
    tilts: Sequence[float] = (1.0,),
    negatives: str = "logsumexp",
    of_positives: str = "logsumexp",
    also: Tensor | None = None,
    kind: str = "dot",
    phi: Phi = None,
    scale: float | Tensor = 1.0,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
    normalize: bool = False,
    columns: bool = False,
) -> Tensor:
    """(N,) each row's loss, or with `columns` (M,) each column's. positive, out: (N, M) bool masks of pairs."""
    if normalize:
        x, y = unit_embeddings(x), None if y is None else unit_embeddings(y)
    s = score(x, y, kind=kind, phi=phi, scale=scale, row_bias=row_bias, col_bias=col_bias)
    there = torch.ones_like(s, dtype=torch.bool) if out is None else ~out
    positive = torch.zeros_like(there) if positive is None else positive
    if columns:
        s, there, positive = s.T, there.T, positive.T
    rival, positive = there & ~positive, there & positive

    def summed(word: str, mask: Tensor, tilt: float) -> Tensor:
        if word == "logsumexp":
            return logsumexp(tilt * s, ~mask)
        return torch.where(mask, PSIS[word](torch.where(mask, tilt * s, -1.0)), 0.0).sum(dim=1)

    N = [summed(negatives, rival, tilt) for tilt in tilts]
    if also is not None:
        N[0] = torch.logaddexp(N[0], also)
    if score_of_positives is not None:
        P, count, mean = score_of_positives, torch.ones_like(score_of_positives), score_of_positives
    else:
        count = positive.sum(dim=1).to(s.dtype)
        none = count == 0
        sign = 1.0 if of_positives == "logsumexp" else -1.0
        P = summed(of_positives, positive | none[:, None], sign).masked_fill(none, 0.0)
        mean = torch.where(positive, s, 0.0).sum(dim=1) / count.clamp_min(1)
    if join == "none":
        return N[0]
    spread = torch.where(count > 1, P - mean, 0.0)
    return torch.where(count > 0, JOINS[join](N, P, spread, count.clamp_min(1)), 0.0)
