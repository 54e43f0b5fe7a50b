"""How embeddings lie: uniformity, alignment, and what scripts used to read off the matrix of logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._checks import accumulation_dtype, embeddings, fail, positive, same_shape, scalar, wrong_type
from ..pairwise import pairwise_logsumexp, pairwise_topk
from .rows import log_of, prepare, rowwise_dot


def uniformity(z: Tensor, *, t: float | Tensor = 2.0) -> Tensor:
    """log mean_{i≠j} exp(−t‖z_i − z_j‖²) (Wang and Isola, arXiv 2005.10242, eq. 3), in O(N·D) memory.

    z  (N, D) float tensor, N ≥ 2; the paper's are unit vectors, which is up to the caller
    t  float or 0-d tensor, > 0; a tensor receives its gradient

    The smaller, the more evenly the points lie on the sphere; it is minus the Rényi-2 entropy up to a constant.

    Returns a 0-d tensor in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.uniformity(torch.eye(4))                     # all squared distances 2: −2·2
    tensor(-4.)
    """
    function = "uniformity"
    embeddings(function, "z", z)
    if len(z) < 2:
        fail(function, "z", f"of shape {tuple(z.shape)}", "must have at least 2 rows")
    t = scalar(function, "t", t, ("z", z), above=0)
    total = pairwise_logsumexp(z, kind="sqdist", scale=t, exclude="diagonal", reduction="logsumexp")
    return total - log_of(len(z) * (len(z) - 1), total)


def alignment(x: Tensor, y: Tensor, *, power: float = 2.0) -> Tensor:
    """mean_i ‖x_i − y_i‖^power (Wang and Isola, arXiv 2005.10242, eq. 2).

    x, y   (N, D) float tensors; row i of both belong together; the paper's are unit vectors, which is up to the caller
    power  float > 0

    Returns a 0-d tensor in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.alignment(torch.eye(2), torch.zeros(2, 2))
    tensor(1.)
    """
    function = "alignment"
    embeddings(function, "x", x)
    embeddings(function, "y", y, like=("x", x))
    same_shape(function, "y", y, ("x", x), "row i of both belong together")
    power = positive(function, "power", power)
    dtype = accumulation_dtype(x.dtype)
    difference = x.to(dtype) - y.to(dtype)
    if power == 2:
        return difference.square().sum(dim=1).mean()
    distance = torch.linalg.vector_norm(difference, dim=1)
    # Where points coincide d^power has no derivative, for power < 1 an infinite one; like the norm's own it is taken as 0.
    met = distance == 0
    return distance.masked_fill(met, 1.0).pow(power).masked_fill(met, 0.0).mean()


@torch.no_grad()
def retrieval_metrics(x: Tensor, y: Tensor, k: int | Sequence[int] = (1, 5)) -> dict[str, Tensor]:
    """What evaluation scripts read off the N×N matrix ⟨x_i, y_j⟩, in O(N·(D + k)) memory; no gradient.

    x, y  (N, D) float tensors; row i of both belong together; normalise them first for cosines
    k     ranks to report, ints ≥ 1

    Returns 0-d tensors by name:

        x_to_y/recall@k, y_to_x/recall@k   share of rows whose partner scores above all but at most k − 1 others
        mean_positive                      mean_i ⟨x_i, y_i⟩
        hardest_negative                   mean_i max_{j≠i} ⟨x_i, y_j⟩; −inf if N = 1

    A partner that only ties with a negative, up to rounding, does not count as scoring above it: collapsed embeddings,
    where all scores are equal, have recall 0 and not 1.

    Raises ValueError or TypeError naming the argument at fault.

    >>> jk.retrieval_metrics(torch.eye(3), torch.eye(3), k=1)["x_to_y/recall@1"]
    tensor(1.)
    """
    function = "retrieval_metrics"
    embeddings(function, "x", x)
    embeddings(function, "y", y, like=("x", x))
    same_shape(function, "y", y, ("x", x), "row i of both belong together")
    ranks = tuple(k) if isinstance(k, Sequence) else (k,)
    for rank in ranks:
        if isinstance(rank, bool) or not isinstance(rank, int):
            wrong_type(function, "k", rank, "must be an int or a sequence of ints")
        if rank < 1:
            fail(function, "k", rank, "must be >= 1")
    if not ranks:
        fail(function, "k", k, "must name at least one rank")
    x, y = prepare(x, y, normalize=False)
    positive = rowwise_dot(x, y)
    most = min(max(ranks), len(x))
    (to_y, _), (to_x, _) = pairwise_topk(x, y, k=most, exclude="diagonal", dim="both")
    x_norm, y_norm = (torch.linalg.vector_norm(z, dim=1, dtype=positive.dtype) for z in (x, y))
    ulp = 16 * torch.finfo(positive.dtype).eps
    metrics = {}
    for name, negatives, size in (("x_to_y", to_y, x_norm * y_norm.amax()), ("y_to_x", to_x, y_norm * x_norm.amax())):
        for rank in ranks:
            # Beyond the number of candidates there is nothing left to lose to.
            above = (
                positive > negatives.select(1, rank - 1) + ulp * size
                if rank <= most
                else torch.ones_like(positive, dtype=torch.bool)
            )
            metrics[f"{name}/recall@{rank}"] = above.to(positive.dtype).mean()
    return metrics | {"mean_positive": positive.mean(), "hardest_negative": to_y.select(1, 0).mean()}
