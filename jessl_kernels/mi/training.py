"""Training of a bound's critic, by Adam on mini-batches, until it gets no better on pairs that it is not trained on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .objectives import Objective

EVERY = 100  # steps between evaluations, or an epoch if that is shorter
RATE_ADVICE = "try a smaller learning_rate (it was {:g}) or a larger batch_size"

Pairs = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Point:
    """The bound in nats after some steps, on pairs of the training split and on the stopping split."""

    step: int
    training: float
    stopping: float


@dataclass(frozen=True)
class Trained:
    """objective      the best state, that of `best_step`
    best_step      the step with the least loss on the stopping split
    steps          steps that were taken
    stopped_early  whether patience ended the training
    history        evaluations, the first before the first step
    """

    objective: Objective
    best_step: int
    steps: int
    stopped_early: bool
    history: tuple[Point, ...]


def train(
    objective: Objective,
    training: Pairs,
    stopping: Pairs,
    *,
    batch_size: int,
    learning_rate: float,
    max_steps: int,
    patience: int,
    generator: torch.Generator,
    report: Callable[[Point], None],
) -> Trained:
    """Train `objective` in place, and return the best of its states.

    The least loss on the stopping split decides, because some objectives (JS, SMILE) are trained by another number than they report.
    """
    optimizer = torch.optim.Adam(objective.parameters(), lr=learning_rate)
    batches = _batches(training, batch_size, generator)
    every = min(EVERY, len(training[0]) // batch_size)
    seen = training[0][: len(stopping[0])], training[1][: len(stopping[0])]  # in random order already
    best, least, best_step = objective, torch.inf, 0
    history, losses, step, idle = [], [], 0, 0
    advice = RATE_ADVICE.format(learning_rate)
    while True:
        _all_finite(losses, step, advice)
        losses.clear()
        # A copy, so that an evaluation leaves no trace: MINE keeps a moving average of the batches that it sees.
        candidate = copy.deepcopy(objective).eval()
        loss = _loss(candidate, stopping, batch_size)
        history.append(Point(step, *(candidate.value(x, y, batch_size).value for x, y in (seen, stopping))))
        if loss != loss:
            raise RuntimeError(f"estimate: the loss on the stopping pairs is nan after step {step}: {advice}")
        idle += 1
        if loss < least:
            best, least, best_step, idle = candidate, loss, step, 0
        report(history[-1])
        if step >= max_steps or idle >= patience:
            return Trained(best, best_step, step, step < max_steps, tuple(history))
        for _ in range(min(every, max_steps - step)):
            loss = objective(*next(batches))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            step += 1


def _batches(pairs: Pairs, size: int, generator: torch.Generator) -> Iterator[Pairs]:
    """Mini-batches without end, each epoch in a new order; pairs that do not fill a batch wait for the next epoch."""
    x, y = pairs
    while True:
        order = torch.randperm(len(x), generator=generator).to(x.device)
        for i in range(0, len(x) - size + 1, size):
            yield x[order[i : i + size]], y[order[i : i + size]]


@torch.no_grad()
def _loss(objective: Objective, pairs: Pairs, size: int) -> float:
    blocks = zip(*(z.split(size) for z in pairs), strict=True)
    return float(torch.stack([objective(x, y) for x, y in blocks]).mean())


def _all_finite(losses: list[Tensor], step: int, advice: str) -> None:
    """The steps' losses are looked at together: each look waits for the device."""
    if not losses:
        return
    wrong = ~torch.stack(losses).isfinite()
    if bool(wrong.any()):
        first = int(wrong.nonzero()[0])
        at = step - len(losses) + 1 + first
        raise RuntimeError(f"estimate: the loss is {float(losses[first])} at step {at}: {advice}")
