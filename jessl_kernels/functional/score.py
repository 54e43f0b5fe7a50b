"""∇ log p̂ of a kernel-density estimate, in O(N·D) memory.

    ∇ log p̂(q_i) = 2α Σ_j p_ij φ'(u_ij) (z_j − q_i),    p_ij ∝ w_j e^{φ(u_ij)},    u_ij = −α‖q_i − z_j‖²

If e^φ φ' is itself the exponential of a φ (then φ is its *shadow*, Cheng, 1995), this is attention with that φ: the Gaussian is
its own shadow; Student's t with the power c is that of c + 1; Epanechnikov is that of the tophat. So is the score on the sphere.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._checks import accumulation_dtype, embeddings, widest
from ..autocast import without_autocast
from ..literals import KernelName
from ..pairwise import attend, pairwise_logsumexp
from ..problem.phi import TOPHAT, Phi, student
from .bandwidth import Bandwidth, Concentration, settled
from .kernels import Kernel
from .log_density import log_density, log_weights_of, placed


def kde_score(
    query: Tensor,
    data: Tensor,
    *,
    bandwidth: Bandwidth | None = None,
    concentration: Concentration | None = None,
    kernel: KernelName = "gaussian",
    df: float | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """The score ∇ log p̂ of a kernel-density estimate at given points, in O(N·D) memory.

        gaussian   (Σ_j p_ij z_j − q_i) / h²,   p_ij ∝ w_j K_h(q_i − z_j)
        vmf        κ (Σ_j p_ij z_j), less its part along q_i: the gradient on the sphere

    query, data, bandwidth, concentration, kernel, df, weights   as in `kde_log_density`

    **Mean shift** (Fukunaga and Hostetler, 1975) is query + h² · score for the Gaussian kernel: it goes to a mode of p̂. On the
    sphere it is unit(query + score / κ).

    The score has a gradient to everything with "gaussian", "student", "epanechnikov" and "vmf", so that it can be matched. With
    "laplace", "linear" and "cosine" it has none. With "tophat" it is 0, and at a query that no point reaches it is 0 too.

    Returns (N, D) in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.kde_score(torch.tensor([[0.5]]), torch.tensor([[2.0]]), bandwidth=1.0)
    tensor([[1.5000]])
    """
    function = "kde_score"
    embeddings(function, "query", query)
    embeddings(function, "data", data, like=("query", query))
    log_weights = log_weights_of(function, weights, data)
    kernel_of = settled(function, kernel, data, bandwidth, concentration, log_weights, df)
    dtype = accumulation_dtype(query.dtype)
    query, data = query.to(dtype), data.to(dtype)
    with without_autocast(query.device):
        if kernel == "vmf":
            return _on_the_sphere(kernel_of, query, data, log_weights)
        shadow = _shadow(kernel, kernel_of)
        if shadow is None:
            return _by_autograd(kernel_of, query, data, log_weights).to(dtype)
        return _by_attention(kernel_of, shadow, query, data, log_weights).to(dtype)


class _Shadowed(NamedTuple):
    """The φ whose exponential is e^φ φ', its scale, and whether it is φ itself."""

    phi: Phi | None
    scale: Tensor
    itself: bool = False


def _shadow(name: str, kernel: Kernel) -> _Shadowed | None:
    if name == "gaussian":
        return _Shadowed(None, kernel.scale, itself=True)
    if name == "epanechnikov":
        return _Shadowed(TOPHAT, kernel.scale)
    if name == "student" and kernel.phi is not None:
        (power,) = kernel.phi.parameters
        return _Shadowed(student(power + 1), kernel.scale * ((power + 1) / power))
    return None


def _by_attention(kernel: Kernel, shadow: _Shadowed, query: Tensor, data: Tensor, log_weights: Tensor | None) -> Tensor:
    """2α e^{L' − L} (Σ_j p'_ij z_j − q_i), L and L' the log-sum-exps of φ and of the other, p' the softmax of the other."""
    query, keys = placed(kernel, query, data)
    assert keys is not None
    # Around the mean, whose distance from 0 would cost the difference of two nearby points its digits.
    center = keys.detach().mean(dim=0)
    mean = attend(query, keys, keys - center, kind="sqdist", phi=shadow.phi, scale=shadow.scale, col_bias=log_weights)
    shift = mean - (query - center)
    factor = 2 * kernel.scale
    if shadow.itself:
        return kernel.pull(factor.to(shift.dtype) * shift)

    def row(phi: Phi | None, scale: Tensor) -> Tensor:
        return pairwise_logsumexp(query, keys, kind="sqdist", phi=phi, scale=scale, col_bias=log_weights)

    here, there = row(kernel.phi, kernel.scale), row(shadow.phi, shadow.scale)
    reached = here > -torch.inf
    ratio = torch.where(reached, there, 0.0) - torch.where(reached, here, 0.0)
    weight = (factor * ratio.to(widest(ratio.device)).exp()).to(shift.dtype)
    return kernel.pull(torch.where(reached.unsqueeze(1), weight.unsqueeze(1) * shift, 0.0))


def _on_the_sphere(kernel: Kernel, query: Tensor, data: Tensor, log_weights: Tensor | None) -> Tensor:
    query, keys = kernel.place(query), kernel.place(data)
    mean = attend(query, keys, keys, scale=kernel.scale, col_bias=log_weights)
    along = (mean * query).sum(dim=1, keepdim=True)
    return kernel.scale.to(mean.dtype) * (mean - along * query)


def _by_autograd(kernel: Kernel, query: Tensor, data: Tensor, log_weights: Tensor | None) -> Tensor:
    """The gradient of log p̂, without one of its own."""
    with torch.enable_grad():
        at = query.detach().requires_grad_()
        total = log_density(kernel, at, data.detach(), log_weights).sum()
        return torch.autograd.grad(total, at)[0].detach()
