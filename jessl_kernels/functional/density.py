"""Kernel-density estimates: log p̂ at points, and the entropy of a sample. In nats.

log p̂(q_i) = log Σ_j w_j K_h(q_i − z_j),     a row log-sum-exp whose column bias is log w_j, minus the kernel's normaliser
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._checks import accumulation_dtype, choice, embeddings, fail, readable, wide_scalar, widest, wrong_type
from ..autocast import without_autocast
from ..literals import ESTIMATORS, KERNELS, RULES, BandwidthRule, Estimator, KernelName, Reduction
from ..pairwise import pairwise_logsumexp
from ..pairwise.arguments import as_scored
from .kernels import Kernel, gaussian, laplace, vmf
from .rows import log_of, unit

SMALLEST = 1e-154  # the smallest bandwidth h for which 1/h² is a finite double
Bandwidth = float | Tensor | BandwidthRule


def kde_log_density(
    query: Tensor,
    data: Tensor,
    *,
    bandwidth: Bandwidth | None = None,
    concentration: float | Tensor | None = None,
    kernel: KernelName = "gaussian",
    weights: Tensor | None = None,
) -> Tensor:
    """Log density of a kernel-density estimate at given points (Parzen, 1962), in nats and O(N·D) memory.

        log p̂(q_i) = log Σ_j w_j K_h(q_i − z_j)

    query          (N, D) float tensor, where to evaluate
    data           (M, D) like query, the sample z
    bandwidth      h > 0, in the units of the data: float, 0-d tensor or (D,), one per dimension; tensors receive
                   gradients; "scott" or "silverman": h_d = factor · σ_d, a constant for autograd
    concentration  κ ≥ 0 of kernel="vmf", in place of the bandwidth; float or 0-d tensor; tensors receive gradients
    kernel         "gaussian"  K ∝ exp(−‖x‖²/2h²)
                   "laplace"   K ∝ exp(−‖x‖/h)
                   "vmf"       K ∝ exp(κ⟨q, z⟩) on the unit sphere, D ≥ 2; query and data are normalised first
    weights        (M,) ≥ 0, divided by their sum; None for equal weights

    Every kernel integrates to 1, on R^D or on the sphere (densities by surface area). Squared distances are exact however
    small the bandwidth.

    Returns (N,) in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.kde_log_density(torch.zeros(1, 1), torch.zeros(1, 1), bandwidth=1.0)     # −½ log 2π
    tensor([-0.9189])
    """
    function = "kde_log_density"
    embeddings(function, "query", query)
    embeddings(function, "data", data, like=("query", query))
    log_weights = log_weights_of(function, weights, data)
    kernel_of = settled(function, kernel, data, bandwidth, concentration, log_weights)
    return _log_density(kernel_of, query, data, log_weights).to(accumulation_dtype(query.dtype))


def kde_entropy(
    z: Tensor,
    *,
    bandwidth: Bandwidth | None = None,
    concentration: float | Tensor | None = None,
    kernel: KernelName = "gaussian",
    estimator: Estimator = "loo",
    weights: Tensor | None = None,
) -> Tensor:
    """Entropy of a sample by kernel-density estimation, in nats and O(N·D) memory.

        "loo"                −(1/N) Σ_i log p̂_{−i}(z_i), each point left out of its own density: the default
        "resubstitution"     −(1/N) Σ_i log p̂(z_i), each point counted in its own density (Joe, 1989)
        "plugin"             −Σ_i p̂(z_i) log p̂(z_i), the sum as it is sometimes printed
        "plugin_normalized"  the same with weights p̂(z_i) / Σ_j p̂(z_j), as published code for arXiv 2307.10907 does

    z              (N, D) float tensor, N ≥ 2
    bandwidth, concentration, kernel   as in `kde_log_density`
    estimator      one of the four above
    weights        (N,) ≥ 0, divided by their sum, for "loo" and "resubstitution": −Σ_i w_i log p̂(z_i), with
                   p̂_{−i} = Σ_{j≠i} w_j K / (1 − w_i)

    What to expect:
    - "loo" is biased upwards by the bandwidth: on N(0, I) with large N by (D/2)(log(1 + h²) + 1/(1 + h²) − 1).
    - "resubstitution" can never exceed log N − log K_h(0). From D ≈ 16 it *is* that constant, with no gradient.
    - "plugin" sums densities, not probabilities: meaningless in high D. It is computed and returned in fp64.
    - No estimate from N samples can certify much more than log N nats (McAllester and Stratos, arXiv 1811.04251).

    Returns a 0-d tensor in fp32 (fp64 for fp64 or "plugin"). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.kde_entropy(torch.tensor([[0.0], [1.0]]), bandwidth=1.0)     # ½ log 2π + ½
    tensor(1.4189)
    """
    function = "kde_entropy"
    choice(function, "estimator", estimator, ESTIMATORS)
    embeddings(function, "z", z)
    if len(z) < 2:
        fail(function, "z", f"of shape {tuple(z.shape)}", "must have at least 2 rows")
    log_weights = log_weights_of(function, weights, z)
    if weights is not None and estimator.startswith("plugin"):
        fail(function, "weights", "given", f'must be None with estimator="{estimator}"')
    if weights is not None and estimator == "loo" and readable(weights) and int((weights > 0).sum()) < 2:
        fail(function, "weights", "positive at 1 point", "must be at 2 or more with estimator='loo'")
    kernel_of = settled(function, kernel, z, bandwidth, concentration, log_weights)
    dtype = accumulation_dtype(z.dtype)
    if weights is None and not estimator.startswith("plugin"):
        return -_log_density(kernel_of, z, None, None, leave_one_out=estimator == "loo", reduction="mean").to(dtype)
    if estimator == "plugin" and widest(z.device) != torch.float64:
        fail(function, "estimator", "'plugin'", f"must be another on {z.device}, which has no fp64")
    points = z.double() if estimator == "plugin" else z  # densities beyond fp32 would give gradients of 0 · inf
    log_density = _log_density(kernel_of, points, None, log_weights, leave_one_out=estimator == "loo")
    if estimator == "plugin":
        return -(log_density.exp() * log_density).sum()
    if estimator == "plugin_normalized":
        return -(log_density.softmax(dim=0) * log_density).sum().to(dtype)
    assert log_weights is not None
    # A point of weight 0 does not count, even if its density is 0.
    share = log_weights.exp()
    return -torch.where(share == 0, 0.0, share * log_density).sum().to(dtype)


def _log_density(
    kernel: Kernel,
    query: Tensor,
    data: Tensor | None,
    log_weights: Tensor | None,
    *,
    leave_one_out: bool = False,
    reduction: Reduction = "none",
) -> Tensor:
    """log p̂ at each query, or their mean, in fp64, because numbers of equal size are subtracted; data None: the queries."""
    if data is not None:
        (query,), (data,) = as_scored((query,), (data,), "sqdist")
    query, data = kernel.place(query), None if data is None else kernel.place(data)
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
    if log_weights is None:
        return row.to(widest(row.device)) - (
            log_of(count - leave_one_out, kernel.log_normaliser) + kernel.log_normaliser
        )
    left_out = torch.log1p(-log_weights.exp()) if leave_one_out else 0.0
    return row.to(widest(row.device)) - (left_out + kernel.log_normaliser)


def settled(
    function: str,
    name: str,
    data: Tensor,
    bandwidth: Bandwidth | None,
    concentration: float | Tensor | None,
    log_weights: Tensor | None,
) -> Kernel:
    """The kernel with its width settled; bandwidth and concentration checked."""
    choice(function, "kernel", name, KERNELS)
    if name == "vmf":
        if bandwidth is not None:
            fail(function, "bandwidth", "given", 'must be None with kernel="vmf", whose width is its concentration')
        if concentration is None:
            fail(function, "concentration", None, 'must be given with kernel="vmf" (κ >= 0)')
        if data.shape[1] < 2:
            fail(function, "kernel", "'vmf'", f"must be another for D = {data.shape[1]}: a sphere needs 2 dimensions")
        return vmf(wide_scalar(function, "concentration", concentration, ("z", data), at_least=0), data.shape[1], unit)
    if concentration is not None:
        fail(function, "concentration", "given", f'must be None with kernel="{name}", whose width is its bandwidth')
    h = _bandwidth(function, bandwidth, data, log_weights)
    return (gaussian if name == "gaussian" else laplace)(h, data)


def _bandwidth(function: str, bandwidth: Bandwidth | None, data: Tensor, log_weights: Tensor | None) -> Tensor:
    """The bandwidth as a positive 0-d or (D,) tensor of the accumulation dtype."""
    must = "must be > 0 and finite (the kernel's width, in the units of the data)"
    if bandwidth is None:
        fail(function, "bandwidth", None, must + ", (D,) of those, 'scott' or 'silverman'")
    if isinstance(bandwidth, str):
        choice(function, "bandwidth", bandwidth, RULES)
        h = bandwidth_by_rule(bandwidth, data, log_weights)
        if readable(data):
            # A constant is found in the data: its computed deviation is seldom 0, because its mean is rounded.
            counted = data.detach() if log_weights is None else data.detach()[log_weights.detach() > -torch.inf]
            constant = (h == 0).logical_or(counted.amin(dim=0) == counted.amax(dim=0)).nonzero().flatten().tolist()
            if constant:
                must_vary = f"must be a number: dimension {constant[0]} of the data does not vary"
                fail(function, "bandwidth", repr(bandwidth), must_vary)
        return h
    if isinstance(bandwidth, Tensor) and bandwidth.dim() == 1 and len(bandwidth) > 1:
        if not bandwidth.dtype.is_floating_point:
            wrong_type(function, "bandwidth", bandwidth, "must hold floats")
        if bandwidth.shape != data.shape[1:]:
            fail(function, "bandwidth", f"of shape {tuple(bandwidth.shape)}", f"must be a number or ({data.shape[1]},)")
        if bandwidth.device != data.device:
            fail(function, "bandwidth", f"on {bandwidth.device}", f"must be on {data.device} like the data")
        widths = bandwidth.to(accumulation_dtype(data.dtype))
        fine = (widths > 0) & widths.isfinite() & widths.square().reciprocal().isfinite()
        if readable(widths) and not bool(fine.all()):
            fail(function, "bandwidth", f"{float(bandwidth[~fine][0])} somewhere", must)
        return widths
    h = wide_scalar(function, "bandwidth", bandwidth, ("the data", data), above=0)
    if readable(h) and not float(h.detach()) > SMALLEST:
        fail(function, "bandwidth", float(h), "must be so large that 1 over its square is finite")
    return h


def bandwidth_by_rule(rule: str, data: Tensor, log_weights: Tensor | None = None) -> Tensor:
    """Scott's or Silverman's rule, h_d = factor · σ_d, (D,), a constant for autograd.

        "scott"      factor = n^{−1/(D+4)}              "silverman"  factor = (n (D + 2) / 4)^{−1/(D+4)}

    σ_d is the sample deviation (divided by n − 1). With weights n is 1 / Σ w², and σ_d is weighted, as in scipy.
    """
    z = data.detach().to(accumulation_dtype(data.dtype))
    D = z.shape[1]
    w = z.new_full((len(z),), 1.0 / len(z)) if log_weights is None else log_weights.detach().exp().to(z.dtype)
    squares = w.square().sum()
    deviation = (z - w @ z).square_()
    sigma = (w @ deviation / (1 - squares)).sqrt()
    n = 1 / squares
    return sigma * rule_factor(rule, n, D)


def rule_factor(rule: str, n: Any, D: int) -> Any:
    """The factor of a bandwidth rule before σ, for n points or as many as weights amount to."""
    return (n if rule == "scott" else n * (D + 2) / 4) ** (-1.0 / (D + 4))


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
