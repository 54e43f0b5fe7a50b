"""Bijective encoders: couplings (NICE, arXiv 1410.8516; RealNVP, arXiv 1605.08803), and how well they can be undone.

A coupling leaves the first half a of the dimensions and moves the other, b, by networks of a:

    additive  b + t(a)                       the volume stays
    affine    b · softplus(s(a)) + t(a)      the scale is above 0 whatever s is

Both are inverted exactly, whatever the networks are, so I(g(X); h(Y)) = I(X; Y) at every step of a training. A fixed random
permutation follows each coupling. All weights start near 0: the encoder starts at a permutation of its input.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INIT = 1e-4  # standard deviation of the weights, as in the paper's notebook
LEAST_SCALE = 1e-7
AT_ONE = math.log(math.e - 1)  # softplus of it is 1


class Flow(nn.Module):
    """An invertible map of R^D, with D even.

    couplings  how many
    width      of the two hidden layers of each coupling's network
    affine     whether b is scaled as well
    """

    def __init__(self, D: int, *, couplings: int, width: int, affine: bool = False):
        super().__init__()
        self.kept, self.affine = D // 2, affine
        outputs = D if affine else self.kept
        self.nets = nn.ModuleList(_net(self.kept, width, outputs) for _ in range(couplings))
        self.orders: Tensor
        self.register_buffer("orders", torch.stack([torch.randperm(D) for _ in range(couplings)]))

    def forward(self, x: Tensor) -> Tensor:
        for net, order in zip(self.nets, self.orders, strict=True):
            a, b = x.split(self.kept, dim=1)
            scale, shift = self._moves(net(a))
            x = torch.cat([a, b * scale + shift], dim=1)[:, order]
        return x

    def inverse(self, z: Tensor) -> Tensor:
        """x of z = forward(x)."""
        for net, order in reversed(list(zip(self.nets, self.orders, strict=True))):
            a, b = z[:, order.argsort()].split(self.kept, dim=1)
            scale, shift = self._moves(net(a))
            z = torch.cat([a, (b - shift) / scale], dim=1)
        return z

    def _moves(self, out: Tensor) -> tuple[Tensor | float, Tensor]:
        if not self.affine:
            return 1.0, out
        scale, shift = out.split(self.kept, dim=1)
        return LEAST_SCALE + F.softplus(scale + AT_ONE), shift


def _net(inputs: int, width: int, outputs: int) -> nn.Sequential:
    net = nn.Sequential(
        nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs)
    )
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=INIT, a=-2 * INIT, b=2 * INIT)
            nn.init.zeros_(layer.bias)
    return net


@torch.no_grad()
def reconstruction_error(flow: Flow, x: Tensor) -> tuple[float, float]:
    """The largest |x − g⁻¹(g(x))| of fp32 and of fp64 arithmetic, with the weights as they are; x (N, D) in [0, 1]."""
    precise = copy.deepcopy(flow).double()
    errors = ((model.inverse(model(x)) - x).abs().max().item() for model, x in ((flow, x), (precise, x.double())))
    single, double = errors
    return single, double


def log_condition(encoder: nn.Module, x: Tensor) -> float:
    """Mean over the rows of x (N, D) of log(σ_1/σ_D), of the singular values of the encoder's Jacobian there; in fp64."""
    precise = copy.deepcopy(encoder).double().requires_grad_(False)

    def at(row: Tensor) -> Tensor:
        return precise(row[None])[0]

    jacobian = torch.func.vmap(torch.func.jacrev(at))(x.double())
    sigma = torch.linalg.svdvals(jacobian)
    return (sigma[:, 0] / sigma[:, -1]).log().mean().item()
