"""The networks that the estimator makes where it was given none: critics by their names, and what a bound learns beside its critic."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .._checks import choice, fail, wrong_type
from ..literals import CRITIC_NAMES
from . import critics
from .conditional import Gaussian
from .critics import Critic, mlp

HIDDEN = (256, 256)
LEAST, MOST = 32, 256  # dimensions of a separable critic's embeddings


def critic_for(function: str, bound: str, critic: nn.Module | str | None, x_dim: int, y_dim: int) -> tuple[str, nn.Module]:
    """A critic with its name: as given, made by its name, or for None a separable one. That of "club" is a model q(y|x)."""
    if isinstance(critic, nn.Module):
        return type(critic).__name__, critic
    words = ", ".join(map(repr, CRITIC_NAMES))
    if critic is not None and not isinstance(critic, str):
        wrong_type(function, "critic", critic, f"must be a module, since it is trained, or one of {words}")
    if bound == "club":
        if critic is not None:
            fail(function, "critic", repr(critic), "must be None or a module x → (mean, log_std) for 'club'")
        return "gaussian", Gaussian(x_dim, y_dim, hidden=HIDDEN)
    name = choice(function, "critic", critic or "separable", CRITIC_NAMES)
    return name, _named(function, name, x_dim, y_dim)


def _named(function: str, name: str, x_dim: int, y_dim: int) -> Critic:
    if name == "inner_product":
        if x_dim != y_dim:
            must = f"must be 'bilinear', 'separable' or 'joint' where x has {x_dim} columns and y has {y_dim}"
            fail(function, "critic", "'inner_product'", must)
        # Standardised columns: scores with a standard deviation of 1.
        return critics.InnerProduct(1 / math.sqrt(x_dim), learnable=True)
    if name == "bilinear":
        return critics.Bilinear(x_dim, y_dim)
    if name == "joint":
        return critics.Joint(x_dim, y_dim, hidden=HIDDEN)
    # The best critic of D correlated Gaussian pairs is a product of D + 2 dimensions.
    dim = min(MOST, max(LEAST, 2 * min(x_dim, y_dim)))
    return critics.Separable(x_dim, y_dim, dim=dim, hidden=HIDDEN)


def beside(bound: str, x_dim: int, y_dim: int) -> dict[str, nn.Module]:
    """Networks that a bound wants beside its critic, as options of `Objective`."""
    match bound:
        case "tuba":
            return {"baseline": mlp(y_dim, HIDDEN, 1)}
        case "interpolated":
            return {"baseline": mlp(x_dim, HIDDEN, 1)}
        case "flo":
            return {"u": OfPairs(x_dim, y_dim)}
    return {}


class OfPairs(nn.Module):
    """An MLP on [x_i, y_i], (N,)."""

    def __init__(self, x_dim: int, y_dim: int):
        super().__init__()
        self.mlp = mlp(x_dim + y_dim, HIDDEN, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.mlp(torch.cat([x, y], dim=1))[:, 0]
