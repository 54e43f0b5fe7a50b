"""Bounds on the mutual information of pairs, in nats: formulas over the sums of a critic's scores.

With pairs (x_i, y_i), i < N, and s_ij = f(x_i, y_j). Negatives are the pairs i ≠ j, K − 1 = N − 1 a row. `scores` are those that
a critic gives for a batch, critic(x, y). An argument that does not fit raises a ValueError or a TypeError with its name.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .._checks import choice, fail, number, positive, wrong_type
from ..functional.rows import log_of
from ..literals import LEAVE_OUT, LeaveOut
from ..problem import phi
from .scores import Scores, count


def log_mean_of_exp(scores: Scores, total: Tensor) -> Tensor:
    """log of the mean over all negatives, from the log of their sum."""
    return total - log_of(scores.N * count(scores), total)


def info_nce(scores: Scores) -> Tensor:
    """log N − mean_i (log Σ_j e^{s_ij} − s_ii), over all j (van den Oord et al., arXiv 1807.03748). At most log N."""
    loss = scores.cross_entropy()
    return log_of(scores.N, loss) - loss


def dv(scores: Scores) -> Tensor:
    """mean_i s_ii − log mean_{i≠j} e^{s_ij} (Donsker and Varadhan 1983; Belghazi et al., arXiv 1801.04062, eq. 5)."""
    return scores.positives().mean() - log_mean_of_exp(scores, scores.total())


def nwj(scores: Scores) -> Tensor:
    """mean_i s_ii − e^{−1} mean_{i≠j} e^{s_ij} (Nguyen, Wainwright and Jordan 2010; Poole et al., arXiv 1905.06922, eq. 5)."""
    return scores.positives().mean() - (log_mean_of_exp(scores, scores.total()) - 1).exp()


def tuba(scores: Scores, log_baseline: Tensor) -> Tensor:
    """1 + mean_j (s_jj − log a_j) − mean_{i≠j} e^{s_ij − log a_j} (Poole et al., eq. 4).

    log_baseline  (N,), log a(y_j): the output of a network of y alone
    """
    log_baseline = _one_a_row("tuba", "log_baseline", log_baseline, scores)
    total = scores.total(col_bias=-log_baseline)
    return 1 + (scores.positives() - log_baseline).mean() - log_mean_of_exp(scores, total).exp()


def interpolated(scores: Scores, log_baseline: Tensor, alpha: float, leave_out: LeaveOut = "each") -> Tensor:
    """I_α: NWJ with the baseline α·m + (1 − α)·q, m a mean of e^s over other columns of the row (Poole et al., eq. 14).

        1 + mean_i mean_{j≠i} (s_ii − log(α m_ij + (1 − α) q_i)) − mean_i e^{L_i} / (α e^{L_i} + (1 − α) q_i)
        m_ij = (Σ_{l≠j} e^{s_il}) / (N − 1),    L_i = log mean_{j≠i} e^{s_ij}

    The baseline of a pair counts its own score and leaves one negative out, so that both baselines are means of N − 1 scores.

    log_baseline  (N,), log q_i
    alpha         0 < α ≤ 1
    leave_out     "each" negative in turn, exactly, by a sweep of its own; "one": column i + 1 of each row
    """
    log_baseline = _one_a_row("interpolated", "log_baseline", log_baseline, scores)
    choice("interpolated", "leave_out", leave_out, LEAVE_OUT)
    if not 0 < number("interpolated", "alpha", alpha) <= 1:
        fail("interpolated", "alpha", alpha, "must be 0 < alpha <= 1")
    N, own = scores.N, scores.positives()
    log_alpha, log_rest = math.log(alpha), math.log1p(-alpha) if alpha < 1 else -math.inf
    # Σ_{l≠j} e^{s_il} is summed without column j for one j, and for the others taken off the whole sum. That would cancel for a
    # column that holds most of the sum, and only the largest can.
    left = scores.largest() if leave_out == "each" else torch.arange(1, N + 1, device=own.device) % N
    rest, log_others = scores.rows(without=left), log_of(N - 1, own)
    others = torch.logaddexp(rest, scores.at(left))
    mean = others - log_others
    marginal = (mean - torch.logaddexp(log_alpha + mean, log_rest + log_baseline)).exp().mean()
    logs = torch.logaddexp(log_alpha + torch.logaddexp(rest, own) - log_others, log_rest + log_baseline)
    if leave_out == "each":
        whole = torch.logaddexp(others, own)  # log Σ_l e^{s_il} over all l
        # α m_ij + (1 − α) q_i = A − B e^{s_ij − whole} = A (1 − e^u), with u = s_ij − whole + log B − log A.
        log_b = log_alpha + whole - log_others
        log_a = torch.logaddexp(log_b, log_rest + log_baseline)
        differences = scores.sums("log1m_exp", row_bias=log_b - log_a - whole, without=left)
        logs = (logs + (N - 2) * log_a + differences) / (N - 1)
    return 1 + (own - logs).mean() - marginal


def js(scores: Scores) -> Tensor:
    """−mean_i softplus(−s_ii) − mean_{i≠j} softplus(s_ij): Jensen–Shannon's objective (Hjelm et al., arXiv 1808.06670, eq. 4).

    It is no bound on the information. Its best critic is log p(y|x)/p(y), by which NWJ of f + 1 reads a bound off.
    """
    others = scores.sums("softplus").sum() / (scores.N * count(scores))
    return -F.softplus(-scores.positives()).mean() - others


def js_read_out(scores: Scores) -> Tensor:
    """NWJ with the critic f + 1: 1 + mean_i s_ii − mean_{i≠j} e^{s_ij}."""
    return 1 + scores.positives().mean() - log_mean_of_exp(scores, scores.total()).exp()


def smile(scores: Scores, tau: float = 5.0) -> Tensor:
    """mean_i s_ii − log mean_{i≠j} e^{clamp(s_ij, −τ, τ)} (Song and Ermon, arXiv 1910.06222, eq. 9); positives are whole."""
    tau = positive("smile", "tau", tau)
    return scores.positives().mean() - log_mean_of_exp(scores, scores.total(clamp=phi.clamp(-tau, tau)))


def flo(scores: Scores, u: Tensor) -> Tensor:
    """1 − mean_i (u_i + e^{−u_i} mean_{j≠i} e^{s_ij − s_ii}) (Guo et al., arXiv 2107.01131, eq. 8).

    u  (N,), the output of a network of the pair; its best value in expectation is log E e^{f(x, y′) − f(x, y)}. The best of one
       batch, its own mean, is fitted to the batch and gives no bound
    """
    u = _one_a_row("flo", "u", u, scores)
    contrast = scores.rows() - scores.positives() - log_of(count(scores), u)
    return 1 - (u + (contrast - u).exp()).mean()


def _one_a_row(function: str, argument: str, value: Tensor, scores: Scores) -> Tensor:
    if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
        wrong_type(function, argument, value, f"must be a float tensor ({scores.N},)")
    if value.shape != (scores.N,):
        fail(function, argument, f"of shape {tuple(value.shape)}", f"must be ({scores.N},), one number for each row")
    return value
