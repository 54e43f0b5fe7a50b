"""What is read off a network on held-out digits: entropy and reconstruction, and the entropy as published code computes it."""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from scipy import special
from torch import Tensor

import jessl_kernels as jk

from .objectives import KAPPA, TARGETS, Network, Objective


@torch.no_grad()
def read(objective: Objective, views: list[Tensor]) -> dict[str, float]:
    """Entropy and reconstruction in nats: of embeddings, and of assignments where the objective has prototypes.

    Copies in training mode: the running statistics of batch normalisation trail the weights early on, and a copy's are lost.
    """
    network = copy.deepcopy(objective.network).train()
    z = network(views)
    modes, targets = z, z
    if objective.family == "byol":  # the prediction is the mode of q, the slow network's embedding what it is of
        modes, targets = network.predict(z), copy.deepcopy(objective.slow_network).train()(views)
    pairs = [(modes[0], targets[1]), (modes[1], targets[0])]
    rebuilt = [jk.er.reconstruction(mode, target, concentration=KAPPA) for mode, target in pairs]
    found = {"entropy": _entropy(z), "reconstruction": float(sum(rebuilt)) / 2}
    if objective.family in TARGETS:
        found |= _of_assignments(network, z, TARGETS[objective.family])
    return found


def _entropy(z: list[Tensor]) -> float:
    """The mean over both views of the leave-one-out estimate."""
    return sum(float(jk.kde_entropy(one, kernel="vmf", concentration=KAPPA)) for one in z) / len(z)


def _of_assignments(network: Network, z: list[Tensor], temperature: float) -> dict[str, float]:
    bound = jk.er.discrete_bound(z[0], z[1], network.prototypes(), target_temperature=temperature, symmetric=True)
    return {"discrete entropy": float(bound.entropy), "discrete reconstruction": float(bound.reconstruction)}


def normalisers(dim: int) -> tuple[float, float]:
    """log ∫ e^{κ⟨μ, x⟩} dx over the unit sphere of R^dim: exact, and with the 1e-7 of published code inside its logarithm."""
    order = dim / 2 - 1
    rest = -order * math.log(KAPPA) + dim / 2 * math.log(2 * math.pi)
    return rest + math.log(special.ive(order, KAPPA)) + KAPPA, rest + math.log(special.iv(order, KAPPA) + 1e-7)


def as_published(z: Tensor) -> dict[str, float]:
    """Entropy of embeddings (n, dim) by the published formula, by the same with the exact normaliser, and without the own point.

    The published formula counts each point in its own density, and adds 1e-7 to a Bessel function that is far smaller.
    """
    unit = F.normalize(z.double(), dim=1)
    log_sums = torch.logsumexp(KAPPA * unit @ unit.T, dim=1).mean()
    exact, clamped = normalisers(z.shape[1])
    return {
        "published": float(clamped + math.log(len(z)) - log_sums),
        "exact normaliser": float(jk.kde_entropy(unit, kernel="vmf", concentration=KAPPA, estimator="resubstitution")),
        "own point left out": float(jk.kde_entropy(unit, kernel="vmf", concentration=KAPPA)),
        "most possible": math.log(2) + z.shape[1] / 2 * math.log(math.pi) - math.lgamma(z.shape[1] / 2),
        "clamp": clamped - exact,
    }
