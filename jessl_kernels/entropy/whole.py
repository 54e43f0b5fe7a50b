"""The entropy of a whole data set, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._checks import accumulation_dtype, choice, fail, flag, wrong_type
from ..arrays import check_floats, device_of, part
from ..functional.bandwidth import Bandwidth, rule_factor, settled
from ..functional.log_density import log_weights_of
from ..literals import OWN_POINT, RULES, KernelName, OwnPoint
from ..progress import bar
from .result import Entropy
from .rows import Moments, Rows, digest_of, moments_of, rows_of
from .state import state_of
from .sweep import count_of_pairs, sweep

if TYPE_CHECKING:
    from numpy import ndarray


@torch.no_grad()
def entropy_of(
    z: Tensor | ndarray | Iterable[Any],
    *,
    bandwidth: Bandwidth | None = None,
    concentration: float | Tensor | None = None,
    kernel: KernelName = "gaussian",
    df: float | None = None,
    estimator: OwnPoint = "loo",
    weights: Tensor | ndarray | None = None,
    device: torch.device | str | None = None,
    state: str | Path | None = None,
    progress: bool | None = None,
) -> Entropy:
    """The entropy of a whole data set by kernel-density estimation, with its standard error: exact, over all pairs. In nats.

        Ĥ = −Σ_i w_i log p̂_{−i}(z_i),   p̂_{−i}(z_i) = Σ_{j≠i} w_j K_h(z_i − z_j) / (1 − w_i),   w = 1/N without weights

    It is the number of `jk.kde_entropy`, without a gradient. The pairs are summed by blocks of 16,384 rows; a pair of blocks
    serves the rows of both. Memory is two blocks and 16 numbers a row beside the data, which may stay on the disk.

    z              (N, D) or (N,): a float tensor; a float array, `numpy.load(file, mmap_mode="r")` among them; or a loader,
                   any iterable of batches, of tuples and lists the first item. Batches are held in memory
    bandwidth, concentration, kernel, df   as in `jk.kde_entropy`; "scott" and "silverman" are of all rows, and "likelihood" must
                   be estimated before, from a sample: `jk.bandwidth_by_likelihood`
    estimator      "loo" leaves each point out of its own density; "resubstitution" counts it there
    weights        (N,) ≥ 0, divided by their sum, tensor or array
    device         where to compute; None: where z is
    state          a file that keeps the sums, saved each minute and after Ctrl-C. A call with the same data, settings and
                   file goes on where that one ended. ValueError for a state of other data or settings. The file stays
    progress       whether to show a bar; None: on a terminal, if rich is installed

    The standard error is of the mean over points, at this width. It does not contain the kernel's bias.

    Raises ValueError or TypeError naming the argument at fault.

    >>> round(jk.entropy_of(torch.tensor([[0.0], [1.0]]), bandwidth=1.0).value, 4)     # ½ log 2π + ½
    1.4189
    """
    function = "entropy_of"
    choice(function, "estimator", estimator, OWN_POINT)
    if progress is not None:
        flag(function, "progress", progress)
    if state is not None and not isinstance(state, (str, Path)):
        wrong_type(function, "state", state, "must be the name of a file, or None")
    rows = rows_of(function, "z", z, None if device is None else device_of(function, device))
    first = rows.block(0)
    N, D = len(rows), first.shape[1]
    log_weights = _log_weights(function, weights, N, estimator)
    shares = torch.full((N,), 1 / N, dtype=torch.float64) if log_weights is None else log_weights.exp()
    moments = moments_of(function, "z", rows, None if log_weights is None else shares, directions=kernel == "vmf")
    for name, width in (("bandwidth", bandwidth), ("concentration", concentration)):
        if isinstance(width, str) and width == "likelihood":
            fail(function, name, "'likelihood'", "must be a number: jk.bandwidth_by_likelihood of a sample of the rows")
    if isinstance(bandwidth, str):
        bandwidth = _by_rule(function, bandwidth, moments, 1 / float(shares.square().sum()))
    # One row stands for the data: the kernel wants their width, dtype and mean alone.
    like = moments.mean[None].to(accumulation_dtype(first.dtype))
    used = settled(function, kernel, like, bandwidth, concentration, df=df)
    width = None if bandwidth is None else _listed(torch.as_tensor(bandwidth, dtype=torch.float64))
    concentration = None if concentration is None else float(concentration)

    settings: dict[str, Any] = {"kernel": kernel}
    if state is not None:  # the data first: a width by a rule differs with them
        settings |= {"rows": N, "dtype": str(first.dtype), "blocks": len(rows.starts), "data": digest_of(rows)}
        settings["weights"] = None if log_weights is None else digest_of(Rows(shares, None))
    settings |= {"bandwidth": width, "concentration": concentration, "df": df, "estimator": estimator}
    kept = state_of(function, state, settings, torch.full_like(shares, -torch.inf))
    loo = estimator == "loo"
    with bar(function, progress, count_of_pairs(rows), "entropy") as report:
        log_sums = sweep(rows, used, log_weights, loo, kept, report)

    others = math.log(N - loo) if log_weights is None else torch.log1p(-shares) if loo else 0.0
    of_points = float(used.log_normaliser) + others - log_sums
    value, stderr = _mean(of_points, shares)
    return Entropy(
        value=value,
        stderr=stderr,
        N=N,
        D=D,
        kernel=kernel,
        bandwidth=_tupled(width),
        concentration=concentration,
        df=df,
        estimator=estimator,
        weighted=log_weights is not None,
        unreached=int(((log_sums == -torch.inf) & (shares > 0)).sum()),
        seconds=kept.progress.seconds,
    )


def _listed(bandwidth: Tensor) -> Any:
    """A number, a list of widths, or the list of a covariance's rows, which is never a number."""
    return bandwidth.item() if bandwidth.numel() == 1 and bandwidth.dim() < 2 else bandwidth.tolist()


def _tupled(width: Any) -> Any:
    return tuple(map(_tupled, width)) if isinstance(width, list) else width


def _mean(of_points: Tensor, shares: Tensor) -> tuple[float, float]:
    """Σ w_i h_i and its standard error. A point of weight 0 does not count, even if its density is 0."""
    counted = shares > 0
    h, w = of_points[counted], shares[counted]
    value = (w * h).sum()
    variance = (w * (h - value)).square().sum() / (1 - w.square().sum())
    return float(value), float(variance.sqrt())


def _log_weights(function: str, weights: Any, N: int, estimator: str) -> Tensor | None:
    """(N,) log w_j, in fp64 on the CPU."""
    if weights is None:
        return None
    check_floats(function, "weights", weights)
    weights = part(weights).cpu()
    log_weights = log_weights_of(function, weights, torch.empty(N, 0))
    if estimator == "loo" and int((weights > 0).sum()) < 2:
        fail(function, "weights", "positive at 1 point", "must be at 2 or more with estimator='loo'")
    return log_weights


def _by_rule(function: str, rule: str, moments: Moments, n: float) -> Tensor:
    """(D,) bandwidths of n points; `bandwidth_by_rule` of functional.density needs them in one tensor."""
    choice(function, "bandwidth", rule, RULES)
    constant = moments.constant.nonzero().flatten().tolist()
    if constant:
        must = f"must be a number: dimension {constant[0]} of the data does not vary"
        fail(function, "bandwidth", repr(rule), must)
    return moments.deviation * rule_factor(rule, n, len(moments.deviation))
