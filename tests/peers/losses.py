"""The losses that a peer publishes too: under one name, the peer's call and inputs on which both are defined.

The oracles and the package call the same thing by the same name with the same arguments, so one table serves both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tests.data import clusters_with_labels, normals
from tests.peers import installed

N, D = 24, 7


@dataclass(frozen=True)
class Comparison:
    """peer     the published mean loss, called with inputs and options by name
    function  its name in `tests.oracles.contrastive` and in the package
    inputs    float tensors that receive gradients
    options   everything else
    """

    peer: Callable[..., Tensor]
    function: str
    inputs: dict[str, Tensor]
    options: dict[str, Any] = field(default_factory=dict)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _unit(t: Tensor) -> Tensor:
    return torch.nn.functional.normalize(t, dim=-1)


def _with_negatives(mode: str) -> Callable[..., Tensor]:
    """info_nce with negatives of its own, which never counts the other queries' keys."""
    return lambda query, positive, negatives, temperature, in_batch: installed.info_nce(
        query, positive, negatives, temperature=temperature, negative_mode=mode
    )


def _self_supervised(symmetric: bool) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """NT-Xent of pytorch_metric_learning, in which every row has one positive; if not symmetric, it only searches for keys."""
    losses = installed.metric_learning
    return lambda x, y, t: losses.SelfSupervisedLoss(losses.NTXentLoss(t), symmetric=symmetric)(x, y)


_x, _y = normals(2, N, D, seed=0)
_negatives, _paired_negatives = normals(9, D, seed=1), normals(N, 5, D, seed=2)
_features, _labels = clusters_with_labels(N, D, labels=9, seed=3, dtype=torch.float64)
_labels[5] = 9  # alone: a row without a positive
_views = {"z1": _x, "z2": _y, "temperature": number(0.2)}
_query_and_key = {"query": _x, "positive": _y, "temperature": number(0.2)}

COMPARISONS = {
    "lightly NTXentLoss": Comparison(
        lambda z1, z2, temperature: installed.NTXentLoss(temperature)(z1, z2),
        "nt_xent",
        _views,
    ),
    "lightly DCLLoss": Comparison(
        lambda z1, z2, temperature: installed.DCLLoss(temperature)(z1, z2),
        "dcl",
        _views,
    ),
    "open_clip ClipLoss": Comparison(
        lambda image, text, logit_scale: installed.ClipLoss()(image, text, logit_scale),
        "clip_loss",
        {"image": _unit(_x), "text": _unit(_y), "logit_scale": number(8.0)},
    ),
    "open_clip SigLipLoss": Comparison(
        lambda image, text, logit_scale, logit_bias: installed.SigLipLoss()(image, text, logit_scale, logit_bias),
        "siglip_loss",
        {"image": _unit(_x), "text": _unit(_y), "logit_scale": number(8.0), "logit_bias": number(-3.0)},
    ),
    "pytorch_metric_learning SupConLoss": Comparison(
        lambda features, labels, temperature: installed.metric_learning.SupConLoss(temperature)(features, labels),
        "sup_con",
        {"features": _features, "temperature": number(0.2)},
        {"labels": _labels},
    ),
    "pytorch_metric_learning NTXentLoss": Comparison(
        lambda z1, z2, temperature: _self_supervised(symmetric=True)(z1, z2, temperature),
        "nt_xent",
        _views,
    ),
    "pytorch_metric_learning NTXentLoss one-sided": Comparison(
        lambda query, positive, temperature: _self_supervised(symmetric=False)(query, positive, temperature),
        "info_nce",
        _query_and_key,
    ),
    "info_nce": Comparison(
        lambda query, positive, temperature: installed.info_nce(query, positive, temperature=temperature),
        "info_nce",
        _query_and_key,
    ),
    "info_nce unpaired": Comparison(
        _with_negatives("unpaired"), "info_nce", {**_query_and_key, "negatives": _negatives}, {"in_batch": False}
    ),
    "info_nce paired": Comparison(
        _with_negatives("paired"), "info_nce", {**_query_and_key, "negatives": _paired_negatives}, {"in_batch": False}
    ),
}


def value_and_gradients(function: Callable[..., Tensor], comparison: Comparison) -> dict[str, Tensor]:
    """The mean loss, under "value", and the gradient of each input."""
    leaves = {name: t.clone().requires_grad_() for name, t in comparison.inputs.items()}
    value = function(**leaves, **comparison.options)
    return {
        "value": value.detach(),
        **dict(zip(leaves, torch.autograd.grad(value, list(leaves.values())), strict=True)),
    }
