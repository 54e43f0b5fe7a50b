"""A bound by its name, as a number with its standard error and cap, and as a loss to train a critic by."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor  # torch.func has no public name for it

from .._checks import choice, fail, integer, number, pairs, positive, wrong_type
from ..literals import BOUND_NAMES, LEAVE_OUT, NEGATIVES, BoundKind, BoundName, LeaveOut, Negatives
from . import bounds
from .blocks import BlockScores
from .conditional import Identity, club, log_likelihood, model_of
from .critics import Critic, InnerProduct, OfBlocks
from .scores import DotScores, Scores

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Which bound takes which option.
TAKES = {
    "baseline": ("tuba", "interpolated"),
    "alpha": ("interpolated",),
    "leave_out": ("interpolated",),
    "tau": ("smile",),
    "decay": ("mine",),
    "u": ("flo",),
    # The sums of the other two hold the positives by their definition.
    "negatives": tuple(name for name in BOUND_NAMES if name not in ("info_nce", "interpolated")),
}


class Options(TypedDict, total=False):
    """Of `Objective` and `bound`."""

    baseline: nn.Module | None
    alpha: float | None
    leave_out: LeaveOut | None
    tau: float | None
    decay: float | None
    u: nn.Module | None
    negatives: Negatives | None


@dataclass(frozen=True)
class Bound:
    """value   nats, the mean over blocks
    stderr  standard error of that mean over blocks; NaN of one block
    cap     what the value cannot exceed at this block size, inf if nothing caps it
    blocks  how many
    kind    "lower": its expectation is a lower bound whatever the critic is; "upper": it is an upper bound where q(y|x) is good
            enough, which no sample can tell (see `club`); or "neither"
    note    a reason not to read the value as that bound, or ""
    """

    value: float
    stderr: float
    cap: float
    blocks: int
    kind: BoundKind
    note: str = ""


class Objective(nn.Module):
    """One bound with its critic, and what it learns beside it. Calling it gives the loss, which is to be minimised.

    name       the bound, of BOUND_NAMES
    critic     a Critic, or any f(x_block, y_block) → scores; None: inner products. Of "club": a module x → (μ, log σ), the model
               q(y|x); None: μ = x and σ = 1
    baseline   of "tuba", a module y → (N,) log a(y), and of "interpolated", x → (N,) log q(x); None: one learnt number
    alpha      of "interpolated", 0 < α ≤ 1, 0.5 unless given
    leave_out  of "interpolated": "each" negative in turn (unless given), or "one" of a row
    tau        of "smile", > 0, 5 unless given
    decay      of "mine", of the moving average of mean e^s, 0 ≤ decay < 1, 0.99 unless given
    u          of "flo", a module (x, y) → (N,); None: one learnt number
    negatives  "others", pairs i ≠ j, unless given; "all": the positives too, a looser bound that cannot pass log N. "info_nce"
               and "interpolated" have no choice: their sums hold the positives

    Raises ValueError or TypeError naming the argument at fault; an option that the bound does not take is one.
    """

    def __init__(
        self,
        name: BoundName,
        critic: Critic | nn.Module | None = None,
        *,
        baseline: nn.Module | None = None,
        alpha: float | None = None,
        leave_out: LeaveOut | None = None,
        tau: float | None = None,
        decay: float | None = None,
        u: nn.Module | None = None,
        negatives: Negatives | None = None,
    ):
        super().__init__()
        function = "Objective"
        choice(function, "name", name, BOUND_NAMES)
        self.name: BoundName = name
        given = {"baseline": baseline, "alpha": alpha, "leave_out": leave_out, "tau": tau, "decay": decay, "u": u}
        for option, value in {**given, "negatives": negatives}.items():
            if value is not None and name not in TAKES[option]:
                takers = ", ".join(map(repr, TAKES[option]))
                fail(function, option, repr(value), f"must be left out: it is an option of {takers}, not of {name!r}")
        self.critic = _critic_of(name, critic)
        self.alpha = 0.5 if alpha is None else _within(function, "alpha", alpha, "0 < alpha <= 1", lambda a: 0 < a <= 1)
        self.leave_out: LeaveOut = "each" if leave_out is None else leave_out
        choice(function, "leave_out", self.leave_out, LEAVE_OUT)
        self.tau = 5.0 if tau is None else positive(function, "tau", tau)
        self.decay = (
            0.99 if decay is None else _within(function, "decay", decay, "0 <= decay < 1", lambda d: 0 <= d < 1)
        )
        self.negatives: Negatives = "others" if negatives is None else negatives
        choice(function, "negatives", self.negatives, NEGATIVES)
        self.baseline, self.u = _module("baseline", baseline), _module("u", u)
        lone = (name in TAKES["baseline"] and baseline is None) or (name in TAKES["u"] and u is None)
        self.number = nn.Parameter(torch.zeros(())) if lone else None
        self.register_buffer("log_average", torch.tensor(-torch.inf) if name == "mine" else None)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Minus the objective whose gradient trains this bound's critic, 0-d.

        x, y  (N, D_x) and (N, D_y), row i of both a pair
        """
        if self.name == "club":
            return -log_likelihood(y, *self._model(x, y))
        if self.name in ("js", "smile"):
            return -bounds.js(self._scores(x, y))
        if self.name == "mine":
            return self._mine(self._scores(x, y))
        return -self.bound_of(x, y)

    def bound_of(self, x: Tensor, y: Tensor) -> Tensor:
        """The bound itself on all pairs as one block, 0-d, with its gradient: to raise (or by "club" to lower) I(X;Y) by the
        networks that made x and y."""
        if self.name == "club":
            return club(y, *self._model(x, y), self.negatives)
        scores = self._scores(x, y)
        match self.name:
            case "tuba":
                return bounds.tuba(scores, self._beside("baseline", self.baseline, y))
            case "interpolated":
                log_q = self._beside("baseline", self.baseline, x)
                return bounds.interpolated(scores, log_q, self.alpha, self.leave_out)
            case "smile":
                return bounds.smile(scores, self.tau)
            case "flo":
                return bounds.flo(scores, self._beside("u", self.u, x, y))
            case "mine" | "dv":
                return bounds.dv(scores)
        return {"info_nce": bounds.info_nce, "nwj": bounds.nwj, "js": bounds.js_read_out}[self.name](scores)

    def value(self, x: Tensor, y: Tensor, block: int | None = None) -> Bound:
        """The bound on I(X;Y) in nats, without a gradient: the mean over blocks of pairs. Pairs that fill no block are left out.

        x, y   (N, D_x) and (N, D_y), row i of both a pair
        block  pairs of a block; None: all of them in one
        """
        function = "Objective.value"
        _several_pairs(function, x, y)
        size = len(x) if block is None else integer(function, "block", block)
        if not 2 <= size <= len(x):
            fail(function, "block", block, f"must be between 2 and {len(x)}, the number of pairs")
        starts = range(0, len(x) - size + 1, size)
        with torch.no_grad():
            values = torch.stack([self.bound_of(x[i : i + size], y[i : i + size]).double() for i in starts])
        mean, spread = float(values.mean()), math.nan
        if len(values) > 1:
            spread = float(values.std()) / math.sqrt(len(values))
        note = (
            "not a bound yet: q(y|x) fits the pairs no better than it fits others"
            if self.name == "club" and mean < 0
            else ""
        )
        return Bound(mean, spread, self._cap(size), len(values), self._kind(), note)

    def _cap(self, N: int) -> float:
        if self.name == "interpolated":
            return math.log((N - 1) / self.alpha) + (self.alpha < 1)
        capped = self.negatives == "all" and self.name not in ("smile", "club")
        return math.log(N) if capped or self.name == "info_nce" else math.inf

    def _kind(self) -> BoundKind:
        # The logarithm of a batch's mean is on average below that of the expectation: DV reads too high.
        if self.name in ("dv", "mine", "smile"):
            return "neither"
        if self.name == "club":
            return "upper" if self.negatives == "others" else "neither"
        return "lower"

    def _model(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        _several_pairs("Objective", x, y)
        return model_of("Objective", self.critic, x, y)

    def _scores(self, x: Tensor, y: Tensor) -> Scores:
        _several_pairs("Objective", x, y)
        scores = self.critic(x, y)
        if not isinstance(scores, (DotScores, BlockScores)):
            wrong_type("Objective", "critic(x, y)", scores, "must be mi.DotScores, as a Critic's forward gives them")
        return replace(scores, negatives=self.negatives)

    def _beside(self, option: str, module: nn.Module | None, *inputs: Tensor) -> Tensor:
        """(N,): a network's output, or the one number that is learnt in its place."""
        N = len(inputs[0])
        if module is None:
            assert self.number is not None
            return self.number.to(inputs[0].device).expand(N)
        made = module(*inputs)
        if not isinstance(made, Tensor) or made.numel() != N:
            shape = f"of shape {tuple(made.shape)}" if isinstance(made, Tensor) else f"a {type(made).__name__}"
            fail("Objective", f"{option}'s output", shape, f"must be ({N},), one number for each row")
        return made.reshape(N)

    def _mine(self, scores: Scores) -> Tensor:
        """DV's value, with the gradient of mean e^s over its moving average (Belghazi et al., arXiv 1801.04062, section 3.2)."""
        log_mean = bounds.log_mean_of_exp(scores, scores.total())
        with torch.no_grad():
            now, known = log_mean, self.log_average.to(log_mean)
            later = torch.logaddexp(known + math.log(self.decay), now + math.log1p(-self.decay)) if self.decay else now
            average = torch.where(known.isneginf(), now, later)
            wrapped = not torch.compiler.is_compiling() and is_functorch_wrapped_tensor(average)
            if self.training and not wrapped:
                # One batch that is not finite must not stay in the average.
                self.log_average = torch.where(now.isfinite(), average, known)
        ratio = (log_mean - average).exp()
        return -(scores.positives().mean() - log_mean.detach() - (ratio - ratio.detach()))


def bound(
    name: BoundName,
    x: Tensor,
    y: Tensor,
    critic: Critic | nn.Module | None = None,
    *,
    block: int | None = None,
    **options: Unpack[Options],
) -> Bound:
    """A bound on the mutual information of pairs, in nats: `Objective(name, critic, **options).value(x, y, block)`.

    The critic is used as it is: this trains nothing, `jk.mi.estimate` does.

    >>> found = jk.mi.bound("info_nce", torch.eye(4), torch.eye(4))
    >>> round(found.value, 4)                                    # log 4 − (log(e + 3) − 1)
    0.6426
    """
    return Objective(name, critic, **options).value(x, y, block)


def _critic_of(name: str, critic: Any) -> nn.Module:
    if critic is None:
        return Identity() if name == "club" else InnerProduct()
    if isinstance(critic, type) or not callable(critic):
        wrong_type("Objective", "critic", critic, "must be a module, a function of x and y, or None")
    if name == "club":
        if not isinstance(critic, nn.Module) or isinstance(critic, Critic):
            wrong_type(
                "Objective", "critic", critic, "must be a module x → (mean, log_std) for 'club', as mi.Gaussian is"
            )
        return critic
    return critic if isinstance(critic, Critic) else OfBlocks(critic)  # pyright: ignore[reportArgumentType] # callable


def _module(option: str, module: Any) -> nn.Module | None:
    if module is not None and not isinstance(module, nn.Module):
        wrong_type("Objective", option, module, "must be a module or None")
    return module


def _within(function: str, argument: str, value: Any, must: str, holds: Any) -> float:
    if not holds(number(function, argument, value)):
        fail(function, argument, value, f"must be {must}")
    return float(value)


def _several_pairs(function: str, x: Tensor, y: Tensor) -> None:
    pairs(function, x, y)
    if len(x) < 2:
        fail(function, "x", f"of shape {tuple(x.shape)}", "must have at least 2 rows: one of them is a negative")
