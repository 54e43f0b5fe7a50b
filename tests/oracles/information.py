"""Bounds on mutual information as the papers print them, over the N×N matrix s of a critic's scores, s_ij = f(x_i, y_j)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .precision import inner_products


def scores(x: Tensor, y: Tensor, scale: float | Tensor = 1.0) -> Tensor:
    return scale * inner_products(x, y)


def _off(s: Tensor) -> Tensor:
    return s.masked_select(~torch.eye(len(s), dtype=torch.bool))


def _log_mean_exp_off(s: Tensor) -> Tensor:
    return _off(s).logsumexp(dim=0) - math.log(len(s) * (len(s) - 1))


def info_nce(s: Tensor) -> Tensor:
    return math.log(len(s)) + s.log_softmax(dim=1).diagonal().mean()


def dv(s: Tensor) -> Tensor:
    return s.diagonal().mean() - _log_mean_exp_off(s)


def nwj(s: Tensor) -> Tensor:
    return s.diagonal().mean() - (_log_mean_exp_off(s) - 1).exp()


def tuba(s: Tensor, log_baseline: Tensor) -> Tensor:
    return 1 + (s.diagonal() - log_baseline).mean() - _log_mean_exp_off(s - log_baseline[None, :]).exp()


def interpolated(s: Tensor, log_baseline: Tensor, alpha: float, one: bool = False) -> Tensor:
    """Every baseline spelt out: that of pair i with negative j left out is a mean over the other N − 1 columns."""
    N, q = len(s), log_baseline.exp()
    off = ~torch.eye(N, dtype=torch.bool)
    without = [s[:, torch.arange(N) != j].logsumexp(dim=1) - math.log(N - 1) for j in range(N)]
    m = torch.stack(without, dim=1).exp()  # (i, j): column j left out
    base = (alpha * m + (1 - alpha) * q[:, None]).log()
    joint = s.diagonal()[:, None] - base
    kept = torch.eye(N, dtype=torch.bool).roll(1, 1) if one else off
    own = base.diagonal()  # without the pair itself
    marginal = (s - own[:, None]).masked_select(off).exp().mean()
    return 1 + joint.masked_select(kept).mean() - marginal


def js(s: Tensor) -> Tensor:
    softplus = torch.nn.functional.softplus
    return -softplus(-s.diagonal()).mean() - softplus(_off(s)).mean()


def js_read_out(s: Tensor) -> Tensor:
    return 1 + s.diagonal().mean() - _log_mean_exp_off(s).exp()


def smile(s: Tensor, tau: float) -> Tensor:
    return s.diagonal().mean() - _log_mean_exp_off(s.clamp(-tau, tau))


def flo(s: Tensor, u: Tensor) -> Tensor:
    N = len(s)
    rest = (s - s.diagonal()[:, None]).masked_fill(torch.eye(N, dtype=torch.bool), -torch.inf)
    return 1 - (u + (rest.logsumexp(dim=1) - math.log(N - 1) - u).exp()).mean()


def club(y: Tensor, mean: Tensor, log_std: Tensor, every: bool = False) -> Tensor:
    """All N² log densities log q(y_j|x_i), of which the diagonal is the pairs'."""
    q = torch.distributions.Normal(mean[:, None], log_std.exp()[:, None])
    log_q = q.log_prob(y[None]).sum(dim=2)
    return log_q.diagonal().mean() - (log_q if every else _off(log_q)).mean()
