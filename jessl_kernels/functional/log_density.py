"""log p̂ of a kernel whose width is settled: a row log-sum-exp whose column bias is log w_j, minus the kernel's normaliser."""

from __future__ import annotations

import torch
from torch import Tensor

from .._checks import fail, readable, widest, wrong_type
from ..autocast import without_autocast
from ..literals import Reduction
from ..pairwise import pairwise_logsumexp
from ..pairwise.arguments import as_scored
from .kernels import Kernel
from .rows import log_of


def log_density(
    kernel: Kernel,
    query: Tensor,
    data: Tensor | None,
    log_weights: Tensor | None = None,
    *,
    leave_one_out: bool = False,
    reduction: Reduction = "none",
) -> Tensor:
    """log p̂ at each query, or their mean, in fp64, because numbers of equal size are subtracted; data None: the queries.

    It is −inf at a query that no kernel reaches, with gradients of 0, that of a bandwidth too.
    """
    if (
        kernel.compact and reduction == "mean"
    ):  # row by row, so that rows without a neighbour have no part in a gradient
        return log_density(kernel, query, data, log_weights, leave_one_out=leave_one_out).mean()
    query, data = placed(kernel, query, data)
    count = len(query if data is None else data)
    # The exponents of −‖x − y‖² and of κ would lose their digits in half precision.
    with without_autocast(query.device):
        row = pairwise_logsumexp(
            query,
            data,
            kind=kernel.kind,
            phi=kernel.phi,
            scale=kernel.scale,
            col_bias=log_weights,
            exclude="diagonal" if leave_one_out else None,
            reduction=reduction,
        )
    row = row.to(widest(row.device))
    if log_weights is None:
        normaliser = log_of(count - leave_one_out, kernel.log_normaliser) + kernel.log_normaliser
    else:
        normaliser = (torch.log1p(-log_weights.exp()) if leave_one_out else 0.0) + kernel.log_normaliser
    found = row - normaliser
    return torch.where(row == -torch.inf, row, found) if kernel.compact else found


def placed(kernel: Kernel, query: Tensor, data: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The points as the kernel compares them."""
    if data is not None:
        (query,), (data,) = as_scored((query,), (data,), "sqdist")
    return kernel.place(query), None if data is None else kernel.place(data)


def log_weights_of(function: str, weights: Tensor | None, data: Tensor) -> Tensor | None:
    """log w_j of weights divided by their sum, in fp64, because 1 − w_i cancels if one point has nearly all the weight."""
    if weights is None:
        return None
    if not isinstance(weights, Tensor) or not weights.dtype.is_floating_point:
        wrong_type(function, "weights", weights, "must be a float tensor or None")
    if weights.shape != data.shape[:1]:
        fail(function, "weights", f"of shape {tuple(weights.shape)}", f"must be ({len(data)},), one per point")
    if weights.device != data.device:
        fail(function, "weights", f"on {weights.device}", f"must be on {data.device} like the data")
    if readable(weights) and not (bool((weights >= 0).all()) and 0 < float(weights.detach().sum()) < torch.inf):
        fail(function, "weights", "negative somewhere, or without a positive finite sum", "must be >= 0 and not all 0")
    w = weights.to(widest(weights.device))
    w = w / w.sum()
    return torch.where(w > 0, w, 1.0).log().masked_fill(w == 0, -torch.inf)  # log 0 without its infinite derivative
