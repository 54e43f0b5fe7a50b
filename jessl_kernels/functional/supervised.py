"""SupCon: every row of the same label is a positive."""

from __future__ import annotations

import torch
from torch import Tensor

from .._checks import accumulation_dtype, choice, embeddings, fail, readable, scalar, wrong_type
from ..autocast import without_autocast
from ..ops.gather_scatter import gather_rows, scatter_sum
from ..pairwise import labelled_in_one, pairwise_logsumexp
from ..problem.exclude import Exclude
from ..problem.row_loss import Labelling
from .rows import check_options, prepare, rowwise_dot, scaled

FORMS = ("out", "in")
NO_POSITIVE = ("skip", "zero")


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
    check_options(function, reduction, normalize=normalize)
    choice(function, "form", form, FORMS)
    choice(function, "no_positive", no_positive, NO_POSITIVE)
    embeddings(function, "features", features, dims=(2, 3))
    _check_labels(function, labels, features)
    scale = scalar(function, "temperature", temperature, ("features", features), above=0, inverse=True)
    if features.dim() == 3:
        labels = labels.repeat_interleave(features.shape[1])
    rows = features.flatten(0, -2)
    if reduction != "none":
        mean, zero = reduction == "mean", no_positive == "zero"
        labelling = Labelling(labels, form, 1 / len(rows) if mean and zero else 1.0, mean and not zero, normalize)
        loss = labelled_in_one(rows, scale=scale, labelling=labelling)
        if loss is not None:
            return loss
    # Sorted, the rows of one label stand together: reductions over positives can pass by all other columns.
    labels, order = labels.sort(stable=True)
    (z,) = prepare(gather_rows(rows, order, permutes=True), normalize=normalize)
    first = torch.searchsorted(labels, labels, side="left")  # where each row's label begins
    positives = torch.searchsorted(labels, labels, side="right") - first - 1  # |P(i)|
    has_positive = positives > 0

    # log Σ_a e^s = positive_lse + log(1 + Σ_negatives e^{s − positive_lse}), and the last term needs no subtraction.
    wide = z.to(accumulation_dtype(z.dtype))
    positive_lse = _positive_lse(wide, labels, scale).masked_fill(
        has_positive.logical_not(), 0.0
    )  # −inf · 0 would be NaN
    counted, count = has_positive.to(wide.dtype), positives.clamp_min(1).to(wide.dtype)
    if form == "out":
        class_sum = gather_rows(scatter_sum(wide, first, len(wide)), first) - wide
        own = positive_lse - scaled(rowwise_dot(wide, class_sum), scale) / count
        own = own.masked_fill(positives == 1, 0.0)  # a mean of one score is its log-sum-exp, also in the last digit
    else:
        own = count.log()
    only_negatives = Exclude(diagonals=(0,), same=(labels, labels))
    if reduction == "none":
        row = counted * (pairwise_logsumexp(z, scale=scale, anchor=positive_lse, exclude=only_negatives) + own)
        return gather_rows(row, order.argsort(), permutes=True).view(features.shape[:-1])
    if reduction == "mean":
        counted = counted / (len(z) if no_positive == "zero" else counted.sum().clamp_min(1))
    negatives = pairwise_logsumexp(
        z, scale=scale, anchor=positive_lse, exclude=only_negatives, reduction="sum", weights=counted
    )
    return negatives + (counted * own).sum()


def _positive_lse(wide: Tensor, labels: Tensor, scale: Tensor) -> Tensor:
    """(N,) log Σ_{p∈P(i)} e^{s_ip} of sorted rows; −inf without a positive.

    On rows in fp32, as the mean over positives is: what these two ask of a row nearly cancels once training works, and
    must meet before it is rounded to half precision.
    """
    only_positives = Exclude(diagonals=(0,), different=(labels, labels))
    with without_autocast(wide):
        return pairwise_logsumexp(wide, scale=scale, exclude=only_positives)


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
