"""Pairs of variables whose mutual information is known in closed form, in nats.

They are tasks of the benchmark of Czyż et al. (Beyond Normal, arXiv 2306.11078), written anew from their definitions. Their names
are those of the package benchmark-mi.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import digamma, gammaln, ndtr
from torch import Tensor

Sampler = Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]]
Map = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Task:
    """name         of benchmark-mi
    information  I(X;Y) in nats
    draw         (n, generator) → x (n, D_x), y (n, D_y)
    """

    name: str
    information: float
    draw: Sampler

    def sample(self, n: int, seed: int) -> tuple[Tensor, Tensor]:
        """n pairs, in fp64."""
        x, y = self.draw(n, np.random.default_rng(seed))
        return torch.from_numpy(x), torch.from_numpy(y)


def correlated_gaussians(D: int, information: float) -> tuple[float, Sampler]:
    """The correlation ρ of each of D pairs of dimensions, by which x and y have this information; and their sampler."""
    rho = math.sqrt(-math.expm1(-2 * information / D))

    def draw(n, generator):
        x, noise = generator.standard_normal((2, n, D))
        return x, rho * x + math.sqrt(1 - rho**2) * noise

    return rho, draw


def normal(covariance: np.ndarray, D: int) -> tuple[float, Sampler]:
    """½ log(det C_x det C_y / det C), of jointly normal variables of which the first D are x."""
    logdet = [np.linalg.slogdet(c).logabsdet for c in (covariance[:D, :D], covariance[D:, D:], covariance)]
    root = np.linalg.cholesky(covariance)

    def draw(n, generator):
        z = generator.standard_normal((n, len(covariance))) @ root.T
        return z[:, :D], z[:, D:]

    return 0.5 * (logdet[0] + logdet[1] - logdet[2]), draw


def binormal(rho: float = 0.75) -> Task:
    """Two normal variables with correlation ρ."""
    return Task(f"1v1-normal-{rho}", *normal(np.array([[1, rho], [rho, 1]]), 1))


def multinormal_dense(D: int, rho: float = 0.5) -> Task:
    """Normal variables, all of which correlate alike."""
    covariance = np.full((2 * D, 2 * D), rho) + (1 - rho) * np.eye(2 * D)
    return Task(f"multinormal-dense-{D}-{D}-{rho}", *normal(covariance, D))


def multinormal_two_pairs(D: int, strength: float = 2.0) -> Task:
    """Independent normal variables but for two pairs, whose common part is `strength` times as large as the part of each."""
    covariance = np.eye(2 * D)
    for i in range(2):
        covariance[i, D + i] = covariance[D + i, i] = strength**2 / (1 + strength**2)
    return Task(f"multinormal-sparse-{D}-{D}-2-{strength}", *normal(covariance, D))


def student(D: int, df: int) -> Task:
    """Student's t in 2D dimensions with identity dispersion: uncorrelated, and dependent by their common scale alone.

    I = f(df) + f(df + 2D) − 2 f(df + D),    f(a) = log Γ(a/2) − (a/2) ψ(a/2)
    """

    def f(a):
        return gammaln(a / 2) - a / 2 * digamma(a / 2)

    def draw(n, generator):
        z = generator.standard_normal((n, 2 * D)) / np.sqrt(generator.chisquare(df, (n, 1)) / df)
        return z[:, :D], z[:, D:]

    return Task(f"student-identity-{D}-{D}-{df}", float(f(df) + f(df + 2 * D) - 2 * f(df + D)), draw)


def additive_noise(epsilon: float) -> Task:
    """x uniform on [0, 1], y = x + uniform on [−ε, ε]: ε − log 2ε for ε ≤ ½, and 1/(4ε) above."""

    def draw(n, generator):
        x = generator.uniform(size=(n, 1))
        return x, x + generator.uniform(-epsilon, epsilon, size=(n, 1))

    information = epsilon - math.log(2 * epsilon) if epsilon <= 0.5 else 1 / (4 * epsilon)
    return Task(f"1v1-additive-{epsilon}", information, draw)


def mapped(word: str, task: Task, map_x: Map, map_y: Map | None = None) -> Task:
    """The same information: the maps can be undone."""

    def draw(n, generator):
        x, y = task.draw(n, generator)
        return map_x(x), (map_y or map_x)(y)

    return Task(f"{word}-{task.name}", task.information, draw)


def half_cube(task: Task) -> Task:
    """z |z|^½ in each dimension: longer tails."""
    return mapped("half_cube", task, lambda z: z * np.sqrt(np.abs(z)))


def asinh(task: Task) -> Task:
    """asinh z in each dimension: shorter tails."""
    return mapped("asinh", task, np.arcsinh)


def normal_cdf(task: Task) -> Task:
    """Φ(z) in each dimension: normal variables become uniform."""
    return mapped("normal_cdf", task, ndtr)


def spiral(task: Task) -> Task:
    """Each point is turned by an angle of ‖z‖²/D, x in its first two dimensions and y in its second and third."""

    def turned(i):
        def turn(z):
            angle, turned = np.square(z).sum(axis=1) / z.shape[1], z.copy()
            turned[:, i] = np.cos(angle) * z[:, i] - np.sin(angle) * z[:, i + 1]
            turned[:, i + 1] = np.sin(angle) * z[:, i] + np.cos(angle) * z[:, i + 1]
            return turned

        return turn

    return mapped("spiral", task, turned(0), turned(1))


TASKS = [
    binormal(),
    normal_cdf(binormal()),
    additive_noise(0.1),
    additive_noise(0.75),
    asinh(student(1, 1)),
    multinormal_dense(5),
    multinormal_dense(25),
    multinormal_two_pairs(5),
    multinormal_two_pairs(25),
    student(3, 2),
    asinh(student(5, 2)),
    half_cube(multinormal_two_pairs(5)),
    normal_cdf(multinormal_two_pairs(5)),
    spiral(multinormal_two_pairs(3)),
    spiral(normal_cdf(multinormal_two_pairs(5))),
]
