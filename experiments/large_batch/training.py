"""An encoder of MNIST halves trained by a loss at a batch size, and what it is worth: in per cent, and in nats."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor, nn

import jessl_kernels as jk
from experiments import data, halves, probe

from .losses import loss_of

DIM = 64
HELD_OUT = 10_000  # of the 60,000 digits, on which a learning rate and a temperature are chosen
PROBED = 20_000
CENTERED = 1000  # digits
TEMPERATURES = (0.03, 0.05, 0.1, 0.2, 0.5)  # of the critic that reads information off the embeddings


def run(
    loss: str, batch: int, examples: int, lr: float, seed: int, *, matrix_form: bool = False, digits: int = 50_000
) -> dict[str, Any]:
    """Train on `examples` pairs in all, seen in batches, and read."""
    train_set, test_set = data.load("mnist")
    images, labels = train_set.images[:digits], train_set.labels[:digits]
    held_out = data.Images(train_set.images[-HELD_OUT:], train_set.labels[-HELD_OUT:])
    torch.manual_seed(seed)
    encoders = nn.ModuleList([halves.Encoder(DIM, nn.LayerNorm) for _ in range(2)])
    halves.center(encoders, data.halves(images[:CENTERED]))
    spent = train(encoders, images, loss, batch=batch, steps=max(1, examples // batch), lr=lr, matrix_form=matrix_form)
    encoder = encoders.eval()[0]
    assert isinstance(encoder, halves.Encoder)
    columns = halves.features_of(encoder, images[:PROBED])
    found = {}
    for name, digits_of in (("", test_set), ("held-out ", held_out)):
        of_probe = probe.probe(
            columns, labels[:PROBED], halves.features_of(encoder, digits_of.images), digits_of.labels
        )
        found |= {name + "accuracy": of_probe.accuracy, name + "v_information": of_probe.v_information}
    return found | information(encoders, held_out.images, test_set.images, batch) | spent


def train(
    encoders: nn.ModuleList, images: Tensor, loss: str, *, batch: int, steps: int, lr: float, matrix_form: bool
) -> dict[str, float]:
    """Train in place; the seconds of all steps, and of the loss and its gradient in them."""
    compare = loss_of(loss, len(images), matrix_form=matrix_form)
    optimizer = torch.optim.AdamW(encoders.parameters(), lr=lr, weight_decay=1e-4)
    schedule = halves.scheduled(optimizer, steps)
    start, of_loss = time.perf_counter(), 0.0
    for index, views in halves.batches(images, batch, steps):
        z = [encoder(view) for encoder, view in zip(encoders, views, strict=True)]
        before = time.perf_counter()
        leaves = [one.detach().requires_grad_() for one in z]  # so that the loss stage is timed by itself
        gradients = torch.autograd.grad(compare(leaves[0], leaves[1], index), leaves)
        of_loss += time.perf_counter() - before
        optimizer.zero_grad()
        torch.autograd.backward(z, gradients)
        optimizer.step()
        schedule.step()
    return {"training seconds": time.perf_counter() - start, "loss stage seconds": of_loss, "steps": steps}


@torch.no_grad()
def information(encoders: nn.ModuleList, held_out: Tensor, test: Tensor, batch: int) -> dict[str, float]:
    """InfoNCE's bound in nats with as many candidates as the batch had, where there are, and with all of the test digits.

    The critic is the cosine over the temperature that is best with all held-out digits; a bound holds for any critic.
    """
    choose, measured = ([e(view) for e, view in zip(encoders, data.halves(i), strict=True)] for i in (held_out, test))
    temperature = max(TEMPERATURES, key=lambda t: bound(choose, len(held_out), t))
    few = min(batch, len(test))
    return {
        "critic temperature": temperature,
        "bound at own candidates": bound(measured, few, temperature),
        "own candidates": few,
        "bound at all candidates": bound(measured, len(test), temperature),
        "all candidates": len(test),
    }


def bound(z: list[Tensor], candidates: int, temperature: float) -> float:
    """log K − loss, the mean over as many groups of K pairs as there are; both directions."""
    groups = len(z[0]) // candidates
    losses = [
        jk.info_nce(*(one[k * candidates : (k + 1) * candidates] for one in z), temperature=temperature, symmetric=True)
        for k in range(groups)
    ]
    return math.log(candidates) - float(torch.stack(losses).mean())
