"""Bounds on mutual information of a critic's scores: ours by their names, and as one writes them over the N×N matrix.

The matrix forms differ in how they leave the diagonal out: `MASKED` writes −inf into a copy, `SUBTRACTED` takes its terms off the
sums, `COPIED` copies all that is beside it (torch-mist's way).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jessl_kernels import mi
from jessl_kernels.literals import BoundName

ALPHA, TAU = 0.5, 5.0  # those of the package
HIDDEN = 256
Bound = Callable[[Tensor, Tensor], Tensor]


def scale_of(D: int) -> float:
    """Scores of normal embeddings of any D are then of the size that a trained critic's have."""
    return D**-0.5


@dataclass(frozen=True)
class Off:
    """Sums over the pairs beside the diagonal of s: over rows, by log-sum-exp; over all, by log-sum-exp; of softplus over all."""

    rows: Callable[[Tensor], Tensor]
    total: Callable[[Tensor], Tensor]
    softplus: Callable[[Tensor], Tensor]


def _by_matrix(off: Callable[[Tensor], Tensor]) -> Off:
    return Off(
        lambda s: off(s).logsumexp(dim=1),
        lambda s: off(s).flatten().logsumexp(dim=0),
        lambda s: F.softplus(off(s)).sum(),
    )


def _masked(s: Tensor) -> Tensor:
    return s.masked_fill(torch.eye(len(s), dtype=torch.bool, device=s.device), -torch.inf)


def _copied(s: Tensor) -> Tensor:
    N = len(s)
    return s.flatten()[1:].view(N - 1, N + 1)[:, :-1].reshape(N, N - 1)


def _subtracted_rows(s: Tensor) -> Tensor:
    top = s.detach().amax(dim=1)
    return ((s - top[:, None]).exp().sum(dim=1) - (s.diagonal() - top).exp()).log() + top


def _subtracted_total(s: Tensor) -> Tensor:
    top = s.detach().amax()
    return ((s - top).exp().sum() - (s.diagonal() - top).exp().sum()).log() + top


MASKED, COPIED = _by_matrix(_masked), _by_matrix(_copied)
SUBTRACTED = Off(_subtracted_rows, _subtracted_total, lambda s: F.softplus(s).sum() - F.softplus(s.diagonal()).sum())
OFFS = {"masked": MASKED, "subtracted": SUBTRACTED, "copied": COPIED}


def _log_mean(s: Tensor, off: Off) -> Tensor:
    return off.total(s) - math.log(len(s) * (len(s) - 1))


def _interpolated(s: Tensor, off: Off) -> Tensor:
    """With the baseline q = 1 and each negative left out."""
    N, own, others = len(s), s.diagonal(), off.rows(s)
    whole = torch.logaddexp(others, own)

    def baseline(log_mean: Tensor) -> Tensor:
        return torch.logaddexp(log_mean + math.log(ALPHA), log_mean.new_full((), math.log1p(-ALPHA)))

    without = whole[:, None] + torch.log(-torch.expm1(_masked(s) - whole[:, None])) - math.log(N - 1)
    logs = _masked_sum(baseline(without)) / (N * (N - 1))
    mean = others - math.log(N - 1)
    return 1 + own.mean() - logs - (mean - baseline(mean)).exp().mean()


def _masked_sum(t: Tensor) -> Tensor:
    return t.sum() - t.diagonal().sum()


FORMS: dict[BoundName, Callable[[Tensor, Off], Tensor]] = {
    "info_nce": lambda s, off: math.log(len(s)) - (s.logsumexp(dim=1) - s.diagonal()).mean(),
    "nwj": lambda s, off: s.diagonal().mean() - (_log_mean(s, off) - 1).exp(),
    "dv": lambda s, off: s.diagonal().mean() - _log_mean(s, off),
    "tuba": lambda s, off: 1 + s.diagonal().mean() - _log_mean(s, off).exp(),
    "interpolated": _interpolated,
    "js": lambda s, off: -F.softplus(-s.diagonal()).mean() - off.softplus(s) / (len(s) * (len(s) - 1)),
    "smile": lambda s, off: s.diagonal().mean() - _log_mean(s.clamp(-TAU, TAU), off),
    "flo": lambda s, off: 1 - (off.rows(s) - s.diagonal() - math.log(len(s) - 1)).exp().mean(),
}


def form(name: BoundName, off: Off) -> Bound:
    """A bound over the matrix of inner products."""
    return lambda x, y: FORMS[name](scale_of(x.shape[1]) * x @ y.T, off)


def ours(name: BoundName) -> Bound:
    """The same by its objective; of "js" the loss that trains, whose value is no bound."""

    def value(x: Tensor, y: Tensor) -> Tensor:
        objective = mi.Objective(name, mi.InnerProduct(scale_of(x.shape[1])))
        return -objective(x, y) if name == "js" else objective.bound_of(x, y)

    return value


def club(x: Tensor, y: Tensor) -> Tensor:
    return mi.club(y, x, 0.1 * x)


def club_of_pairs(x: Tensor, y: Tensor) -> Tensor:
    """log q(y_j|x_i) of all pairs, by products."""
    precision = torch.exp(-0.2 * x)
    log_q = precision * x @ y.T - 0.5 * precision @ y.square().T - 0.5 * (precision * x.square()).sum(dim=1)[:, None]
    N = len(x)
    return log_q.diagonal().mean() - (log_q.sum() - log_q.diagonal().sum()) / (N * (N - 1))


@functools.cache
def _joint(D: int) -> mi.Joint:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return mi.Joint(D, D, hidden=(HIDDEN,)).requires_grad_(False)


def joint(x: Tensor, y: Tensor) -> Tensor:
    critic = _joint(x.shape[1]).to(x.device, x.dtype)
    return mi.Objective("nwj", critic).bound_of(x, y)


def joint_of_pairs(x: Tensor, y: Tensor) -> Tensor:
    """The critic on a batch of all N² concatenated pairs."""
    critic, N = _joint(x.shape[1]).to(x.device, x.dtype), len(x)
    first = torch.cat([critic.of_x.weight, critic.of_y.weight], dim=1)
    both = torch.cat([x.repeat_interleave(N, dim=0), y.repeat(N, 1)], dim=1)
    rest: nn.Module = critic.rest
    return FORMS["nwj"](rest(F.linear(both, first, critic.of_x.bias)).view(N, N), MASKED)
