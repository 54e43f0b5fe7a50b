"""SupCon: every row of the same label is a positive."""

from __future__ import annotations

import torch
from torch import Tensor

from .._checks import choice, embeddings, fail, scalar
from ..literals import FORMS, NO_POSITIVE, Form, NoPositive, Reduction
from ..pairwise.positives import terms_of_positives
from ..pairwise.row_loss import loss_of, problem_of
from ..problem.exclude import DIAGONAL, ids_like
from ..problem.row_loss import Positives
from .rows import check_options

JOIN_OF = {"out": "softplus_spread", "in": "softplus_count"}  # the place of the mean over positives, and its join


def sup_con(
    features: Tensor,
    labels: Tensor,
    *,
    keys: Tensor | None = None,
    key_labels: Tensor | None = None,
    in_batch: bool = True,
    temperature: float | Tensor = 0.07,
    form: Form = "out",
    no_positive: NoPositive = "skip",
    normalize: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """Supervised contrastive loss (SupCon, arXiv 2004.11362, eq. 2 and 3).

    With s_ij = ⟨z_i, z_j⟩ / temperature and P(i) the other rows of i's label, in nats and O(N·D) memory:

        "out"   loss_i = log Σ_{a≠i} exp(s_ia) − mean_{p∈P(i)} s_ip
        "in"    loss_i = log Σ_{a≠i} exp(s_ia) − log mean_{p∈P(i)} exp(s_ip)

    features     (N, D), or (N, V, D): V views of each of N items, all with the item's label; further dimensions are joined to D
    labels       (N,) integers; a negative label is none: the row and its views have no positive, but are negatives of others
    keys         (M, D), or None, or empty (0, D): further candidates without a loss of their own, such as a queue's keys
    key_labels   (M,) integers: the labels of the keys
    in_batch     find the other rows of the batch; False finds only keys
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
    check_options(function, reduction, normalize=normalize, in_batch=in_batch)
    choice(function, "form", form, FORMS)
    choice(function, "no_positive", no_positive, NO_POSITIVE)
    embeddings(function, "features", features, dims=(2, 3, 4, 5))
    if features.dim() > 3:  # a map for each view: its dimensions are joined
        features = features.flatten(2)
    labels = ids_like(function, "labels", labels, len(features), ("features", features), ", one per row of features")
    scale = scalar(function, "temperature", temperature, ("features", features), above=0, inverse=True)
    if features.dim() == 3:
        labels = labels.repeat_interleave(features.shape[1])
    rows = features.flatten(0, -2)
    of_keys = _labels_of_keys(function, rows, keys, key_labels)
    if keys is None and not in_batch:
        fail(function, "in_batch", False, "must be True without keys: there would be nothing to find")
    if keys is None or of_keys is None:
        if not in_batch:  # a queue before its first step
            labels = torch.full_like(labels, -1)
        found, columns, exclude = (), labels, DIAGONAL
    elif in_batch:
        found, columns, exclude = (rows, keys), torch.cat([labels, of_keys]), DIAGONAL
    else:
        found, columns, exclude = (keys,), of_keys, None
    problem = problem_of(
        (rows,),
        found,
        scale=scale,
        positives=Positives(row_ids=labels, col_ids=columns),
        of_positives=terms_of_positives("logsumexp"),
        normalize=normalize,
        exclude=exclude,
    )
    over = "mean_counted" if reduction == "mean" and no_positive == "skip" else reduction
    loss = loss_of(function, problem, JOIN_OF[form], over)
    return loss.view(features.shape[:-1]) if reduction == "none" else loss


def _labels_of_keys(function: str, rows: Tensor, keys: Tensor | None, key_labels: Tensor | None) -> Tensor | None:
    """The labels of keys, both checked; None without keys, as for a queue before its first step."""
    if keys is None:
        if key_labels is not None:
            fail(function, "key_labels", "given", "must be None without keys")
        return None
    if isinstance(keys, Tensor) and keys.shape == (0, rows.shape[1]):
        return None
    embeddings(function, "keys", keys, like=("features", rows))
    if key_labels is None:
        fail(function, "key_labels", None, "must be given with keys")
    return ids_like(function, "key_labels", key_labels, keys.shape[0], ("keys", keys), ", one per key")
