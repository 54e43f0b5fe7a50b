"""SupCon: every row of the same label is a positive."""

from __future__ import annotations

import torch
from torch import Tensor

from .._checks import choice, embeddings, fail, readable, scalar, wrong_type
from ..exclude import Exclude
from ..pairwise import pairwise_logsumexp
from .rows import check_reduction, prepare, rowwise_dot, scaled


def sup_con(
    features: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor = 0.07,
    form: str = "out",
    no_positive: str = "skip",
    normalize: bool = True,
    reduction: str = "mean",
) -> Tensor:
    """Supervised contrastive loss (SupCon, arXiv 2004.11362, eq. 2 and 3).

    With s_ij = ⟨z_i, z_j⟩ / temperature, P(i) the other rows of i's label, in nats and O(N·D) memory:

        "out"   loss_i = log Σ_{a≠i} exp(s_ia) − mean_{p∈P(i)} s_ip
        "in"    loss_i = log Σ_{a≠i} exp(s_ia) − log mean_{p∈P(i)} exp(s_ip)

    features     (N, D), or (N, V, D): V views of each of N items, all with the item's label
    labels       (N,) int64, ≥ 0
    temperature  float or 0-d tensor, > 0; a tensor receives its gradient
    form         "out" (the paper's choice) or "in"
    no_positive  rows that are alone with their label: "skip" leaves them out of the mean, "zero" counts them as 0
    normalize    divide each row by its norm first; False if rows are already unit vectors
    reduction    "mean" over rows, "sum", or "none": (N,) or (N, V), 0 for rows without a positive

    A batch without any positive has loss 0. The reference implementation multiplies by τ/τ_base, 1 at its default.

    Returns fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.sup_con(torch.eye(4), torch.tensor([0, 0, 1, 1]), temperature=1.0)     # all scores 0: log 3
    tensor(1.0986)
    """
    function = "sup_con"
    check_reduction(function, reduction)
    choice(function, "form", form, ("out", "in"))
    choice(function, "no_positive", no_positive, ("skip", "zero"))
    embeddings(function, "features", features, dims=(2, 3))
    _check_labels(function, labels, features)
    scale = scalar(function, "temperature", temperature, ("features", features), above=0).reciprocal()
    if features.dim() == 3:
        labels = labels.repeat_interleave(features.shape[1])
    # Sorted, the rows of one label stand together: reductions over positives can pass by all other columns.
    labels, order = labels.sort(stable=True)
    (z,) = prepare(features.flatten(0, -2).index_select(0, order), normalize=normalize)
    first = torch.searchsorted(labels, labels, side="left")  # where each row's label begins
    positives = torch.searchsorted(labels, labels, side="right") - first - 1  # |P(i)|
    has_positive = positives > 0

    only_positives = Exclude(diagonals=(0,), different=(labels, labels))
    only_negatives = Exclude(diagonals=(0,), same=(labels, labels))
    positive_lse = pairwise_logsumexp(z, scale=scale, exclude=only_positives)
    positive_lse = positive_lse.masked_fill(
        has_positive.logical_not(), 0.0
    )  # rows of weight 0; a −inf would make their gradient NaN
    # log Σ_a e^s = positive_lse + log(1 + Σ_negatives e^{s − positive_lse}), and the last term needs no subtraction.
    counted = has_positive.to(positive_lse.dtype)
    count = positives.clamp_min(1).to(positive_lse.dtype)
    if form == "out":
        class_sum = (
            torch.zeros_like(z, dtype=count.dtype).index_add(0, first, z.to(count.dtype)).index_select(0, first) - z
        )
        own = positive_lse - scaled(rowwise_dot(z, class_sum), scale) / count
    else:
        own = count.log()
    if reduction == "none":
        row = counted * (pairwise_logsumexp(z, scale=scale, anchor=positive_lse, exclude=only_negatives) + own)
        return row.index_select(0, order.argsort()).view(features.shape[:-1])
    if reduction == "mean":
        counted = counted / (len(z) if no_positive == "zero" else counted.sum().clamp_min(1))
    negatives = pairwise_logsumexp(
        z, scale=scale, anchor=positive_lse, exclude=only_negatives, reduction="sum", weights=counted
    )
    return negatives + (counted * own).sum()


def _check_labels(function: str, labels: Tensor, features: Tensor) -> None:
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64:
        wrong_type(function, "labels", labels, "must be an int64 tensor")
    if labels.shape != features.shape[:1]:
        fail(
            function,
            "labels",
            f"of shape {tuple(labels.shape)}",
            f"must be ({len(features)},), one per row of features",
        )
    if labels.device != features.device:
        fail(function, "labels", f"on {labels.device}", f"must be on {features.device} like features")
    if readable(labels) and bool((labels < 0).any()):
        fail(function, "labels", f"{int(labels.min())} somewhere", "must be >= 0 everywhere")
