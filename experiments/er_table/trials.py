"""Trainings of the table, and what one of them gives: probe, curves of entropy and reconstruction, published entropies."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from experiments import data, halves, probe
from experiments.trials import Settings

from .objectives import NAMES, SLOW, Objective
from .readings import as_published, read

SMALL, LARGE = 512, 4096
MOMENTUM, HASTY = 0.99, 0.8  # of the slow network, constant
EPOCHS, LR = 10.0, 2e-3
POINTS = 12  # of a curve, beside its start
READ, PROBED = 2000, 20_000  # digits of a reading, and of a probe's training
DIMS = (128, 256)  # of the paper's embeddings: SimCLR's, and what its plot of BYOL points to


def cell(name: str, batch: int, momentum: float = MOMENTUM, epochs: float = EPOCHS, lr: float = LR) -> Settings:
    """Settings of a training; the momentum is of no account without a slow network, and None there."""
    has_slow = name.partition("_")[0] in SLOW
    return {"objective": name, "batch": batch, "momentum": momentum if has_slow else None, "epochs": epochs, "lr": lr}


def table() -> list[Settings]:
    """Cells of the table: large batch, small batch, small batch with a hasty slow network; and DINO without a centre."""
    plain = [cell(name, batch) for name in NAMES for batch in (LARGE, SMALL)]
    hasty = [cell(name, SMALL, momentum=HASTY) for name in NAMES if name.partition("_")[0] in SLOW]
    return [*plain, *hasty, cell("dino_uncentred", SMALL)]


def second_look() -> list[Settings]:
    """The small batch for as many steps as the large one, and both batches at half the learning rate."""
    equal_steps = [cell(name, SMALL, epochs=EPOCHS * SMALL / LARGE) for name in NAMES]
    return equal_steps + [cell(name, batch, lr=LR / 2) for name in NAMES for batch in (LARGE, SMALL)]


def sphere(dim: int, pairs: int) -> Settings:
    """Points uniform on the sphere in place of embeddings, whose entropy is the most possible."""
    return {"objective": "sphere", "batch": pairs, "dim": dim}


SPHERES = [sphere(dim, pairs) for dim in DIMS for pairs in (LARGE, SMALL)]
FULL = [*table(), *SPHERES, *second_look()]
QUICK = [*[cell(name, SMALL, epochs=0.25) for name in NAMES], SPHERES[0]]


def run(objective: str, batch: int, seed: int, **settings: Any) -> dict[str, Any]:
    """One trial: a training, or a sphere."""
    if objective == "sphere":
        torch.manual_seed(seed)
        return as_published(torch.randn(batch, settings["dim"]))
    return trained(objective, batch, seed, **settings)


def trained(
    objective: str, batch: int, seed: int, momentum: float | None, epochs: float, lr: float, *, digits: int = 60_000
) -> dict[str, Any]:
    """Train and read: numbers, and curves as lists."""
    train_set, test_set = data.load("mnist")
    images = train_set.images[:digits]
    steps = max(1, round(epochs * len(images) / batch))
    torch.manual_seed(seed)
    model = Objective(objective, MOMENTUM if momentum is None else momentum)
    untrained = probed(model, train_set, test_set)["accuracy"]
    curves = train(model.train(), images, list(data.halves(test_set.images[:READ])), batch=batch, steps=steps, lr=lr)
    return {
        "untrained accuracy": untrained,
        **probed(model, train_set, test_set),
        **published(model, test_set.images),
        **{f"curve of {name}": values for name, values in curves.items()},
    }


def train(
    model: Objective, images: Tensor, views: list[Tensor], *, batch: int, steps: int, lr: float
) -> dict[str, list[float]]:
    """Train in place; the curves of what is read off `views`, from before the first step to after the last."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr, weight_decay=1e-4)
    schedule = halves.scheduled(optimizer, steps)
    read_at = {round(k * steps / POINTS) for k in range(1, POINTS + 1)}
    readings = [{"step": 0, **read(model, views)}]
    for step, (_, pair) in enumerate(halves.batches(images, batch, steps), start=1):
        optimizer.zero_grad()
        model(pair).backward()
        optimizer.step()
        schedule.step()
        model.after_step()
        if step in read_at:
            readings.append({"step": step, **read(model, views)})
    return {name: [reading[name] for reading in readings] for name in readings[0]}


def probed(model: Objective, train_set: data.Images, test_set: data.Images) -> dict[str, float]:
    """Probe of the features of top halves."""
    encoder = model.network.eval().encoders[0]
    assert isinstance(encoder, halves.Encoder)
    columns, test_columns = (halves.features_of(encoder, part) for part in (train_set.images[:PROBED], test_set.images))
    found = probe.probe(columns, train_set.labels[:PROBED], test_columns, test_set.labels)
    return {"accuracy": found.accuracy, "v_information": found.v_information}


@torch.no_grad()
def published(model: Objective, images: Tensor) -> dict[str, float]:
    """Entropies of as many embeddings as the two batches have, as published code computes them and exact."""
    z = model.network.eval()(list(data.halves(images[:LARGE])))[1]
    return {f"{name}, {size}": value for size in (LARGE, SMALL) for name, value in as_published(z[:size]).items()}
