"""Losses that find each row's partner, one number per row.

−log softmax is computed as log(1 + Σ e^{s − s_positive}) over the rivals: on a converged batch lse − s_positive would lose the
small loss even in fp64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .precision import inner_products, unit_embeddings
from .reductions import excluded, logsumexp, softplus


def info_nce(
    query: Tensor,
    positive: Tensor,
    negatives: Tensor | None = None,
    *,
    in_batch: bool = True,
    temperature: float | Tensor = 0.07,
    symmetric: bool = False,
    normalize: bool = True,
) -> Tensor:
    """(N,): −log softmax at the positive, over the batch's keys and the negatives, (M, D) shared or (N, M, D) paired.

    Symmetric: half of it, plus half of the same for keys among the batch's queries alone.
    """
    if normalize:
        query, positive = unit_embeddings(query), unit_embeddings(positive)
        negatives = None if negatives is None else unit_embeddings(negatives)
    batch = inner_products(query, positive) / temperature  # (N, N)
    candidates = [batch if in_batch else batch.diagonal()[:, None]]
    if negatives is not None and negatives.dim() == 2:
        candidates.append(inner_products(query, negatives) / temperature)  # (N, M)
    elif negatives is not None:
        candidates.append(inner_products(query[:, None], negatives)[:, 0] / temperature)  # (N, M)
    itself = torch.arange(len(query))
    forward = cross_entropy(torch.cat(candidates, dim=1), itself if in_batch else 0 * itself)
    return 0.5 * (forward + cross_entropy(batch.T, itself)) if symmetric else forward


def cross_entropy(s: Tensor, target: Tensor, out: Tensor | None = None) -> Tensor:
    """−log softmax(s_i) at target_i, over the candidates that are in: log(1 + Σ_{j ≠ target_i} e^{s_ij − s_i,target_i})."""
    row = torch.arange(len(s))
    rivals = torch.ones_like(s, dtype=torch.bool) if out is None else ~out
    rivals[row, target] = False
    return logsumexp(s, ~rivals, anchor=s[row, target])


def clip_loss(image: Tensor, text: Tensor, logit_scale: float | Tensor, *, normalize: bool = False) -> Tensor:
    """(N,): half the cross entropy of row i, half that of column i."""
    if normalize:
        image, text = unit_embeddings(image), unit_embeddings(text)
    s, itself = logit_scale * inner_products(image, text), torch.arange(len(image))
    return 0.5 * cross_entropy(s, itself) + 0.5 * cross_entropy(s.T, itself)


def nt_xent(z1: Tensor, z2: Tensor, *, temperature: float | Tensor = 0.5, normalize: bool = True) -> Tensor:
    """(2N,), rows of z1 first: −log softmax at the other view, over all rows but the row itself."""
    s, other = _two_views(z1, z2, temperature, normalize)
    return cross_entropy(s, other, excluded(*s.shape, diagonals=(0,)))


def dcl(z1: Tensor, z2: Tensor, *, temperature: float | Tensor = 0.1, normalize: bool = True) -> Tensor:
    """(2N,), rows of z1 first: log Σ e^s over all rows but the row itself and its other view, minus the positive."""
    s, other = _two_views(z1, z2, temperature, normalize)
    rivals = logsumexp(s, excluded(*s.shape, diagonals=(0, len(z1), -len(z1))))
    return rivals - s[torch.arange(len(s)), other]


def _two_views(z1: Tensor, z2: Tensor, temperature: float | Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    """The scores of [z1; z2] with itself, and the place of each row's other view."""
    z = torch.cat([z1, z2])
    z = unit_embeddings(z) if normalize else z
    return inner_products(z, z) / temperature, torch.arange(len(z)).roll(len(z1))


def siglip_loss(
    image: Tensor, text: Tensor, logit_scale: float | Tensor, logit_bias: float | Tensor, *, normalize: bool = False
) -> Tensor:
    """(N,): Σ_j softplus(−y_ij s_ij), y_ij = 1 where i = j and −1 elsewhere. The paper's loss is its mean."""
    if normalize:
        image, text = unit_embeddings(image), unit_embeddings(text)
    s = logit_scale * inner_products(image, text) + logit_bias
    y = 2 * torch.eye(len(s), dtype=s.dtype) - 1
    return softplus(-y * s).sum(dim=1)


def sup_con(
    features: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor = 0.07,
    form: str = "out",
    normalize: bool = True,
) -> Tensor:
    """(N,) or (N, V), 0 for rows without a positive. P(i): the other rows of i's label; A(i): all other rows.

    out   −(1/|P|) Σ_{p∈P} log(e^{s_ip} / Σ_{a∈A} e^{s_ia})
    in    −log((1/|P|) Σ_{p∈P} e^{s_ip} / Σ_{a∈A} e^{s_ia})
    """
    shape = features.shape[:-1]
    label = labels.repeat_interleave(shape[1]) if len(shape) == 2 else labels
    z = features.flatten(0, -2)
    z = unit_embeddings(z) if normalize else z
    s = inner_products(z, z) / temperature
    itself = torch.eye(len(z), dtype=torch.bool)
    positive = (label[:, None] == label[None, :]) & ~itself
    count = positive.sum(dim=1)
    lse_positive = logsumexp(s, ~positive).masked_fill(count == 0, 0.0)
    # The denominator minus its positives: log Σ_{a∈A} e^{s_ia} − log Σ_{p∈P} e^{s_ip}.
    excess = logsumexp(s, itself | positive, anchor=lse_positive)
    if form == "out":
        # The positives' log-sum-exp minus their mean. With one positive both are its score: the difference is 0, and no
        # gradient is left over.
        above_mean = lse_positive - torch.where(positive, s, 0.0).sum(dim=1) / count.clamp_min(1)
        rows = excess + torch.where(count > 1, above_mean, 0.0)
    else:
        rows = excess + count.clamp_min(1).to(s.dtype).log()
    return torch.where(count > 0, rows, 0.0).reshape(shape)


def sup_con_mean(rows: Tensor, labels: Tensor, no_positive: str = "skip") -> Tensor:
    """The mean over rows that have a positive ("skip"), or over all rows ("zero"); 0 if no row has one."""
    views = rows.shape[1] if rows.dim() == 2 else 1
    label = labels.repeat_interleave(views)
    has_positive = (label[:, None] == label[None, :]).sum(dim=1) > 1
    counted = has_positive.sum().clamp_min(1) if no_positive == "skip" else len(label)
    return rows.sum() / counted


def soft_cross_entropy(
    x: Tensor,
    y: Tensor,
    target_x: Tensor,
    target_y: Tensor,
    *,
    temperature: float | Tensor,
    target_temperature: float | Tensor,
    col_bias: Tensor,
    target_col_bias: Tensor,
    normalize: bool,
    out: Tensor,
) -> Tensor:
    """(N,): −Σ_j t_ij log p_ij over the included pairs of both softmaxes."""
    if normalize:
        x, y, target_x, target_y = (unit_embeddings(z) for z in (x, y, target_x, target_y))
    s = inner_products(x, y) / temperature + col_bias
    target = inner_products(target_x, target_y) / target_temperature + target_col_bias
    t = target.masked_fill(out, -torch.inf).softmax(dim=1)
    return (t * (logsumexp(s, out)[:, None] - s)).sum(dim=1)
