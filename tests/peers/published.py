"""Losses of peers that are not installed here, in the matrix form, with their call: what their sources say they compute."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def _cosines(x: Tensor, y: Tensor) -> Tensor:
    return F.normalize(x, dim=1) @ F.normalize(y, dim=1).T


def _own_key(scores: Tensor) -> Tensor:
    """Mean cross entropy of finding column i in row i."""
    return (scores.logsumexp(dim=1) - scores.diagonal()).mean()


class MultipleNegativesRankingLoss:
    """sentence-transformers 6: a model makes a dict with the embeddings of each column."""

    def __init__(self, model, scale: float = 20.0):
        self.model, self.scale = model, scale

    def _scores(self, columns) -> Tensor:
        anchors, *documents = (self.model(column)["sentence_embedding"] for column in columns)
        return self.scale * _cosines(anchors, torch.cat(documents))

    def __call__(self, columns, labels) -> Tensor:
        return _own_key(self._scores(columns))


class MultipleNegativesSymmetricRankingLoss(MultipleNegativesRankingLoss):
    """The same, half from each direction; of pairs."""

    def __call__(self, columns, labels) -> Tensor:
        scores = self._scores(columns)
        return 0.5 * (_own_key(scores) + _own_key(scores.T))


class SupConLoss:
    """The reference code of SupCon: (N, V, D), not normalised, times temperature / base_temperature."""

    def __init__(self, temperature: float = 0.07, contrast_mode: str = "all", base_temperature: float = 0.07):
        self.temperature, self.mode, self.base = temperature, contrast_mode, base_temperature

    def __call__(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        n, views = features.shape[:2]
        ids = (torch.arange(n) if labels is None else labels).repeat(views)
        rows = features.transpose(0, 1).flatten(0, 1)  # view after view
        scores = (rows @ rows.T / self.temperature).masked_fill(torch.eye(len(rows), dtype=torch.bool), -torch.inf)
        positive = (ids[:, None] == ids).fill_diagonal_(False)
        log_share = scores - scores.logsumexp(dim=1, keepdim=True)
        loss = -log_share.where(positive, 0.0).sum(dim=1) / positive.sum(dim=1).clamp_min(1)
        anchors = loss[:n] if self.mode == "one" else loss
        return self.temperature / self.base * anchors.mean()


def simclr_loss_func(z: Tensor, indexes: Tensor, temperature: float = 0.1) -> Tensor:
    """solo-learn's SimCLR: the log of the positives' sum."""
    scores = _cosines(z, z) / temperature
    own = torch.eye(len(z), dtype=torch.bool)
    others = (indexes[:, None] != indexes) | own
    of_all = scores.masked_fill(own, -torch.inf).logsumexp(dim=1)
    return (of_all - scores.masked_fill(others, -torch.inf).logsumexp(dim=1)).mean()


def mocov2plus_loss_func(query: Tensor, key: Tensor, queue: Tensor, temperature: float = 0.1) -> Tensor:
    """solo-learn's MoCo v2+: a queue (D, K), not normalised."""
    own = (query * key).sum(dim=1, keepdim=True)
    scores = torch.cat([own, query @ queue], dim=1) / temperature
    return (scores.logsumexp(dim=1) - scores[:, 0]).mean()


def mocov3_loss_func(query: Tensor, key: Tensor, temperature: float = 0.2) -> Tensor:
    """solo-learn's MoCo v3: times twice the temperature."""
    return 2 * temperature * _own_key(_cosines(query, key) / temperature)


def nnclr_loss_func(nn: Tensor, p: Tensor, temperature: float = 0.1) -> Tensor:
    """solo-learn's NNCLR."""
    return _own_key(_cosines(nn, p) / temperature)


class InfoNCELoss:
    """stable-pretraining's: targets name each anchor's candidate, and `logit_scale` divides."""

    def __init__(self, temperature: float = 0.07):
        self.temperature = temperature

    def __call__(self, anchors: Tensor, candidates: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(_cosines(anchors, candidates) / self.temperature, targets)


class CLIPLoss:
    """stable-pretraining's."""

    def __init__(self, temperature: float = 0.07):
        self.temperature = temperature

    def __call__(self, feats_i: Tensor, feats_j: Tensor, logit_scale: float | None = None) -> Tensor:
        scores = _cosines(feats_i, feats_j) / (self.temperature if logit_scale is None else logit_scale)
        return 0.5 * (_own_key(scores) + _own_key(scores.T))


class NTXEntLoss:
    """stable-pretraining's: the mean over both views, without the row itself."""

    def __init__(self, temperature: float = 0.5):
        self.temperature = temperature

    def __call__(self, z_i: Tensor, z_j: Tensor) -> Tensor:
        z = torch.cat([z_i, z_j])
        scores = (_cosines(z, z) / self.temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
        return F.cross_entropy(scores, torch.arange(len(z)).roll(len(z_i)))
