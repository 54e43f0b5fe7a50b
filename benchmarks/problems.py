"""The problems that are timed: each quantity of the package beside its matrix form, as one would write it in plain torch.

The matrix form is written with care for speed (one matrix product where one does, fused cross entropy), in the dtype of its
inputs; in fp64 it is the truth that every contender is checked against. N is the number of rows of the score matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import jessl_kernels as jk

from . import trained

TEMPERATURE = 0.1
SCALE, BIAS = 10.0, -10.0
CLUSTER_BANDWIDTH = 0.7


@dataclass(frozen=True)
class Problem:
    """ours, matrix  take the batches that `batches(N, D)` makes and return a scalar
    products  matrix products of 2·N²·D flops that the mathematics needs (docs/cpu.md), gradient included if there is one
    gradient  whether the gradient by every batch is part of the problem
    skips  most of its pairs cannot matter: ours is timed with and without skipping them, and nobody else is
    """

    ours: Callable[..., Tensor]
    matrix: Callable[..., Tensor]
    batches: Callable[[int, int], list[Tensor]]
    products: float
    gradient: bool = True
    skips: bool = False


def pairs(N: int, D: int) -> list[Tensor]:
    """Two batches of N points each; row i of both belong together."""
    x, noise = _normals(2, N, D)
    return [x, x + noise]


def unit_pairs(N: int, D: int) -> list[Tensor]:
    """The same as unit vectors, which is how open_clip's losses and ours of that name want them."""
    return [F.normalize(t, dim=1) for t in pairs(N, D)]


def views(N: int, D: int) -> list[Tensor]:
    """Two batches of N/2 points each, whose concatenation has N rows."""
    return pairs(N // 2, D)


def points(N: int, D: int) -> list[Tensor]:
    """Standard normal points."""
    return [_normals(N, D)]


def white_points(N: int, D: int) -> list[Tensor]:
    """Points whose sample covariance is the identity: scipy multiplies its bandwidth by that covariance."""
    z = _normals(N, D).double()
    z = z - z.mean(dim=0)
    factor = torch.linalg.cholesky(z.T @ z / (N - 1))
    return [torch.linalg.solve_triangular(factor, z.T, upper=False).T.float().contiguous()]


def unit_points(N: int, D: int) -> list[Tensor]:
    return [F.normalize(_normals(N, D), dim=1)]


def _normals(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def clusters(N: int, D: int) -> list[Tensor]:
    """Points around 100 centers, in random order; even in two dimensions most clusters lie apart."""
    centers, noise = 30 * _normals(100, D), _normals(N, D)
    return [centers[torch.randint(100, (N,), generator=torch.Generator().manual_seed(1))] + noise]


def labels(N: int, device: torch.device | None = None) -> Tensor:
    """Classes of eight rows each."""
    return torch.arange(N, device=device) % max(N // 8, 1)


def silverman(D: int, N: int) -> float:
    """The bandwidth of Silverman's rule for standard normal points."""
    return (N * (D + 2) / 4) ** (-1 / (D + 4))


def _without_diagonal(s: Tensor) -> Tensor:
    return s.masked_fill(torch.eye(len(s), dtype=torch.bool, device=s.device), -torch.inf)


def _two_views(z1: Tensor, z2: Tensor, temperature: float = TEMPERATURE) -> tuple[Tensor, Tensor]:
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    return _without_diagonal(z @ z.T / temperature), torch.arange(len(z), device=z.device).roll(len(z1))


def matrix_info_nce(x: Tensor, y: Tensor) -> Tensor:
    s = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T / TEMPERATURE
    return F.cross_entropy(s, torch.arange(len(x), device=x.device))


def matrix_clip(x: Tensor, y: Tensor) -> Tensor:
    s, own = SCALE * x @ y.T, torch.arange(len(x), device=x.device)
    return 0.5 * (F.cross_entropy(s, own) + F.cross_entropy(s.T, own))


def matrix_nt_xent(z1: Tensor, z2: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    return F.cross_entropy(*_two_views(z1, z2, temperature))


def matrix_dcl(z1: Tensor, z2: Tensor) -> Tensor:
    s, other = _two_views(z1, z2)
    positive = s.gather(1, other[:, None])
    return (s.scatter(1, other[:, None], -torch.inf).logsumexp(dim=1) - positive[:, 0]).mean()


def matrix_siglip(x: Tensor, y: Tensor) -> Tensor:
    s = SCALE * x @ y.T + BIAS
    return F.softplus(torch.where(torch.eye(len(s), dtype=torch.bool, device=s.device), -s, s)).sum() / len(s)


def matrix_sup_con(z1: Tensor, z2: Tensor) -> Tensor:
    s, _ = _two_views(z1, z2)
    label = labels(len(s), s.device)
    positive = (label[:, None] == label[None, :]) & ~torch.eye(len(s), dtype=torch.bool, device=s.device)
    log_p = s.log_softmax(dim=1)
    return -(log_p.masked_fill(~positive, 0.0).sum(dim=1) / positive.sum(dim=1)).mean()


def _log_kernel(z: Tensor, h: float) -> Tensor:
    square = z.square().sum(dim=1)
    return (2 * z @ z.T - square[:, None] - square[None, :]) / (2 * h * h)


def _log_normaliser(D: int, h: float) -> float:
    return D * math.log(h) + 0.5 * D * math.log(2 * math.pi)


def matrix_kde_entropy(z: Tensor, bandwidth: float | None = None) -> Tensor:
    N, D = z.shape
    h = bandwidth or silverman(D, N)
    s = _without_diagonal(_log_kernel(z, h))
    return -s.logsumexp(dim=1).mean() + math.log(N - 1) + _log_normaliser(D, h)


def matrix_kde_value(z: Tensor) -> Tensor:
    N, D = z.shape
    h = silverman(D, N)
    return -_log_kernel(z, h).logsumexp(dim=1).mean() + math.log(N) + _log_normaliser(D, h)


def matrix_uniformity(x: Tensor) -> Tensor:
    square = x.square().sum(dim=1)
    s = _without_diagonal(2 * (2 * x @ x.T - square[:, None] - square[None, :]))
    return s.flatten().logsumexp(dim=0) - math.log(len(x) * (len(x) - 1))


def _sup_con(z1: Tensor, z2: Tensor) -> Tensor:
    return jk.sup_con(torch.cat([z1, z2]), labels(2 * len(z1), z1.device), temperature=TEMPERATURE)


PROBLEMS = {
    "info_nce": Problem(lambda x, y: jk.info_nce(x, y, temperature=TEMPERATURE), matrix_info_nce, pairs, 3),
    "clip_loss": Problem(lambda x, y: jk.clip_loss(x, y, SCALE), matrix_clip, unit_pairs, 4),
    "nt_xent": Problem(lambda x, y: jk.nt_xent(x, y, temperature=TEMPERATURE), matrix_nt_xent, views, 2),
    "dcl": Problem(lambda x, y: jk.dcl(x, y, temperature=TEMPERATURE), matrix_dcl, views, 2),
    "sup_con": Problem(_sup_con, matrix_sup_con, views, 2),
    "siglip_loss": Problem(lambda x, y: jk.siglip_loss(x, y, SCALE, BIAS), matrix_siglip, unit_pairs, 3),
    "kde_entropy": Problem(
        lambda z: jk.kde_entropy(z, bandwidth=silverman(z.shape[1], len(z))), matrix_kde_entropy, points, 2
    ),
    "uniformity": Problem(jk.uniformity, matrix_uniformity, unit_points, 1.5),
    # What scikit-learn and scipy have: every point counts itself, and there is no gradient.
    "kde_value": Problem(
        lambda z: jk.kde_entropy(z, bandwidth=silverman(z.shape[1], len(z)), estimator="resubstitution"),
        matrix_kde_value,
        white_points,
        0.5,
        gradient=False,
    ),
    "kde_clustered": Problem(
        lambda z: jk.kde_entropy(z, bandwidth=CLUSTER_BANDWIDTH),
        lambda z: matrix_kde_entropy(z, CLUSTER_BANDWIDTH),
        clusters,
        2,
        skips=True,
    ),
    "nt_xent_trained": Problem(
        lambda x, y: jk.nt_xent(x, y, temperature=trained.TEMPERATURE),
        lambda x, y: matrix_nt_xent(x, y, trained.TEMPERATURE),
        lambda N, D: trained.embeddings(N // 2, D),
        2,
        skips=True,
    ),
}
LOSSES = tuple(name for name, problem in PROBLEMS.items() if problem.gradient and not problem.skips)


def evaluate(problem: Problem, function: Callable[..., Tensor], batches: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The value, and its gradient by every batch if the problem has one (zeros where it does not depend on one)."""
    if not problem.gradient:
        with torch.no_grad():
            return torch.as_tensor(function(*batches)), []
    leaves = [t.detach().requires_grad_() for t in batches]
    value = function(*leaves)
    gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    return value.detach(), list(gradients)


def errors(found: tuple[Tensor, list[Tensor]], truth: tuple[Tensor, list[Tensor]]) -> tuple[float, float | None]:
    """|value − truth| / max(1, |truth|), and ‖gradient − truth‖ / ‖truth‖ over all batches (None without a gradient)."""
    value, expected = float(found[0]), float(truth[0])
    value_error = abs(value - expected) / max(1.0, abs(expected))
    if not truth[1]:
        return value_error, None
    difference = sum(float((f - t).square().sum()) for f, t in zip(found[1], truth[1], strict=True))
    return value_error, math.sqrt(difference / sum(float(t.square().sum()) for t in truth[1]))


def in_double(problem: Problem, batches: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The truth: the matrix form in fp64, of the same numbers."""
    return evaluate(problem, problem.matrix, [t.double() for t in batches])
