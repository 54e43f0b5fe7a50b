"""Trials of the four questions: the cap, accuracy against batch, losses for small batches, and what the loss stage costs."""

from __future__ import annotations

import itertools
from typing import Any

from experiments.trials import Settings

from . import cap, cost, training

INFORMATION, CANDIDATES = (2.0, 5.0, 10.0, 15.0), (64, 256, 1024, 4096, 16_384, 65_536)
BATCHES, SMALL = (64, 256, 1024, 4096, 16_384), (64, 128, 256, 512)
LOSSES, RATES = ("simclr", "sogclr", "flatnce", "spectral"), (5e-4, 1e-3, 2e-3)
EXAMPLES, STEPS = 655_360, 200  # pairs of a training: 40 steps of the largest batch; steps where these are equal
COSTS = (1024, 4096, 8192, 16_384)


def trained(loss: str, batch: int, lr: float, examples: int = EXAMPLES) -> Settings:
    """Settings of a training."""
    return {"part": "training", "loss": loss, "batch": batch, "examples": examples, "lr": lr}


def full() -> list[Settings]:
    """Costs and caps, trainings by SimCLR at any batch, by all losses at small batches, and for equal numbers of steps."""
    costs = [{"part": "cost", "batch": batch} for batch in COSTS]
    capped = [{"part": "cap", "information": i, "candidates": k} for i, k in itertools.product(INFORMATION, CANDIDATES)]
    large = [trained("simclr", batch, lr) for batch, lr in itertools.product(BATCHES, RATES)]
    small = [trained(*of) for of in itertools.product(LOSSES, SMALL, RATES)]
    equal_steps = [trained("simclr", b, lr, STEPS * b) for b, lr in itertools.product(BATCHES[:-1], RATES)]
    return [*costs, *capped, *large, *[s for s in small if s not in large], *equal_steps]


def quick() -> list[Settings]:
    """The same in small."""
    capped = [{"part": "cap", "information": 5.0, "candidates": k, "steps": 200, "read": 4096} for k in (64, 1024)]
    few = [trained(loss, 256, RATES[1], 10_240) for loss in LOSSES]
    return [{"part": "cost", "batch": 1024}, *capped, *few, trained("simclr", 1024, RATES[1], 10_240)]


def has_matrix_form(settings: Settings) -> bool:
    """Whether a trial is a training whose matrix form there is, and has the memory."""
    return settings.get("loss") == "simclr" and cost.matrix_mib(settings["batch"]) + cost.OTHER_MIB <= cost.LIMIT_MIB


def run(part: str, **settings: Any) -> dict[str, Any]:
    """One trial of a part."""
    return {"cap": cap.run, "training": training.run, "cost": cost.run}[part](**settings)
