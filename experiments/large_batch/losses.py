"""Losses of two views, as trained here: SimCLR's in O(N·D) memory and in its matrix form, and three made for small batches."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

import jessl_kernels as jk
from examples.small_batches import SogCLR, flat_nce, spectral

TEMPERATURE = 0.1
SCALE = 10.0**0.5  # norm of the rows that the spectral loss compares: it has no temperature, and norms take its place
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # two views (N, D), indices of the samples (N,) → loss


def matrix_nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """NT-Xent by its matrix of 2N × 2N scores, with no copy of it that autograd does not ask for."""
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    scores = (z / temperature) @ z.T
    scores.fill_diagonal_(-torch.inf)
    return F.cross_entropy(scores, torch.arange(len(z)).roll(len(z1)))


def loss_of(name: str, samples: int, *, matrix_form: bool = False) -> Loss:
    """The loss of this name for a data set of so many samples, whose running estimates SogCLR holds."""
    if name == "simclr":
        nt_xent = matrix_nt_xent if matrix_form else jk.nt_xent
        return lambda z1, z2, index: nt_xent(z1, z2, temperature=TEMPERATURE)
    if matrix_form:
        raise ValueError(f"matrix_form is True for {name}, must be False for all but simclr")
    if name == "sogclr":
        return SogCLR(samples, temperature=TEMPERATURE)
    if name == "flatnce":
        return lambda z1, z2, index: flat_nce(z1, z2, temperature=TEMPERATURE)
    if name == "spectral":
        return lambda z1, z2, index: spectral(SCALE * F.normalize(z1, dim=1), SCALE * F.normalize(z2, dim=1))
    raise ValueError(f"loss is {name}, must be simclr, sogclr, flatnce or spectral")
