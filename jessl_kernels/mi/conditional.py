"""A Gaussian model q(y|x) and the upper bound that it gives: from the first two moments of y, without pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .._checks import choice, embeddings, fail, positive, same_shape, wrong_type
from ..literals import NEGATIVES, Negatives
from .critics import mlp


class Gaussian(nn.Module):
    """q(y|x) = N(μ(x), diag σ(x)²), both by one MLP. Its output for x (N, D_x) is (μ, log σ), each (N, D_y).

    hidden  widths of the hidden layers
    limit   log σ stays between ± this, by limit · tanh(· / limit): an unbounded σ lets the bound run away where q is poor
    """

    def __init__(self, x_dim: int, y_dim: int, *, hidden: Sequence[int] = (256, 256), limit: float = 5.0):
        super().__init__()
        self.limit = positive("Gaussian", "limit", limit)
        self.network = mlp(x_dim, hidden, 2 * y_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = self.network(x).chunk(2, dim=1)
        return mean, self.limit * torch.tanh(raw / self.limit)


class Identity(nn.Module):
    """q(y|x) = N(x, 1): x and y have the same dimensions, and nothing is learnt."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, torch.zeros_like(x)


def log_likelihood(y: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """mean_i log q(y_i|x_i) of a Gaussian q, 0-d, in nats: to be maximised, which makes q fit.

    y, mean, log_std  (N, D): the output of q for x

    Raises ValueError or TypeError naming the argument at fault.
    """
    y, mean, log_std = _wide("log_likelihood", y, mean, log_std)
    z = (y - mean) * torch.exp(-log_std)
    return -(0.5 * z.square() + log_std).sum(dim=1).mean() - 0.5 * y.shape[1] * math.log(2 * math.pi)


def club(y: Tensor, mean: Tensor, log_std: Tensor, negatives: Negatives = "others") -> Tensor:
    """mean_i log q(y_i|x_i) − mean_{i≠j} log q(y_j|x_i), 0-d: vCLUB of Cheng et al. (arXiv 2006.12013).

    The mean over j of a Gaussian's log density needs the mean and the variance of y alone, so no pair is looked at:

        N/(N − 1) · mean_i Σ_d (v_d − δ_id² + 2 δ_id (μ_id − ȳ_d)) / (2 σ_id²)        δ = y − ȳ,  v = mean δ²

    With the true q it is KL(p ‖ p_x p_y) + KL(p_x p_y ‖ p), so above I(X;Y). With another q it is an upper bound if
    KL(p ‖ q) ≤ KL(p_x p_y ‖ q) for q(x, y) = p(x) q(y|x) (theorem 3.2 of the paper), which a sample cannot tell.

    y, mean, log_std  (N, D), N ≥ 2: the output of q for x
    negatives         "all": without the factor N/(N − 1), as the paper has it; the positives are then among the negatives

    Raises ValueError or TypeError naming the argument at fault.
    """
    y, mean, log_std = _wide("club", y, mean, log_std)
    if len(y) < 2:
        fail("club", "y", f"of shape {tuple(y.shape)}", "must have at least 2 rows: one of them is a negative")
    choice("club", "negatives", negatives, NEGATIVES)
    N, near = len(y), y.mean(dim=0).detach()
    # Differences first: far from the origin the mean itself has few digits left.
    delta, distance = y - near, mean - near
    center = delta.mean(dim=0)
    delta, distance = delta - center, distance - center
    squares = delta.square()
    terms = squares.mean(dim=0) - squares + 2 * delta * distance
    value = (0.5 * terms * torch.exp(-2 * log_std)).sum(dim=1).mean()
    return value * (N / (N - 1)) if negatives == "others" else value


def model_of(function: str, q: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(μ, log σ) of q(y|x), checked."""
    made = q(x)
    if not isinstance(made, tuple) or len(made) != 2 or not all(isinstance(part, Tensor) for part in made):
        wrong_type(
            function, "critic", made, "must give the pair of tensors (mean, log_std) for x: it is the model q(y|x)"
        )
    _matching(function, y, *made, of="the critic's ")
    return made


def _matching(function: str, y: Tensor, mean: Tensor, log_std: Tensor, of: str = "") -> None:
    embeddings(function, "y", y)
    for name, part in (("mean", mean), ("log_std", log_std)):
        embeddings(function, of + name, part)
        same_shape(function, of + name, part, ("y", y), "it is of the model of y")


def _wide(function: str, y: Tensor, mean: Tensor, log_std: Tensor) -> list[Tensor]:
    """Checked, and in the accumulation dtype: a variance in bf16 would keep two digits."""
    _matching(function, y, mean, log_std)
    tensors = (y, mean, log_std)
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
    return [t.to(dtype) for t in tensors]
