"""Widths of kernels: numbers, one for each dimension, a covariance, rules, and the width of the largest likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from .._checks import accumulation_dtype, choice, embeddings, fail, positive, readable, wide_scalar, widest, wrong_type
from ..literals import BANDWIDTH_WORDS, KERNELS, BandwidthWord, KernelName
from .kernels import Kernel, gaussian, radial, student_t, vmf
from .log_density import log_density
from .rows import unit

SMALLEST = 1e-154  # the smallest bandwidth h for which 1/h² is a finite double
Bandwidth = float | Tensor | BandwidthWord
Concentration = float | Tensor | Literal["likelihood"]

MOST_ROWS = 2048  # of a search: it takes some 40 densities of these, about a second in 128 dimensions
STEPS = 14  # of golden section, which leave 0.1 % of two factors of 2


def bandwidth_by_likelihood(z: Tensor, *, kernel: KernelName = "gaussian", df: float | None = None) -> Tensor:
    """The width of the largest leave-one-out likelihood (Duin, 1976): bandwidth="likelihood" of the estimators is this.

        h_d = t σ_d,   t = argmax Σ_i log p̂_{−i}(z_i; t σ)         for vmf κ instead of t σ

    z       (N, D) float tensor, N ≥ 2
    kernel  as in `kde_log_density`; for "vmf" the result is its concentration
    df      of kernel="student"

    σ_d are the sample deviations, so each dimension may have its own unit. Log t is searched for on a grid of factors of 2,
    then by golden section. Of more than 2,048 points the search sees 2,048, and h is taken to N points by Scott's rate
    N^{−1/(D+4)} (κ by that of a sphere, N^{2/(D+3)}). A constant for autograd. Nothing is read from a device.

    Duplicates draw the width down, to 0 if every point has one, since each then predicts the other: remove them. A compact kernel
    must reach a neighbour from every point, so one outlier makes it wide.

    Returns h (D,), or κ 0-d, in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault; ValueError
    if a dimension does not vary, or if no width is the best.

    >>> z = torch.linspace(-1.5, 1.5, 200).erfinv().nan_to_num()[50:150, None]          # some normal quantiles
    >>> bool(0.01 < jk.bandwidth_by_likelihood(z) < 0.2)
    True
    """
    function = "bandwidth_by_likelihood"
    embeddings(function, "z", z)
    if len(z) < 2:
        fail(function, "z", f"of shape {tuple(z.shape)}", "must have at least 2 rows")
    choice(function, "kernel", kernel, KERNELS)
    return by_likelihood(function, "z", z, kernel, degrees_of_freedom(function, kernel, df))


def degrees_of_freedom(function: str, kernel: str, df: float | None) -> float | None:
    """df, which only Student's kernel has and needs."""
    if kernel == "student":
        if df is None:
            fail(function, "df", None, 'must be given with kernel="student" (> 0; 1 is the Cauchy kernel)')
        return positive(function, "df", df)
    if df is not None:
        fail(function, "df", "given", f'must be None with kernel="{kernel}", which has no degrees of freedom')
    return None


def by_likelihood(function: str, argument: str, data: Tensor, kernel: str, df: float | None) -> Tensor:
    """The search; `argument` is named in its errors."""
    z = data.detach().to(accumulation_dtype(data.dtype))
    N, D = z.shape
    if kernel == "vmf" and D < 2:
        fail(function, "kernel", "'vmf'", f"must be another for D = {D}: a sphere needs 2 dimensions")
    was, must = ("'likelihood'", "must be a number") if argument != "z" else ("of equal numbers", "must vary")
    sigma = z.new_ones(()) if kernel == "vmf" else deviations(function, argument, was, z, must=must)
    n = min(N, MOST_ROWS)
    if n < N:  # the golden ratio's multiples fall evenly, whatever the order of the rows repeats
        places = torch.arange(N, dtype=widest(z.device), device=z.device).mul_(0.5 * (5**0.5 - 1)).frac_()
        z = z.index_select(0, places.topk(n, largest=False).indices)

    def likelihood(log_width: Tensor) -> Tensor:
        return log_density(
            kernel_of(kernel, log_width.exp() * sigma, z, df), z, None, leave_one_out=True, reduction="mean"
        )

    # Widths below 2^−12 σ are those of duplicates; 2√(nD) σ reaches from any point to any other. κ is as 1/h².
    powers = (-2, 24) if kernel == "vmf" else (-12, math.ceil(math.log2(2 * math.sqrt(n * D))) + 1)
    with torch.no_grad():
        log_width, place = best_of(likelihood, torch.arange(*powers, device=z.device) * math.log(2), z)
        narrowest = len(range(*powers)) - 1 if kernel == "vmf" else 0
        if readable(data) and bool(z.isfinite().all()) and int(place) == narrowest:
            was = "such that the likelihood grows without end as kernels narrow"
            fail(function, argument, was, "must not consist of duplicates")
        rate = 2 / (D + 3) if kernel == "vmf" else -1 / (D + 4)
        return log_width.exp() * sigma * (N / n) ** rate


def best_of(objective: Callable[[Tensor], Tensor], grid: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Where a function of a 0-d tensor is largest near its largest value on a grid, and that place on the grid; unread."""
    grid = grid.to(like.dtype)
    values = torch.stack([objective(at) for at in grid.unbind()])
    place = values.argmax()
    best, best_value = grid.take(place), values.take(place)
    a, b = grid.take((place - 1).clamp_min(0)), grid.take((place + 1).clamp_max(len(grid) - 1))
    ratio = 0.5 * (5**0.5 - 1)
    left, right = b - ratio * (b - a), a + ratio * (b - a)
    of_left, of_right = objective(left), objective(right)
    for _ in range(STEPS):
        lower = of_left > of_right  # with −inf on both sides kernels are too narrow: go on to the right
        a, b = torch.where(lower, a, left), torch.where(lower, right, b)
        new = torch.where(lower, b - ratio * (b - a), a + ratio * (b - a))
        of_new = objective(new)
        left, right = torch.where(lower, new, right), torch.where(lower, left, new)
        of_left, of_right = torch.where(lower, of_new, of_right), torch.where(lower, of_left, of_new)
        best = torch.where(of_new > best_value, new, best)
        best_value = torch.maximum(of_new, best_value)
    return best, place


def kernel_of(name: str, width: Tensor, data: Tensor, df: float | None) -> Kernel:
    """The kernel of this name and width."""
    if name == "vmf":
        return vmf(width, data.shape[1], unit)
    if name == "gaussian":
        return gaussian(width, data)
    return student_t(width, data, df) if df is not None else radial(name, width, data)


def settled(
    function: str,
    name: str,
    data: Tensor,
    bandwidth: Bandwidth | None,
    concentration: Concentration | None,
    log_weights: Tensor | None = None,
    df: float | None = None,
) -> Kernel:
    """The kernel with its width settled; bandwidth, concentration and df checked."""
    choice(function, "kernel", name, KERNELS)
    df = degrees_of_freedom(function, name, df)
    return kernel_of(name, settled_width(function, name, data, bandwidth, concentration, df, log_weights), data, df)


def settled_width(
    function: str,
    name: str,
    data: Tensor,
    bandwidth: Bandwidth | None,
    concentration: Concentration | None,
    df: float | None,
    log_weights: Tensor | None = None,
) -> Tensor:
    """The concentration of vmf, 0-d, or the bandwidth of any other kernel, 0-d, (D,) or (D, D)."""
    if name == "vmf":
        if bandwidth is not None:
            fail(function, "bandwidth", "given", 'must be None with kernel="vmf", whose width is its concentration')
        if concentration is None:
            fail(function, "concentration", None, 'must be given with kernel="vmf" (κ >= 0)')
        if data.shape[1] < 2:
            fail(function, "kernel", "'vmf'", f"must be another for D = {data.shape[1]}: a sphere needs 2 dimensions")
        if isinstance(concentration, str):
            choice(function, "concentration", concentration, ("likelihood",))
            return _likely(function, "concentration", data, name, df, log_weights)
        return wide_scalar(function, "concentration", concentration, ("z", data), at_least=0)
    if concentration is not None:
        fail(function, "concentration", "given", f'must be None with kernel="{name}", whose width is its bandwidth')
    if isinstance(bandwidth, str):
        if choice(function, "bandwidth", bandwidth, BANDWIDTH_WORDS) == "likelihood":
            return _likely(function, "bandwidth", data, name, df, log_weights)
        return bandwidth_by_rule(function, bandwidth, data, log_weights)
    return _bandwidth(function, bandwidth, data)


def _likely(
    function: str, argument: str, data: Tensor, kernel: str, df: float | None, log_weights: Tensor | None
) -> Tensor:
    if log_weights is not None:
        fail(function, "weights", "given", f'must be None with {argument}="likelihood"')
    if len(data) < 2:
        fail(function, argument, "'likelihood'", "must be a number for a single point")
    return by_likelihood(function, argument, data, kernel, df)


def _bandwidth(function: str, bandwidth: float | Tensor | None, data: Tensor) -> Tensor:
    """The bandwidth as a 0-d, (D,) or (D, D) tensor of the accumulation dtype."""
    D = data.shape[1]
    must = "must be > 0 and finite (the kernel's width, in the units of the data)"
    if bandwidth is None:
        fail(
            function,
            "bandwidth",
            None,
            must + ", (D,) of those, a covariance (D, D), 'scott', 'silverman' or 'likelihood'",
        )
    if not isinstance(bandwidth, Tensor) or bandwidth.dim() == 0 or bandwidth.shape == (1,):
        h = wide_scalar(function, "bandwidth", bandwidth, ("the data", data), above=0)
        if readable(h) and not float(h.detach()) > SMALLEST:
            fail(function, "bandwidth", float(h), "must be so large that 1 over its square is finite")
        return h
    if not bandwidth.dtype.is_floating_point:
        wrong_type(function, "bandwidth", bandwidth, "must hold floats")
    if bandwidth.dim() > 2 or any(n != D for n in bandwidth.shape):
        shapes = f"must be a number, ({D},) or a covariance ({D}, {D})"
        fail(function, "bandwidth", f"of shape {tuple(bandwidth.shape)}", shapes)
    if bandwidth.device != data.device:
        fail(function, "bandwidth", f"on {bandwidth.device}", f"must be on {data.device} like the data")
    if bandwidth.dim() == 2:
        return _covariance(function, bandwidth, data)
    h = bandwidth.to(accumulation_dtype(data.dtype))
    fine = (h > 0) & h.isfinite() & h.square().reciprocal().isfinite()
    if readable(h) and not bool(fine.all()):
        fail(function, "bandwidth", f"{float(bandwidth[~fine][0])} somewhere", must)
    return h


def _covariance(function: str, bandwidth: Tensor, data: Tensor) -> Tensor:
    """A covariance, checked. It is fp64 for fp64 data or a covariance of fp64: its small eigenvalues are differences."""
    covariance = bandwidth if bandwidth.dtype == torch.float64 else bandwidth.to(accumulation_dtype(data.dtype))
    if readable(covariance):
        held = covariance.detach()
        asymmetry = float((held - held.mT).abs().amax())
        if not asymmetry <= 1e-5 * float(held.abs().amax()):
            was = f"a matrix whose mirror images differ by {asymmetry:.3g}"
            fail(function, "bandwidth", was, "must be symmetric: a covariance")
        if int(torch.linalg.cholesky_ex(held).info) != 0:
            fail(function, "bandwidth", "a matrix that is not positive definite", "must be a covariance")
    return covariance


def bandwidth_by_rule(function: str, rule: str, data: Tensor, log_weights: Tensor | None = None) -> Tensor:
    """Scott's or Silverman's rule, h_d = factor · σ_d, (D,), a constant for autograd.

        "scott"      factor = n^{−1/(D+4)}              "silverman"  factor = (n (D + 2) / 4)^{−1/(D+4)}

    σ_d is the sample deviation (divided by n − 1). With weights n is 1 / Σ w², and σ_d is weighted, as in scipy.
    """
    n = len(data) if log_weights is None else 1 / log_weights.detach().exp().square().sum()
    sigma = deviations(function, "bandwidth", repr(rule), data, log_weights)
    return (sigma * rule_factor(rule, n, data.shape[1])).to(sigma.dtype)


def rule_factor(rule: str, n: Any, D: int) -> Any:
    """The factor of a bandwidth rule before σ, for n points or as many as weights amount to."""
    return (n if rule == "scott" else n * (D + 2) / 4) ** (-1.0 / (D + 4))


def deviations(
    function: str,
    argument: str,
    was: str,
    data: Tensor,
    log_weights: Tensor | None = None,
    must: str = "must be a number",
) -> Tensor:
    """The (weighted) deviation of each dimension, (D,). ValueError if one does not vary."""
    z = data.detach().to(accumulation_dtype(data.dtype))
    w = z.new_full((len(z),), 1.0 / len(z)) if log_weights is None else log_weights.detach().exp().to(z.dtype)
    squares = w.square().sum()
    centered = z - w @ z
    largest = torch.linalg.vector_norm(centered, math.inf, dim=0)
    # Squares of ratios to the largest neither overflow nor vanish.
    ratios = centered.div_(torch.where(largest == 0, 1.0, largest))
    sigma = largest * (w @ ratios.square_() / (1 - squares)).sqrt()
    if readable(data):
        # A constant is found in the data: its computed deviation is seldom 0, because its mean is rounded.
        counted = data.detach() if log_weights is None else data.detach()[log_weights.detach() > -torch.inf]
        constant = (sigma == 0).logical_or(counted.amin(dim=0) == counted.amax(dim=0)).nonzero().flatten().tolist()
        if constant:
            fail(function, argument, was, f"{must}: dimension {constant[0]} of the data does not vary")
    return sigma
