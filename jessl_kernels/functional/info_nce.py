"""InfoNCE: each query finds its key among the batch's keys and further negatives, which may be shared or a set for each."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .._checks import embeddings, fail, same_shape, scalar, wrong_type
from ..literals import Reduction, SameId
from ..pairwise import pairwise_logsumexp
from ..problem.exclude import Exclude, ids_like
from .ids import Partners, found, partners_of
from .rows import check_options, prepare, reduce_rows, rowwise_dot, scaled


def info_nce(
    query: Tensor,
    positive: Tensor,
    negatives: Tensor | None = None,
    *,
    ids: Tensor | None = None,
    negative_ids: Tensor | None = None,
    same_id: SameId = "mean",
    negatives_mask: Tensor | None = None,
    in_batch: bool = True,
    temperature: float | Tensor = 0.07,
    symmetric: bool = False,
    normalize: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross entropy of finding each query's key among the batch's keys and further negatives (CPC, arXiv 1807.03748, eq. 4).

    With s_ij = ⟨query_i, key_j⟩ / temperature, in nats and O(N·D) memory:

        loss_i = log Σ_j exp(s_ij) − s_ii,    j over the keys of the batch, then over the negatives

    query, positive  (N, D) float tensors; row i of both belong together
    negatives        (M, D) shared by all queries, or (N, M, D), a set for each; None, or none (0, D), for the batch alone
    ids              (N,) integers below 2⁶², or None: rows of one id are one item; below 0: no id, the row has only its own key
    negative_ids     (M,) integers: the ids of shared negatives; None: they are no items of the batch
    same_id          the role of keys with a query's id. They are positives with "mean", where targets are shared evenly,
                     log Σ_j e^s − mean_p s_ip, and with "sum", where any of them will do, log Σ_j e^s − log Σ_p e^s (MIL-NCE,
                     arXiv 1912.06430). With "ignore" they are neither positive nor negative, except for the query's own key
    negatives_mask   (N, M) bools, or None: True for the real negatives of a query's own set; the others are padding
    in_batch         count the other queries' keys as negatives; False needs `negatives`, and same_id="ignore" for ids
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
    queued = negatives is not None
    if isinstance(negatives, Tensor) and negatives.numel() == 0 and negatives.shape[-1:] == query.shape[1:]:
        negatives = negatives_mask = negative_ids = None  # a queue before its first step
    others = _others(function, query, negatives, negatives_mask, ids, negative_ids)
    if not in_batch and not queued:
        fail(function, "in_batch", False, "must be True without negatives: there would be nothing to compare with")
    if not in_batch and symmetric:
        fail(function, "symmetric", True, "must be False with in_batch=False: keys have only the batch to be found in")
    if not in_batch and ids is not None and same_id != "ignore":
        fail(function, "same_id", repr(same_id), 'must be "ignore" with in_batch=False')
    scale = scalar(function, "temperature", temperature, ("query", query), above=0, inverse=True)
    queries = "query", query
    further = negatives.shape[0] if in_batch and negatives is not None and negatives.dim() == 2 else 0
    partners = partners_of(function, ids, same_id, queries, others, further)
    if negatives is not None and negatives.dim() == 3:
        forward = _sets(query, positive, negatives, negatives_mask, in_batch, scale, partners, normalize, reduction)
    elif not in_batch:
        return _without_batch(query, positive, negatives, scale, ids, others, normalize, reduction)
    elif negatives is None:
        return found(function, query, (positive,), scale, partners, normalize, reduction, both=symmetric)
    else:
        forward = found(function, query, (positive, negatives), scale, partners, normalize, reduction)
    if not symmetric:
        return forward
    of_batch = partners_of(function, ids, same_id, queries) if further else partners
    return 0.5 * (forward + found(function, positive, (query,), scale, of_batch, normalize, reduction))


def _without_batch(
    query: Tensor,
    positive: Tensor,
    negatives: Tensor | None,
    scale: float | Tensor,
    ids: Tensor | None,
    others: Tensor | None,
    normalize: bool,
    reduction: Reduction,
) -> Tensor:
    """The loss with shared negatives instead of the other keys; without negatives each query finds its own key, at loss 0."""
    q, p, *n = prepare(query, positive, *(() if negatives is None else (negatives,)), normalize=normalize)
    own = scaled(rowwise_dot(q, p), scale)
    if not n:
        return reduce_rows(softplus(-torch.inf - own), reduction)
    exclude = None if ids is None or others is None else Exclude(same=(ids, others))
    return pairwise_logsumexp(q, n[0], scale=scale, anchor=own, exclude=exclude, reduction=reduction)


def _sets(
    query: Tensor,
    positive: Tensor,
    negatives: Tensor,
    mask: Tensor | None,
    in_batch: bool,
    scale: float | Tensor,
    partners: Partners,
    normalize: bool,
    reduction: Reduction,
) -> Tensor:
    """The loss with a set of negatives for each query: (N, M) scores, no larger than the input (N, M, D)."""
    if mask is not None:  # the content of the padding, which may be NaN, must not reach a product
        negatives = torch.where(mask.unsqueeze(2), negatives, 0.0)
    q, p, n = prepare(query, positive, negatives, normalize=normalize)
    scores = scaled(rowwise_dot(q.unsqueeze(1), n), scale)
    if mask is not None:
        scores = torch.where(mask, scores, -torch.inf)
    sums = _logsumexp(scores)
    if in_batch:
        return found("info_nce", q, (p,), scale, partners, False, reduction, also=sums)
    return reduce_rows(softplus(sums - scaled(rowwise_dot(q, p), scale), threshold=40), reduction)


def _logsumexp(scores: Tensor) -> Tensor:
    """The log-sum-exp over the second dimension; −inf, with the gradient 0, for a row without scores."""
    none = (scores == -torch.inf).all(dim=1)
    return scores.masked_fill(none.unsqueeze(1), 0.0).logsumexp(dim=1).masked_fill(none, -torch.inf)


def _others(
    function: str,
    query: Tensor,
    negatives: Tensor | None,
    mask: Tensor | None,
    ids: Tensor | None,
    negative_ids: Tensor | None,
) -> Tensor | None:
    """Negatives checked, and their mask; the ids of shared ones, or None."""
    if negatives is not None:
        embeddings(function, "negatives", negatives, dims=(2, 3), like=("query", query))
        if negatives.dim() == 3 and negatives.shape[0] != query.shape[0]:
            was, must = f"of shape {tuple(negatives.shape)}", f"must have {len(query)} sets, one per query"
            fail(function, "negatives", was, must)
    sets = negatives is not None and negatives.dim() == 3
    if mask is not None:
        if not sets:
            fail(function, "negatives_mask", "given", "must be None without negatives (N, M, D), a set for each query")
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            wrong_type(function, "negatives_mask", mask, "must be a tensor of bools, True for negatives that are there")
        assert negatives is not None
        if mask.shape != negatives.shape[:2]:
            must = f"must be {tuple(negatives.shape[:2])}, one for each negative"
            fail(function, "negatives_mask", f"of shape {tuple(mask.shape)}", must)
        if mask.device != query.device:
            fail(function, "negatives_mask", f"on {mask.device}", f"must be on {query.device} like query")
    if negative_ids is not None:
        if negatives is None or sets:
            must = "must be None without negatives (M, D) that all queries share"
            fail(function, "negative_ids", "given", must + (": use negatives_mask" if sets else ""))
        like = ("negatives", negatives)
        found = ids_like(function, "negative_ids", negative_ids, negatives.shape[0], like, ", one per negative")
        if ids is None:
            fail(function, "ids", None, "must be given with negative_ids")
        return found
    return None
