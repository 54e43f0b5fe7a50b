"""The problems that are timed: each loss of the package beside its matrix form, as one would write it in plain torch.

The matrix form is written with care for speed (one matrix product where one does, fused cross entropy), in the dtype of its
inputs. Batches are unit vectors in D dimensions, and normal points for densities.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import jessl_kernels as jk

TEMPERATURE = 0.1


@dataclass(frozen=True)
class Problem:
    """A loss of N score rows. `ours` and `matrix` take the batches that `batches` makes."""

    ours: Callable[..., Tensor]
    matrix: Callable[..., Tensor]
    batches: Callable[[int, int], list[Tensor]]


def pairs(rows: int, D: int) -> list[Tensor]:
    """Two batches of unit vectors, (rows, D) each."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, D, generator=generator)
    y = x + torch.randn(rows, D, generator=generator)
    return [F.normalize(x, dim=1), F.normalize(y, dim=1)]


def views(rows: int, D: int) -> list[Tensor]:
    """Two batches of rows/2 each, whose concatenation has the given number of rows."""
    return pairs(rows // 2, D)


def points(rows: int, D: int) -> list[Tensor]:
    """Standard normal points."""
    return [torch.randn(rows, D, generator=torch.Generator().manual_seed(0))]


def directions(rows: int, D: int) -> list[Tensor]:
    """One batch of unit vectors."""
    return pairs(rows, D)[:1]


def _without_diagonal(s: Tensor) -> Tensor:
    return s.masked_fill(torch.eye(len(s), dtype=torch.bool), -torch.inf)


def _two_views(z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
    z = torch.cat([z1, z2])
    return _without_diagonal(z @ z.T / TEMPERATURE), torch.arange(len(z)).roll(len(z1))


def matrix_info_nce(x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(x @ y.T / TEMPERATURE, torch.arange(len(x)))


def matrix_clip(x: Tensor, y: Tensor) -> Tensor:
    s, labels = x @ y.T / TEMPERATURE, torch.arange(len(x))
    return 0.5 * (F.cross_entropy(s, labels) + F.cross_entropy(s.T, labels))


def matrix_nt_xent(z1: Tensor, z2: Tensor) -> Tensor:
    return F.cross_entropy(*_two_views(z1, z2))


def matrix_dcl(z1: Tensor, z2: Tensor) -> Tensor:
    s, other = _two_views(z1, z2)
    positive = s.gather(1, other[:, None])
    return (s.scatter(1, other[:, None], -torch.inf).logsumexp(dim=1) - positive[:, 0]).mean()


def matrix_siglip(x: Tensor, y: Tensor) -> Tensor:
    s = 10 * x @ y.T - 10
    return F.softplus(torch.where(torch.eye(len(s), dtype=torch.bool), -s, s)).sum() / len(s)


def matrix_sup_con(z1: Tensor, z2: Tensor) -> Tensor:
    s, _ = _two_views(z1, z2)
    labels = _labels(len(s))
    positive = (labels[:, None] == labels[None, :]) & ~torch.eye(len(s), dtype=torch.bool)
    log_p = s.log_softmax(dim=1)
    return -(log_p.masked_fill(~positive, 0.0).sum(dim=1) / positive.sum(dim=1)).mean()


def _labels(rows: int) -> Tensor:
    return torch.arange(rows) % (rows // 8)


def silverman(D: int, rows: int) -> float:
    """The bandwidth of Silverman's rule for standard normal points."""
    return (rows * (D + 2) / 4) ** (-1 / (D + 4))


def matrix_kde_entropy(z: Tensor) -> Tensor:
    rows, D = z.shape
    h = silverman(D, rows)
    square = z.square().sum(dim=1)
    s = _without_diagonal((2 * z @ z.T - square[:, None] - square[None, :]) / (2 * h * h))
    return -s.logsumexp(dim=1).mean() + math.log(rows - 1) + D * math.log(h) + 0.5 * D * math.log(2 * math.pi)


def matrix_uniformity(x: Tensor) -> Tensor:
    square = x.square().sum(dim=1)
    s = _without_diagonal(2 * (2 * x @ x.T - square[:, None] - square[None, :]))
    return s.flatten().logsumexp(dim=0) - math.log(len(x) * (len(x) - 1))


PROBLEMS = {
    "info_nce": Problem(
        lambda x, y: jk.info_nce(x, y, temperature=TEMPERATURE, normalize=False), matrix_info_nce, pairs
    ),
    "clip_loss": Problem(lambda x, y: jk.clip_loss(x, y, 1 / TEMPERATURE), matrix_clip, pairs),
    "nt_xent": Problem(lambda x, y: jk.nt_xent(x, y, temperature=TEMPERATURE, normalize=False), matrix_nt_xent, views),
    "dcl": Problem(lambda x, y: jk.dcl(x, y, temperature=TEMPERATURE, normalize=False), matrix_dcl, views),
    "sup_con": Problem(
        lambda x, y: jk.sup_con(torch.cat([x, y]), _labels(2 * len(x)), temperature=TEMPERATURE, normalize=False),
        matrix_sup_con,
        views,
    ),
    "siglip_loss": Problem(lambda x, y: jk.siglip_loss(x, y, 10.0, -10.0), matrix_siglip, pairs),
    "kde_entropy": Problem(
        lambda z: jk.kde_entropy(z, bandwidth=silverman(z.shape[1], len(z))), matrix_kde_entropy, points
    ),
    "uniformity": Problem(jk.uniformity, matrix_uniformity, directions),
}


def value_and_gradient(function: Callable[..., Tensor], batches: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The loss, and its gradient by every batch (zeros where it does not depend on one)."""
    leaves = [t.detach().clone().requires_grad_() for t in batches]
    value = function(*leaves)
    gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    return value.detach(), list(gradients)


def gradient_error(function: Callable[..., Tensor], problem: Problem, batches: list[Tensor]) -> float:
    """‖gradient − truth‖ / ‖truth‖, the truth being the matrix form in fp64."""
    _, found = value_and_gradient(function, batches)
    _, truth = value_and_gradient(problem.matrix, [t.double() for t in batches])
    difference = sum(float((f - t).square().sum()) for f, t in zip(found, truth, strict=True))
    return math.sqrt(difference / sum(float(t.square().sum()) for t in truth))
