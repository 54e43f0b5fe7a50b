"""Losses that find each row's one partner: InfoNCE, CLIP, NT-Xent, DCL, SigLIP.

"lse minus the positive" subtracts two nearly equal numbers exactly when training works. So the positive is given to the
reduction as its anchor and left out of its sum: the loss log(1 + Σ_{j≠i} e^{s_ij − s_ii}) comes out without a subtraction.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .._checks import embeddings, fail, same_shape, scalar
from ..pairwise import pairwise_logsumexp
from ..problem.exclude import Exclude
from .paired import paired
from .rows import check_options, prepare, reduce_rows, rowwise_dot, scaled


def info_nce(
    query: Tensor,
    positive: Tensor,
    negatives: Tensor | None = None,
    *,
    in_batch: bool = True,
    temperature: float | Tensor = 0.07,
    symmetric: bool = False,
    normalize: bool = True,
    reduction: str = "mean",
) -> Tensor:
    """Cross entropy of finding each query's key among the batch's keys and further negatives (CPC, arXiv 1807.03748, eq. 4).

    With s_ij = ⟨query_i, key_j⟩ / temperature, in nats and O(N·D) memory:

        loss_i = log Σ_j exp(s_ij) − s_ii,    j over the keys of the batch, then over the negatives

    query, positive  (N, D) float tensors; row i of both belong together
    negatives        (M, D) shared by all queries, or (N, M, D), a set for each; None for the batch alone
    in_batch         count the other queries' keys as negatives; False needs `negatives`
    temperature      float or 0-d tensor, > 0; a tensor receives its gradient
    symmetric        average with the loss of finding each key's query among the batch's queries (negatives play no part in it)
    normalize        divide each row by its norm first; False if rows are already unit vectors
    reduction        "mean" over queries, "sum", or "none": (N,)

    log K − loss is a lower bound on the mutual information, K the number of candidates, and can never exceed log K.

    Returns fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.info_nce(torch.eye(4), torch.eye(4), temperature=1.0)     # log(e + 3) − 1
    tensor(0.7437)
    """
    function = "info_nce"
    check_options(function, reduction, in_batch=in_batch, symmetric=symmetric, normalize=normalize)
    embeddings(function, "query", query)
    embeddings(function, "positive", positive, like=("query", query))
    same_shape(function, "positive", positive, ("query", query), "row i of both belong together")
    if negatives is not None:
        embeddings(function, "negatives", negatives, dims=(2, 3), like=("query", query))
        if negatives.dim() == 3 and len(negatives) != len(query):
            fail(
                function,
                "negatives",
                f"of shape {tuple(negatives.shape)}",
                f"must have {len(query)} sets, one per query",
            )
    if not in_batch and negatives is None:
        fail(function, "in_batch", False, "must be True without negatives: there would be nothing to compare with")
    if not in_batch and symmetric:
        fail(function, "symmetric", True, "must be False with in_batch=False: keys have only the batch to be found in")
    scale = scalar(function, "temperature", temperature, ("query", query), above=0, inverse=True)
    options: Any = {"join": "anchor", "normalize": normalize, "reduction": reduction}
    if negatives is None:
        return paired(query, positive, scale, both=symmetric, **options)
    if in_batch and negatives.dim() == 2:
        forward = paired(query, positive, scale, rest=negatives, **options)
    else:
        q, p, n = prepare(query, positive, negatives, normalize=normalize)
        forward = _against(q, p, n, scale, in_batch, reduction)
    return 0.5 * (forward + paired(positive, query, scale, **options)) if symmetric else forward


def _against(
    query: Tensor, positive: Tensor, negatives: Tensor, scale: Tensor, in_batch: bool, reduction: str
) -> Tensor:
    """The loss where negatives stand beside the batch's keys, not behind them: a set for each query, or instead of the keys."""
    score = scaled(rowwise_dot(query, positive), scale)  # (N,), of each query's own key
    if negatives.dim() == 2:
        return pairwise_logsumexp(query, negatives, scale=scale, anchor=score, reduction=reduction)
    # (N, M) scores, no larger than the input (N, M, D)
    others = torch.logsumexp(scaled(rowwise_dot(query.unsqueeze(1), negatives), scale), dim=1)
    if in_batch:
        others = torch.logaddexp(others, pairwise_logsumexp(query, positive, scale=scale, exclude="diagonal"))
    return reduce_rows(softplus(others - score, threshold=40), reduction)


def clip_loss(
    image: Tensor, text: Tensor, logit_scale: float | Tensor, *, normalize: bool = False, reduction: str = "mean"
) -> Tensor:
    """Symmetric cross entropy of matching images and texts (CLIP, arXiv 2103.00020, figure 3).

    With s_ij = logit_scale · ⟨image_i, text_j⟩, in nats and O(N·D) memory:

        loss_i = ½ (log Σ_j exp(s_ij) − s_ii) + ½ (log Σ_j exp(s_ji) − s_ii)

    image, text  (N, D) float tensors; row i of both belong together
    logit_scale  the multiplier itself, float or 0-d tensor, ≥ 0: pass `model.logit_scale.exp()`; a tensor receives its gradient
    normalize    divide each row by its norm first; False, as CLIP models return unit vectors
    reduction    "mean" over pairs, "sum", or "none": (N,)

    Returns fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.clip_loss(torch.eye(4), torch.eye(4), 1.0)                # log(e + 3) − 1
    tensor(0.7437)
    """
    function = "clip_loss"
    check_options(function, reduction, normalize=normalize)
    scale = _image_text(function, image, text, logit_scale)
    return paired(image, text, scale, join="anchor", both=True, normalize=normalize, reduction=reduction)


def nt_xent(
    z1: Tensor, z2: Tensor, *, temperature: float | Tensor = 0.5, normalize: bool = True, reduction: str = "mean"
) -> Tensor:
    """Cross entropy of finding the other view among 2N − 1 candidates (SimCLR, arXiv 2002.05709, eq. 1).

    With z = [z1; z2] and s_ij = ⟨z_i, z_j⟩ / temperature, in nats and O(N·D) memory:

        loss_i = log Σ_{j≠i} exp(s_ij) − s_{i, other view of i}

    z1, z2       (N, D) float tensors; row i of z1 and row i of z2 are two views of one item
    temperature  float or 0-d tensor, > 0; a tensor receives its gradient
    normalize    divide each row by its norm first; False if rows are already unit vectors
    reduction    "mean" over the 2N rows, "sum", or "none": (2N,), rows of z1 first

    Returns fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.nt_xent(torch.eye(4), torch.eye(4))                       # log(e² + 6) − 2
    tensor(0.5944)
    """
    return _two_views("nt_xent", z1, z2, temperature, "anchor", normalize, reduction)


def dcl(
    z1: Tensor, z2: Tensor, *, temperature: float | Tensor = 0.1, normalize: bool = True, reduction: str = "mean"
) -> Tensor:
    """NT-Xent without the positive in the denominator (decoupled contrastive loss, arXiv 2110.06848, eq. 6).

    With z = [z1; z2] and s_ij = ⟨z_i, z_j⟩ / temperature, in nats and O(N·D) memory:

        loss_i = log Σ_j exp(s_ij) − s_{i, other view of i},    j over all rows but i and its other view

    z1, z2       (N, D) float tensors, N ≥ 2; row i of z1 and row i of z2 are two views of one item
    temperature  float or 0-d tensor, > 0; a tensor receives its gradient
    normalize    divide each row by its norm first; False if rows are already unit vectors
    reduction    "mean" over the 2N rows, "sum", or "none": (2N,), rows of z1 first

    The loss has no lower bound of 0. Returns fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument.

    >>> jk.dcl(torch.eye(4), torch.eye(4), temperature=0.5)          # log 6 − 2
    tensor(-0.2082)
    """
    return _two_views("dcl", z1, z2, temperature, "minus", normalize, reduction)


def siglip_loss(
    image: Tensor,
    text: Tensor,
    logit_scale: float | Tensor,
    logit_bias: float | Tensor,
    *,
    normalize: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """Sigmoid loss over all pairs (SigLIP, arXiv 2303.15343, eq. 1).

    With s_ij = logit_scale · ⟨image_i, text_j⟩ + logit_bias, in nats and O(N·D) memory:

        loss_i = softplus(−s_ii) + Σ_{j≠i} softplus(s_ij)

    image, text  (N, D) float tensors; row i of both belong together
    logit_scale  the multiplier itself, float or 0-d tensor, ≥ 0: pass `model.logit_scale.exp()`; a tensor receives its gradient
    logit_bias   float or 0-d tensor; a tensor receives its gradient
    normalize    divide each row by its norm first; False, as such models return unit vectors
    reduction    "mean": the sum over all N² pairs divided by N, as in the paper; "sum"; "none": (N,), one per image

    Returns fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.siglip_loss(torch.eye(2), torch.eye(2), 1.0, 0.0)         # log(1 + e⁻¹) + log 2
    tensor(1.0064)
    """
    function = "siglip_loss"
    check_options(function, reduction, normalize=normalize)
    scale = _image_text(function, image, text, logit_scale)
    bias = scalar(function, "logit_bias", logit_bias, ("image", image))
    return paired(image, text, scale, join="softplus", bias=bias, normalize=normalize, reduction=reduction)


def _two_views(
    function: str, z1: Tensor, z2: Tensor, temperature: float | Tensor, join: str, normalize: bool, reduction: str
) -> Tensor:
    """A loss of z = [z1; z2], each row's partner its other view."""
    check_options(function, reduction, normalize=normalize)
    embeddings(function, "z1", z1)
    embeddings(function, "z2", z2, like=("z1", z1))
    same_shape(function, "z2", z2, ("z1", z1), "row i of both must be views of one item")
    scale = scalar(function, "temperature", temperature, ("z1", z1), above=0, inverse=True)
    n = len(z1)
    if join == "minus" and n < 2:
        fail(
            function, "z1", f"of shape {tuple(z1.shape)}", "must have at least 2 rows: one pair alone has no negatives"
        )
    options: Any = {"exclude": Exclude(diagonals=(0, n, -n)), "normalize": normalize, "reduction": reduction}
    return paired(z1, None, scale, rest=z2, join=join, shift=n, **options)


def _image_text(function: str, image: Tensor, text: Tensor, logit_scale: float | Tensor) -> Tensor:
    """Both towers checked; the scale."""
    embeddings(function, "image", image)
    embeddings(function, "text", text, like=("image", image))
    same_shape(function, "text", text, ("image", image), "row i of both belong together")
    return scalar(function, "logit_scale", logit_scale, ("image", image), at_least=0)
