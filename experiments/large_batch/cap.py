"""InfoNCE of Gaussians whose information is known, read with K candidates: at the best critic, and at a trained one."""

from __future__ import annotations

import math

import numpy as np
import torch

from experiments.information.optimal import Best
from experiments.information.tasks import Sampler, correlated_gaussians
from jessl_kernels import mi

D, HIDDEN, STEPS, RATE = 20, (128, 128), 2000, 1e-3
MOST_TRAINED = 1024  # pairs of a training batch; with more candidates a critic is read, not trained
PAIRS_READ = 65_536  # in one batch or in several


def run(information: float, candidates: int, seed: int, *, steps: int = STEPS, read: int = PAIRS_READ) -> dict:
    """Readings in nats, both on the same fresh pairs."""
    torch.manual_seed(seed)
    rho, draw = correlated_gaussians(D, information)
    trained = critic(draw, min(candidates, MOST_TRAINED), steps, np.random.default_rng([seed, candidates]))
    best = mi.Objective("info_nce", Best(rho))
    values = []
    for part in range(max(1, read // candidates)):
        x, y = (torch.from_numpy(z).float() for z in draw(candidates, np.random.default_rng([seed, candidates, part])))
        values.append([objective.value(x, y).value for objective in (best, trained)])
    of_best, of_trained = np.mean(values, axis=0)
    return {"best critic": float(of_best), "trained critic": float(of_trained), "cap": math.log(candidates)}


def critic(draw: Sampler, batch: int, steps: int, generator: np.random.Generator) -> mi.Objective:
    """A separable critic after so many steps of InfoNCE."""
    objective = mi.Objective("info_nce", mi.critics.Separable(D, D, hidden=HIDDEN))
    optimizer = torch.optim.Adam(objective.parameters(), lr=RATE)
    for _ in range(steps):
        x, y = (torch.from_numpy(z).float() for z in draw(batch, generator))
        optimizer.zero_grad()
        objective(x, y).backward()
        optimizer.step()
    return objective
