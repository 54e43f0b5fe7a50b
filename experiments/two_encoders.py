"""Two encoders trained to raise a bound on the information of two views, with readings on test images while they learn."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from jessl_kernels import mi

from . import data, study, views
from .probe import Probe, probe

CHUNK = 5000  # images encoded at once
RECENT = 100  # batches whose bounds are averaged


@torch.no_grad()
def encoded(encoder: nn.Module, x: Tensor) -> Tensor:
    """(N, D) → (N, D')."""
    return torch.cat([encoder(chunk) for chunk in x.split(CHUNK)])


class Trainer:
    """The encoders g and h of the two views, a bound with its critic, and the images.

    images     name of the data, as `data.load` takes it
    view       name of the views, as `views.of` takes it
    encoder    makes an encoder of D dimensions
    critic     (D_g, D_h) → the critic
    """

    def __init__(
        self, images: str, view: str, bound: Any, encoder: Callable[[int], nn.Module],
        critic: Callable[[int, int], nn.Module], *, batch: int, rate: float, seed: int,
    ):  # fmt: skip
        torch.manual_seed(seed)
        self.generator = torch.Generator().manual_seed(seed)
        (self.train_set, self.test_set) = data.load(images)
        self.train_views, self.test_views = views.of(view, self.train_set), views.of(view, self.test_set)
        D = self.train_views.plain.shape[1]
        self.g, self.h = encoder(D), encoder(D)
        outputs = self.g(torch.zeros(2, D)).shape[1]
        self.objective = mi.Objective(bound, critic(outputs, outputs))
        self.batch = batch
        learnt = [*self.g.parameters(), *self.h.parameters(), *self.objective.parameters()]
        self.optimizer = torch.optim.Adam(learnt, lr=rate, fused=True)
        # The same test pairs at each reading.
        everything = torch.arange(len(self.test_set.labels))
        self.test_pairs = self.test_views.pairs(everything, torch.Generator().manual_seed(0))

    def step(self, loss_of: Callable[[Tensor], Tensor] = torch.neg) -> float:
        """One step of Adam on a batch; `loss_of` takes the bound. Returns the bound."""
        i = torch.randint(len(self.train_set.labels), (self.batch,), generator=self.generator)
        x, y = self.train_views.pairs(i, self.generator)
        bound = self.objective.bound_of(self.g(x), self.h(y))
        self.optimizer.zero_grad()
        loss_of(bound).backward()
        self.optimizer.step()
        return bound.item()

    def bound(self) -> float:
        """Nats: mean over the blocks of as many test pairs as a batch has."""
        x, y = self.test_pairs
        return self.objective.value(encoded(self.g, x), encoded(self.h, y), self.batch).value

    def probe(self) -> Probe:
        """Of g on the plain images."""
        train, test = encoded(self.g, self.train_views.plain), encoded(self.g, self.test_views.plain)
        return probe(train, self.train_set.labels, test, self.test_set.labels)

    def curves(
        self, steps: int, readings: int, loss_of: Callable[[Tensor], Tensor] = torch.neg
    ) -> dict[str, list[float]]:
        """Train for `steps`, with readings before, between and after: bound, accuracy, cross entropy and V-information.

        train_bound is the mean over the last batches before a reading, which the bound on test pairs is beside.
        """
        at = {round(steps * i / (readings - 1)) for i in range(readings)}
        batches: deque[float] = deque([math.nan], maxlen=RECENT)
        found: dict[str, list[float]] = {
            name: [] for name in ("step", "bound", "train_bound", "accuracy", "cross_entropy", "v_information")
        }
        for step in study.steps(steps + 1):
            if step in at:
                read = self.probe()
                recent = sum(batches) / len(batches)
                values = (step, self.bound(), recent, read.accuracy, read.cross_entropy, read.v_information)
                for name, value in zip(found, values, strict=True):
                    found[name].append(value)
            if step < steps:
                batches.append(self.step(loss_of))
                if step == 0:
                    batches.popleft()  # there was none before the first step
        return found
