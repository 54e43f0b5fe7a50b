"""Joins: the scalar functions that make a row's loss from its sums, with their slopes. Joins are defined only here in Python.

    loss_i = f(N_i, P_i, spread_i, n_i)

    N       log-sum-exp over the row's negatives, one for each tilt; or their sum of ψ
    P       log-sum-exp over its positives, or their sum of ψ(−s)
    spread  P − mean_p s_ip over its positives; exactly 0 for one positive
    n       how many positives the row has

The gradient of a positive's score is f_P·p + f_spread·(p − 1/n) with p = e^{s − P}. The two slopes stay apart until the weight is
made: once training works f_P is tiny beside f_spread, and would be rounded away if they were added first.

To add a join, write `value` and `slopes` and enter it into `JOINS`, into csrc/pairwise/join.h and into triton/words.py, which
`tests/unit/test_words.py` compares. A loss that names no join is evaluated in torch between its two sweeps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .types import SideSlopes, SideSums


@dataclass(frozen=True)
class Join:
    """A loss of a row's sums.

    name       the key in `JOINS`, which native backends know
    tilts      how many N it takes
    value      value(N, P, spread, n) → loss; N is a tuple of tensors, all (rows,)
    slopes     slopes(N, P, spread, n) → (f_N, f_P, f_spread); f_N is a tuple, f_P and f_spread may be None for 0
    positives  it takes P: a row without positives has loss 0 and slopes 0
    spread     it takes the spread
    """

    name: str
    value: Callable[..., Tensor]
    slopes: Callable[..., tuple[tuple[Tensor, ...], Tensor | None, Tensor | None]]
    tilts: int = 1
    positives: bool = True
    spread: bool = False


Logs = tuple[Tensor, ...]


def _excess(N: Logs, P: Tensor) -> Tensor:
    """log(1 + e^{N − P}): the log-sum-exp of all pairs minus that of the positives, without that subtraction."""
    return softplus(N[0] - P, threshold=40.0)


def _excess_slope(N: Logs, P: Tensor) -> Tensor:
    return torch.sigmoid(N[0] - P)


def _softplus_slopes(N: Logs, P: Tensor, *_: Tensor) -> tuple[Logs, Tensor, None]:
    slope = _excess_slope(N, P)
    return (slope,), -slope, None


def _softplus_spread_slopes(N: Logs, P: Tensor, *_: Tensor) -> tuple[Logs, Tensor, Tensor]:
    slope = _excess_slope(N, P)
    return (slope,), -slope, torch.ones_like(slope)


def _constant(*slopes: float) -> Callable[..., tuple[Logs, Tensor | None, None]]:
    """The slopes of a linear join: by each N, and last by P."""

    def of(N: Logs, *_: Tensor) -> tuple[Logs, Tensor | None, None]:
        by_n = tuple(torch.full_like(n, slope) for n, slope in zip(N, slopes, strict=False))
        return by_n, torch.full_like(N[0], slopes[-1]) if len(slopes) > len(N) else None, None

    return of


NONE = Join("none", lambda N, *_: N[0], _constant(1.0), positives=False)
SOFTPLUS = Join("softplus", lambda N, P, *_: _excess(N, P), _softplus_slopes)
DIFFERENCE = Join("difference", lambda N, P, *_: N[0] - P, _constant(1.0, -1.0))
SUM = Join("sum", lambda N, P, *_: N[0] + P, _constant(1.0, 1.0))
SOFTPLUS_SPREAD = Join(
    "softplus_spread", lambda N, P, spread, *_: _excess(N, P) + spread, _softplus_spread_slopes, spread=True
)
SOFTPLUS_COUNT = Join("softplus_count", lambda N, P, _, n: _excess(N, P) + n.log(), _softplus_slopes)
TILT_DIFFERENCE = Join("tilt_difference", lambda N, P, *_: N[0] - N[1] - P, _constant(1.0, -1.0, -1.0), tilts=2)

JOINS = {
    join.name: join for join in (NONE, SOFTPLUS, DIFFERENCE, SUM, SOFTPLUS_SPREAD, SOFTPLUS_COUNT, TILT_DIFFERENCE)
}


def arguments(side: SideSums) -> tuple[Logs, Tensor | None, Tensor | None, Tensor | None]:
    """N, P, spread and n of a side, as joins take them; None for absent ones. Rows without positives have P = 0 and n = 1."""
    logs = side.negatives.values().unbind(0)
    if side.positives is None:
        return logs, None, None, None
    positives = side.positives
    assert positives.count is not None
    absent = positives.count == 0
    P = positives.values().select(0, 0).masked_fill(absent, 0.0)
    spread = None
    if positives.linear is not None and positives.reference is not None:
        apart = P - positives.linear / positives.count.clamp_min(1)
        spread = torch.where(positives.count > 1, apart, 0.0)  # a single score is its own mean to the last digit
    return logs, P, spread, positives.count.clamp_min(1)


def values(join: Join, side: SideSums) -> Tensor:
    """(n,) the loss of each row."""
    loss = join.value(*arguments(side))
    absent = _absent(join, side)
    return loss if absent is None else loss.masked_fill(absent, 0.0)


def slopes(join: Join, side: SideSums, weight: Tensor) -> SideSlopes:
    """The slopes of Σ_i weight_i loss_i, for weights (n,)."""
    of_n, of_p, of_spread = join.slopes(*arguments(side))
    absent = _absent(join, side)
    weight = weight if absent is None else weight.masked_fill(absent, 0.0)

    def weighted(slope: Tensor | None) -> Tensor | None:
        # With a weight of 0 a slope does not count, even if it is NaN because its row has an infinite score.
        return None if slope is None else torch.where(weight == 0, 0.0, slope * weight)

    by_n = [torch.where(weight == 0, 0.0, slope * weight) for slope in of_n]
    return SideSlopes(torch.stack(by_n), weighted(of_p), weighted(of_spread))


def _absent(join: Join, side: SideSums) -> Tensor | None:
    if not join.positives or side.positives is None:
        return None
    assert side.positives.count is not None
    return side.positives.count == 0
