"""Embeddings of an encoder that was trained for some seconds: what a loss meets in practice, unlike random points."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

import jessl_kernels as jk

TEMPERATURE = 0.01
DIGITS, STEPS, BATCH = 16_384, 100, 512


def embeddings(pairs: int, D: int) -> list[Tensor]:
    """Top and bottom halves of as many MNIST digits, (pairs, D) each, in a random order."""
    return [z[:pairs] for z in _all(D)]


@cache
def _all(D: int) -> list[Tensor]:
    """Of 16,384 digits, trained by NT-Xent at temperature 0.1."""
    sys.path.append(str(Path(__file__).resolve().parents[1] / "examples"))
    mnist_halves = importlib.import_module("mnist_halves")
    torch.manual_seed(0)
    images = mnist_halves.load()[0].images
    images = images[torch.randperm(len(images))[:DIGITS]].float() / 255
    views = images.unflatten(1, (2, -1)).unbind(dim=1)  # twice (digits, 392)
    encoders = [nn.Sequential(nn.Linear(392, 256), nn.ReLU(), nn.Linear(256, D)) for _ in views]
    optimizer = torch.optim.Adam([p for encoder in encoders for p in encoder.parameters()], lr=1e-3)
    for _ in range(STEPS):
        batch = torch.randint(len(images), (BATCH,))
        z1, z2 = (encoder(view[batch]) for encoder, view in zip(encoders, views, strict=True))
        optimizer.zero_grad()
        jk.nt_xent(z1, z2, temperature=0.1).backward()
        optimizer.step()
    with torch.no_grad():
        return [encoder(view) for encoder, view in zip(encoders, views, strict=True)]
