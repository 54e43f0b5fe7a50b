"""Losses that find each row's one partner: InfoNCE, CLIP, NT-Xent, DCL, SigLIP. Each is a join of two sums: N over the negatives,
and P, the positive's score.

"lse minus the positive" subtracts two nearly equal numbers exactly when training works. So the positive is left out of N, and the
loss is log(1 + e^{N − P}), which comes out without that subtraction.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .._checks import embeddings, fail, same_shape, scalar
from ..pairwise import pairwise_logsumexp
from ..pairwise.positives import terms_of_positives
from ..pairwise.row_loss import loss_of, problem_of
from ..problem.exclude import DIAGONAL
from ..problem.row_loss import Positives
from ..problem.types import Terms
from .rows import averaged, check_options, expanded, prepare, reduce_rows, rowwise_dot, scaled

OWN_INDEX = Positives(shift=0)  # row i's partner is column i


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
    negatives        (M, D) shared by all queries, or (N, M, D), a set for each; None, or none (0, D), for the batch alone
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
    if isinstance(negatives, Tensor) and negatives.shape == (0, query.shape[1]):
        negatives = None  # a queue before its first step
    if negatives is not None:
        embeddings(function, "negatives", negatives, dims=(2, 3), like=("query", query))
        if negatives.dim() == 3 and negatives.shape[0] != query.shape[0]:
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
    if not in_batch or (negatives is not None and negatives.dim() == 3):
        assert negatives is not None
        forward = _against(query, positive, negatives, scale, in_batch, normalize, reduction)
    else:
        keys = (positive,) if negatives is None else (positive, negatives)
        both = symmetric and negatives is None
        problem = problem_of((query,), keys, scale=scale, positives=OWN_INDEX, normalize=normalize, cols=both)
        if both:
            return averaged(loss_of(function, problem, "softplus", reduction, factor=0.5), reduction)
        forward = loss_of(function, problem, "softplus", reduction)
    if not symmetric:
        return forward
    problem = problem_of((positive,), (query,), scale=scale, positives=OWN_INDEX, normalize=normalize)
    return 0.5 * (forward + loss_of(function, problem, "softplus", reduction))


def _against(
    query: Tensor,
    positive: Tensor,
    negatives: Tensor,
    scale: float | Tensor,
    in_batch: bool,
    normalize: bool,
    reduction: str,
) -> Tensor:
    """The loss where negatives stand beside the batch's keys, not behind them: a set for each query, or instead of the keys."""
    q, p, n = prepare(query, positive, negatives, normalize=normalize)
    if negatives.dim() == 3:
        # (N, M) scores, no larger than the input (N, M, D)
        others = torch.logsumexp(scaled(rowwise_dot(q.unsqueeze(1), n), scale), dim=1)
        if in_batch:
            problem = problem_of((q,), (p,), scale=scale, positives=OWN_INDEX, normalize=False, also=others)
            return loss_of("info_nce", problem, "softplus", reduction)
        return reduce_rows(softplus(others - scaled(rowwise_dot(q, p), scale), threshold=40), reduction)
    score = scaled(rowwise_dot(q, p), scale)  # (N,), of each query's own key
    return pairwise_logsumexp(q, n, scale=scale, anchor=score, reduction=reduction)


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
    problem = problem_of((image,), (text,), scale=scale, positives=OWN_INDEX, normalize=normalize, cols=True)
    return averaged(loss_of(function, problem, "softplus", reduction, factor=0.5), reduction)


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
    return _two_views("nt_xent", z1, z2, temperature, "softplus", normalize, reduction)


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
    return _two_views("dcl", z1, z2, temperature, "difference", normalize, reduction)


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
    problem = problem_of(
        (image,),
        (text,),
        scale=scale,
        positives=OWN_INDEX,
        normalize=normalize,
        row_bias=expanded(bias, image),
        negatives=Terms("softplus"),
        of_positives=terms_of_positives("softplus"),
    )
    return loss_of(function, problem, "sum", reduction)


def _two_views(
    function: str, z1: Tensor, z2: Tensor, temperature: float | Tensor, join: str, normalize: bool, reduction: str
) -> Tensor:
    """A loss of z = [z1; z2], each row's partner its other view."""
    check_options(function, reduction, normalize=normalize)
    embeddings(function, "z1", z1)
    embeddings(function, "z2", z2, like=("z1", z1))
    same_shape(function, "z2", z2, ("z1", z1), "row i of both must be views of one item")
    scale = scalar(function, "temperature", temperature, ("z1", z1), above=0, inverse=True)
    n = z1.shape[0]
    if join == "difference" and n < 2:
        must = "must have at least 2 rows: one pair alone has no negatives"
        fail(function, "z1", f"of shape {tuple(z1.shape)}", must)
    positives = Positives(shift=n)
    problem = problem_of((z1, z2), (), scale=scale, positives=positives, normalize=normalize, exclude=DIAGONAL)
    return loss_of(function, problem, join, reduction)


def _image_text(function: str, image: Tensor, text: Tensor, logit_scale: float | Tensor) -> float | Tensor:
    """Both towers checked; the scale."""
    embeddings(function, "image", image)
    embeddings(function, "text", text, like=("image", image))
    same_shape(function, "text", text, ("image", image), "row i of both belong together")
    return scalar(function, "logit_scale", logit_scale, ("image", image), at_least=0)
