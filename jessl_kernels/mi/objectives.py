"""A bound by its name, as a number with its standard error and cap, and as a loss to train a critic by."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .._checks import choice, embeddings, fail, integer
from ..literals import BOUND_NAMES, NEGATIVES, BoundName, Negatives
from . import bounds
from .critics import Critic, InnerProduct, OfBlocks
from .scores import Scores


@dataclass(frozen=True)
class Bound:
    """value   nats, the mean over blocks
    stderr  standard error of that mean over blocks; NaN of one block
    cap     what the value cannot exceed at this block size, inf if nothing caps it
    blocks  how many
    """

    value: float
    stderr: float
    cap: float
    blocks: int


class Objective(nn.Module):
    """One bound with its critic, and what it learns beside it. Calling it gives the loss, which is to be minimised.

    name       the bound, of BOUND_NAMES
    critic     a Critic, or any f(x_block, y_block) → scores; None: inner products
    baseline   of "tuba", a module y → (N,) log a(y), and of "interpolated", x → (N,) log q(x); None: one learnt number
    u          of "flo", a module (x, y) → (N,); None: one learnt number
    alpha      of "interpolated", 0 < α ≤ 1
    leave_out  of "interpolated", "each" or "one"
    tau        of "smile"
    decay      of "mine", of the moving average of mean e^s
    negatives  "others", pairs i ≠ j; "all": the positives too, and then it is no bound
    """

    def __init__(
        self,
        name: BoundName,
        critic: Critic | nn.Module | None = None,
        *,
        baseline: nn.Module | None = None,
        alpha: float = 0.5,
        leave_out: str = "each",
        tau: float = 5.0,
        decay: float = 0.99,
        u: nn.Module | None = None,
        negatives: Negatives = "others",
    ):
        super().__init__()
        self.name = choice("Objective", "name", name, BOUND_NAMES)
        choice("Objective", "negatives", negatives, NEGATIVES)
        if critic is not None and not isinstance(critic, Critic):
            critic = OfBlocks(critic)
        self.critic = InnerProduct() if critic is None else critic
        self.alpha, self.leave_out, self.tau, self.decay, self.negatives = alpha, leave_out, tau, decay, negatives
        self.baseline, self.u = baseline, u
        learnt = {"tuba": baseline, "interpolated": baseline, "flo": u}
        self.number = nn.Parameter(torch.ones(())) if name in learnt and learnt[name] is None else None
        self.register_buffer("mean_of_exp", None)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Minus the objective whose gradient trains this bound's critic, 0-d."""
        scores = self._scores("Objective", x, y)
        if self.name in ("js", "smile"):
            return -bounds.js(scores)
        if self.name == "mine":
            return self._mine(scores)
        return -self._value(scores, x, y)

    def value(self, x: Tensor, y: Tensor, block: int | None = None) -> Bound:
        """The bound on I(X;Y) in nats, without a gradient.

        x, y   (N, D_x) and (N, D_y), row i of both a pair
        block  pairs of a block; None: all of them in one
        """
        function = "Objective.value"
        size = len(x) if block is None else integer(function, "block", block)
        if not 2 <= size <= len(x):
            fail(function, "block", block, f"must be between 2 and {len(x)}, the number of pairs")
        starts = range(0, len(x) - size + 1, size)
        with torch.no_grad():
            parts = [(x[i : i + size], y[i : i + size]) for i in starts]
            values = torch.stack([self._value(self._scores(function, a, b), a, b).double() for a, b in parts])
        spread = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return Bound(float(values.mean()), spread, self._cap(size), len(values))

    def _cap(self, N: int) -> float:
        if self.name == "info_nce":
            return math.log(N)
        if self.name == "interpolated":
            return math.log((N - 1) / self.alpha)
        return 2 * self.tau if self.name == "smile" else math.inf

    def _scores(self, function: str, x: Tensor, y: Tensor) -> Scores:
        embeddings(function, "x", x)
        embeddings(function, "y", y)
        if len(x) != len(y):
            fail(function, "y", f"of {len(y)} rows", f"must have {len(x)} like x: row i of both is a pair")
        if len(x) < 2:
            fail(function, "x", f"of shape {tuple(x.shape)}", "must have at least 2 rows: one of them is a negative")
        return self.critic(x, y, self.negatives)

    def _value(self, scores: Scores, x: Tensor, y: Tensor) -> Tensor:
        match self.name:
            case "tuba":
                return bounds.tuba(scores, self._beside(self.baseline, y))
            case "interpolated":
                return bounds.interpolated(scores, self._beside(self.baseline, x), self.alpha, self.leave_out)
            case "smile":
                return bounds.smile(scores, self.tau)
            case "flo":
                return bounds.flo(scores, self._beside(self.u, x, y))
            case "mine" | "dv":
                return bounds.dv(scores)
        return {"info_nce": bounds.info_nce, "nwj": bounds.nwj, "js": bounds.js_read_out}[self.name](scores)

    def _beside(self, module: nn.Module | None, *inputs: Tensor) -> Tensor:
        """(N,): a network's output, or the one number that is learnt in its place."""
        N = len(inputs[0])
        if module is None:
            assert self.number is not None
            return self.number.expand(N)
        made = module(*inputs)
        if made.numel() != N:
            fail("Objective", "baseline or u", f"of shape {tuple(made.shape)} for {N} rows", f"must give ({N},)")
        return made.reshape(N)

    def _mine(self, scores: Scores) -> Tensor:
        """DV's value, with the gradient of mean e^s over its moving average (Belghazi et al., arXiv 1801.04062, section 3.2)."""
        mean = bounds.log_mean_of_exp(scores, scores.total()).exp()
        known = self.mean_of_exp
        self.mean_of_exp = mean.detach() if known is None else self.decay * known + (1 - self.decay) * mean.detach()
        surrogate = mean / self.mean_of_exp
        return -(scores.positives().mean() - mean.detach().log() - (surrogate - surrogate.detach()))


def bound(
    name: BoundName,
    x: Tensor,
    y: Tensor,
    critic: Critic | nn.Module | None = None,
    *,
    block: int | None = None,
    **options,
) -> Bound:
    """A bound on the mutual information of pairs, in nats: `Objective(name, critic, **options).value(x, y, block)`.

    >>> jk.mi.bound("info_nce", torch.eye(4), torch.eye(4)).value        # log 4 − (log(e + 3) − 1)
    0.6426...
    """
    return Objective(name, critic, **options).value(x, y, block)
