"""How embeddings lie: uniformity, alignment, distances of nearest neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from .._checks import accumulation_dtype, embeddings, fail, flag, integer, positive, same_shape, scalar
from ..autocast import without_autocast
from ..pairwise import pairwise_logsumexp, pairwise_topk
from .rows import log_of, unit


def uniformity(z: Tensor, *, t: float | Tensor = 2.0) -> Tensor:
    """log mean_{i≠j} exp(−t‖z_i − z_j‖²) (Wang and Isola, arXiv 2005.10242, eq. 3), in O(N·D) memory.

    z  (N, D) float tensor, N ≥ 2; the paper uses unit vectors; nothing is normalised here
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

    x, y   (N, D) float tensors; row i of both belong together; the paper uses unit vectors; nothing is normalised here
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
    # Where points coincide d^power has no derivative, or an infinite one for power < 1; it is set to 0, as that of the norm.
    met = distance == 0
    return distance.masked_fill(met, 1.0).pow(power).masked_fill(met, 0.0).mean()


LEAST_DISTANCE = 1e-8  # added to distances before their logarithm, as in DINOv2


def koleo(z: Tensor, *, k: int = 1, normalize: bool = True) -> Tensor:
    """−mean log(‖z_i − z_nn(i)‖ + 1e-8), nn the nearest neighbours (arXiv 1806.03198, as in DINOv2, arXiv 2304.07193).

    z          (N, D) float tensor, N > k
    k          the number of nearest neighbours of each row, whose logarithms are averaged
    normalize  divide each row by its norm first, as DINOv2 does; False if rows are already unit vectors, or are no directions

    It spreads embeddings. Up to constants and a factor it is minus the entropy by nearest neighbours (`knn_entropy`), and both
    points of a pair have a gradient. A distance of 0, of duplicates, gives 18.4 and no gradient, because it has no direction; a
    small distance d gives one of 1/d.

    Returns a 0-d tensor in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.koleo(torch.eye(4))                     # all distances √2
    tensor(-0.3466)
    """
    function = "koleo"
    embeddings(function, "z", z)
    flag(function, "normalize", normalize)
    k = integer(function, "k", k)
    if not 1 <= k < len(z):
        fail(function, "k", k, f"must be between 1 and {len(z) - 1}, the number of other rows")
    z = z.to(accumulation_dtype(z.dtype))
    with without_autocast(z.device):
        score, _ = pairwise_topk(unit(z) if normalize else z, k=k, kind="sqdist", exclude="diagonal")
    # √ has an infinite slope at 0, which times the square's slope of 0 would be NaN.
    met = score == 0
    distance = (-score).masked_fill(met, 1.0).sqrt().masked_fill(met, 0.0)
    return -(distance + LEAST_DISTANCE).log().mean()
