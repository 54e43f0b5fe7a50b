"""Losses whose partners are named by ids, one number per row, on matrices of scores and of pairs."""

from __future__ import annotations

import torch
from torch import Tensor

from .precision import inner_products, unit_embeddings
from .reductions import logsumexp, softplus


def same(row_ids: Tensor, col_ids: Tensor) -> Tensor:
    """(N, M): whether both have an id, and it is the same."""
    return (row_ids[:, None] == col_ids[None, :]) & (row_ids >= 0)[:, None]


def found(s: Tensor, alike: Tensor, own: Tensor, same_id: str) -> Tensor:
    """(N,) cross entropies of finding the partners, over the candidates that are in.

    alike  pairs of one id, own  each row's own pair, which is a partner whatever the ids
    """
    if same_id == "ignore":
        return _beyond(s, own, alike | own)[0]
    positive = alike | own
    excess, above_mean = _beyond(s, positive, positive)
    return excess + above_mean if same_id == "mean" else excess


def _beyond(s: Tensor, positive: Tensor, no_rival: Tensor) -> tuple[Tensor, Tensor]:
    """log Σ over all minus log Σ over positives; and the latter minus the positives' mean, exactly 0 for one positive."""
    count = positive.sum(dim=1)
    of_positives = logsumexp(s, ~positive).masked_fill(count == 0, 0.0)
    above_mean = of_positives - torch.where(positive, s, 0.0).sum(dim=1) / count.clamp_min(1)
    return logsumexp(s, no_rival, anchor=of_positives), torch.where(count > 1, above_mean, 0.0)


def own_pairs(n: int, m: int) -> Tensor:
    return torch.eye(n, m, dtype=torch.bool)


def info_nce(
    query: Tensor,
    positive: Tensor,
    ids: Tensor,
    same_id: str,
    negatives: Tensor | None = None,
    negative_ids: Tensor | None = None,
    *,
    temperature: float | Tensor,
    symmetric: bool = False,
) -> Tensor:
    keys = unit_embeddings(positive)
    key_ids = ids
    if negatives is not None:
        none = torch.full((len(negatives),), -1)
        keys = torch.cat([keys, unit_embeddings(negatives)])
        key_ids = torch.cat([ids, none if negative_ids is None else negative_ids])
    s = inner_products(unit_embeddings(query), keys) / temperature
    n = len(query)
    forward = found(s, same(ids, key_ids), own_pairs(*s.shape), same_id)
    if not symmetric:
        return forward
    return 0.5 * (forward + found(s[:, :n].T, same(ids, ids), own_pairs(n, n), same_id))


def clip_loss(image: Tensor, text: Tensor, ids: Tensor, same_id: str, *, logit_scale: float | Tensor) -> Tensor:
    s = logit_scale * inner_products(unit_embeddings(image), unit_embeddings(text))
    alike, own = same(ids, ids), own_pairs(*s.shape)
    return 0.5 * (found(s, alike, own, same_id) + found(s.T, alike, own, same_id))


def siglip_loss(
    image: Tensor,
    text: Tensor,
    ids: Tensor,
    same_id: str,
    *,
    logit_scale: float | Tensor,
    logit_bias: float | Tensor,
) -> Tensor:
    s = logit_scale * inner_products(unit_embeddings(image), unit_embeddings(text)) + logit_bias
    alike, own = same(ids, ids), own_pairs(*s.shape)
    positive = own if same_id == "ignore" else alike | own
    terms = torch.where(positive, softplus(-s), softplus(s))
    return torch.where(alike & ~positive, 0.0, terms).sum(dim=1)


def sup_con(
    features: Tensor, labels: Tensor, keys: Tensor, key_labels: Tensor, *, in_batch: bool, temperature: float | Tensor
) -> Tensor:
    """The mean over rows that have a positive, of −(1/|P|) Σ_p log softmax(s)_p."""
    rows, columns, column_labels = unit_embeddings(features), unit_embeddings(keys), key_labels
    if in_batch:
        columns, column_labels = torch.cat([rows, columns]), torch.cat([labels, key_labels])
    s = inner_products(rows, columns) / temperature
    itself = own_pairs(*s.shape) & torch.tensor(in_batch)
    positive = same(labels, column_labels) & ~itself
    excess, above_mean = _beyond(s, positive, positive | itself)
    there = positive.any(dim=1)
    return torch.where(there, excess + above_mean, 0.0).sum() / there.sum().clamp_min(1)
