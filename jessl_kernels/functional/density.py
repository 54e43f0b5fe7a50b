"""Kernel-density estimates: log p̂ at points, and the entropy of a sample. In nats.

log p̂(q_i) = log Σ_j w_j K_h(q_i − z_j),     a row log-sum-exp whose column bias is log w_j, minus the kernel's normaliser
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._checks import accumulation_dtype, choice, embeddings, fail, readable, widest
from ..autocast import without_autocast
from ..literals import ESTIMATORS, OWN_POINT, Estimator, KernelName, OwnPoint
from ..pairwise import pairwise_logsumexp
from .bandwidth import Bandwidth, Concentration, settled, settled_width
from .kernels import widths
from .log_density import log_density, log_weights_of
from .rows import log_of


def kde_log_density(
    query: Tensor,
    data: Tensor,
    *,
    bandwidth: Bandwidth | None = None,
    concentration: Concentration | None = None,
    kernel: KernelName = "gaussian",
    df: float | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Log density of a kernel-density estimate at given points (Parzen, 1962), in nats and O(N·D) memory.

        log p̂(q_i) = log Σ_j w_j K_h(q_i − z_j)

    query          (N, D) float tensor, where to evaluate
    data           (M, D) like query, the sample z
    bandwidth      h > 0, in the units of the data: a float, a 0-d tensor, or (D,), one per dimension; or a covariance (D, D),
                   by whose Cholesky factor points are whitened; tensors receive gradients. Constants for autograd:
                   "scott", "silverman"  h_d = factor · σ_d (scikit-learn's rules of these names have no σ: h is the factor)
                   "likelihood"          that of `bandwidth_by_likelihood`
    concentration  κ ≥ 0 of kernel="vmf", in place of the bandwidth; float, 0-d tensor or "likelihood"; tensors receive gradients
    kernel         "gaussian"      K ∝ exp(−r²/2),  r = ‖x‖/h
                   "student"       K ∝ (1 + r²/ν)^{−(ν+D)/2}, ν = df degrees of freedom; 1 is the Cauchy kernel
                   "laplace"       K ∝ exp(−r), which scikit-learn calls exponential
                   "tophat"        K ∝ 1 for r < 1
                   "epanechnikov"  K ∝ 1 − r² for r < 1
                   "linear"        K ∝ 1 − r for r < 1
                   "cosine"        K ∝ cos(πr/2) for r < 1
                   "vmf"           K ∝ exp(κ⟨q, z⟩) on the unit sphere, D ≥ 2; query and data are normalised first
    df             ν > 0 of kernel="student", a float
    weights        (M,) ≥ 0, divided by their sum; None for equal weights

    Every kernel integrates to 1, on R^D or on the sphere (densities by surface area). Squared distances are exact however
    small the bandwidth. A query that no point reaches has the log density −inf, and gradients of 0. On a CPU groups of points
    beyond the support of the last four kernels of R^D are passed over.

    Returns (N,) in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.kde_log_density(torch.zeros(1, 1), torch.zeros(1, 1), bandwidth=1.0)     # −½ log 2π
    tensor([-0.9189])
    """
    function = "kde_log_density"
    embeddings(function, "query", query)
    embeddings(function, "data", data, like=("query", query))
    log_weights = log_weights_of(function, weights, data)
    kernel_of = settled(function, kernel, data, bandwidth, concentration, log_weights, df)
    return log_density(kernel_of, query, data, log_weights).to(accumulation_dtype(query.dtype))


def kde_entropy(
    z: Tensor,
    *,
    bandwidth: Bandwidth | None = None,
    concentration: Concentration | None = None,
    kernel: KernelName = "gaussian",
    df: float | None = None,
    estimator: Estimator = "loo",
    weights: Tensor | None = None,
) -> Tensor:
    """Entropy of a sample by kernel-density estimation, in nats and O(N·D) memory.

        "loo"                −(1/N) Σ_i log p̂_{−i}(z_i), each point left out of its own density: the default
        "resubstitution"     −(1/N) Σ_i log p̂(z_i), each point counted in its own density (Joe, 1989)
        "plugin"             −Σ_i p̂(z_i) log p̂(z_i), the sum as it is sometimes printed
        "plugin_normalized"  the same with weights p̂(z_i) / Σ_j p̂(z_j), as published code for arXiv 2307.10907 does

    z              (N, D) float tensor, N ≥ 2
    bandwidth, concentration, kernel, df   as in `kde_log_density`
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
    kernel_of = settled(function, kernel, z, bandwidth, concentration, log_weights, df)
    dtype = accumulation_dtype(z.dtype)
    if weights is None and not estimator.startswith("plugin"):
        return -log_density(kernel_of, z, None, leave_one_out=estimator == "loo", reduction="mean").to(dtype)
    if estimator == "plugin" and widest(z.device) != torch.float64:
        fail(function, "estimator", "'plugin'", f"must be another on {z.device}, which has no fp64")
    points = z.double() if estimator == "plugin" else z  # densities beyond fp32 would give gradients of 0 · inf
    of_points = log_density(kernel_of, points, None, log_weights, leave_one_out=estimator == "loo")
    if estimator == "plugin":
        return -_times_its_exponential(of_points).sum()
    if estimator == "plugin_normalized":
        return -(of_points.softmax(dim=0) * of_points).sum().to(dtype)
    assert log_weights is not None
    # A point of weight 0 does not count, even if its density is 0.
    share = log_weights.exp()
    return -(share * torch.where(share == 0, 0.0, of_points)).sum().to(dtype)


def _times_its_exponential(log_density: Tensor) -> Tensor:
    """p log p of each log p. Its slope (1 + log p) p may exceed fp64: then it is a large number, so that times a gradient of 0 it
    is 0 and not NaN. At p = 0 value and slope are 0."""
    at = log_density.detach()
    p = at.exp()
    value = torch.where(p == 0, 0.0, p * at)
    slope = torch.where(p == 0, 0.0, (1 + at) * p).clamp(-_LARGEST, _LARGEST)
    change = torch.where(p == 0, 0.0, log_density - at)
    return value + slope * change


_LARGEST = 1e300


def renyi2_entropy(z: Tensor, *, bandwidth: Bandwidth | None = None, estimator: OwnPoint = "loo") -> Tensor:
    """Rényi's entropy of order 2, −log ∫ p̂², of a sample by Gaussian kernels, in nats and O(N·D) memory.

        −log mean_{i,j} K_{√2 h}(z_i − z_j),    −log of the information potential (Principe, 2010, eq. 2.13)

    z          (N, D) float tensor, N ≥ 2
    bandwidth  h, as in `kde_log_density`; two Gaussian kernels of width h integrate to one of width √2 h
    estimator  "loo": the mean over i ≠ j, whose exponential is unbiased for the smoothed density; "resubstitution": over all
               pairs, exactly −log ∫ p̂², from D ≈ 16 on the constant log N − log K_{√2 h}(0)

    The entropy that it estimates is never above Shannon's. It is one sum over all pairs, with no logarithm of a density inside,
    so a point that no other reaches costs nothing. `uniformity` is minus it, up to a constant.

    Returns a 0-d tensor in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.renyi2_entropy(torch.tensor([[0.0], [1.0]]), bandwidth=1.0)     # ½ log 4π + ¼
    tensor(1.5155)
    """
    function = "renyi2_entropy"
    choice(function, "estimator", estimator, OWN_POINT)
    embeddings(function, "z", z)
    if len(z) < 2:
        fail(function, "z", f"of shape {tuple(z.shape)}", "must have at least 2 rows")
    scale, log_volume, place, _ = widths(settled_width(function, "gaussian", z, bandwidth, None, None), z)
    leave_one_out = estimator == "loo"
    with without_autocast(z.device):
        total = pairwise_logsumexp(
            place(z),
            kind="sqdist",
            scale=0.25 * scale,
            exclude="diagonal" if leave_one_out else None,
            reduction="logsumexp",
        )
    log_normaliser = log_volume + 0.5 * z.shape[1] * math.log(4 * math.pi)
    log_pairs = log_of(len(z) * (len(z) - leave_one_out), log_normaliser)
    return (log_pairs + log_normaliser - total).to(accumulation_dtype(z.dtype))
