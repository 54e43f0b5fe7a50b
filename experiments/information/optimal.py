"""Bounds at their best critics, which correlated Gaussians have in closed form: their means over batches are what they should be.

python -m experiments.information.optimal     # fails where a mean is more than 3 standard errors off

At its best critic NWJ, TUBA, JS (read off by NWJ) and FLO are means of 1 + f(x, y) − e^{f(x, y′)}, f = log p(y|x)/p(y): their
expectation is the information, at any batch size. The other bounds have an expectation of their own at each batch size. It is
estimated here from other batches, by their formulas on the whole matrix, in NumPy.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from jessl_kernels import mi

from .tasks import correlated_gaussians

D, ALPHA, TAU = 20, 0.01, 5.0
INFORMATION = (2.0, 4.0, 6.0, 8.0, 10.0)
UNBIASED = ("nwj", "tuba", "js", "flo")
BOUNDS = (*UNBIASED, "info_nce", "dv", "interpolated", "smile")


class Best(mi.critics.Critic):
    """f(x, y) = log p(y|x)/p(y) of Gaussians with correlation ρ in each dimension, plus a number, as one inner product."""

    def __init__(self, rho: float, plus: float = 0.0):
        super().__init__()
        self.rho, self.plus, self.product = rho, plus, mi.critics.InnerProduct()

    def forward(self, x, y):
        v = 1 - self.rho**2
        of_x, of_y = (-(self.rho**2) / (2 * v) * z.square().sum(dim=1, keepdim=True) for z in (x, y))
        one = torch.ones_like(of_x)
        left = torch.cat([self.rho / v * x, of_x + self.plus - x.shape[1] / 2 * math.log(v), one], dim=1)
        return self.product(left, torch.cat([y, one, of_y], dim=1))


class Zero(nn.Module):
    """The best baseline of e^f, log E e^{f(x, y)} = 0."""

    def forward(self, z: Tensor) -> Tensor:
        return z.new_zeros(len(z))


class Amortised(nn.Module):
    """FLO's best u, log E e^{f(x, y′) − f(x, y)} = −f(x, y)."""

    def __init__(self, critic: Best):
        super().__init__()
        self.critic = critic

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return -self.critic(x, y).positives()


def objective(name: str, rho: float) -> mi.Objective:
    """The bound with its best critic, and the best of what it has beside it."""
    critic = Best(rho, plus=1.0 if name == "nwj" else 0.0)
    options: dict = {
        "tuba": {"baseline": Zero()},
        "interpolated": {"baseline": Zero(), "alpha": ALPHA},
        "smile": {"tau": TAU},
        "flo": {"u": Amortised(critic)},
    }
    return mi.Objective(name, critic, **options.get(name, {}))  # pyright: ignore[reportArgumentType]


def of_matrix(name: str, s: np.ndarray) -> float:
    """The bound of scores (K, K) in the linear domain, by sums over the matrix."""
    K = len(s)
    own, others = s.diagonal(), ~np.eye(K, dtype=bool)
    e = np.exp(s)
    if name == "info_nce":
        return float(np.mean(own - np.log(e.mean(axis=1))))
    if name == "dv":
        return float(own.mean() - np.log(e[others].mean()))
    if name == "smile":
        return float(own.mean() - np.log(np.exp(s.clip(-TAU, TAU))[others].mean()))
    # Interpolated: each baseline is a mean of all but one score of the row, here with q = 1.
    base = ALPHA * (e.sum(axis=1, keepdims=True) - e) / (K - 1) + 1 - ALPHA
    return float(1 + (own[:, None] - np.log(base))[others].mean() - (e / base.diagonal()[:, None])[others].mean())


def scores(x: np.ndarray, y: np.ndarray, rho: float) -> np.ndarray:
    """log p(y_j|x_i) − log p(y_j), from the squared distances of y_j to its means."""
    v = 1 - rho**2
    given = -(np.square(y).sum(1) - 2 * rho * x @ y.T + rho**2 * np.square(x).sum(1)[:, None]) / (2 * v)
    return given - x.shape[1] / 2 * math.log(v) + np.square(y).sum(1) / 2


@dataclass(frozen=True)
class Reading:
    """A bound over batches of K pairs: its mean and the deviation of one batch, beside what its mean should be."""

    bound: str
    information: float
    K: int
    batches: int
    mean: float
    deviation: float
    expected: float
    error: float  # standard error of mean − expected

    @property
    def judged(self) -> bool:
        return self.information <= math.log(self.K)

    @property
    def holds(self) -> bool:
        return not self.judged or abs(self.mean - self.expected) <= 3 * self.error


def measure(name: str, information: float, K: int, batches: int) -> Reading:
    """Means of as many batches by ours, and as many others for what to expect."""
    rho, draw = correlated_gaussians(D, information)
    bound = objective(name, rho)
    values = []
    for seed in range(batches):
        x, y = (torch.from_numpy(z) for z in draw(K, np.random.default_rng([seed, K])))
        values.append(bound.value(x, y).value)
    expected, variance = information, 0.0
    if name not in UNBIASED:
        others = [draw(K, np.random.default_rng([seed, K, 1])) for seed in range(batches)]
        reference = [of_matrix(name, scores(x, y, rho)) for x, y in others]
        expected, variance = float(np.mean(reference)), float(np.var(reference, ddof=1))
    deviation = float(np.std(values, ddof=1))
    error = math.sqrt((deviation**2 + variance) / batches)
    return Reading(name, information, K, batches, float(np.mean(values)), deviation, expected, error)


def main(arguments: list[str] | None = None) -> None:
    """Prints a line for each bound, information and K, and fails if one does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--pairs", type=int, nargs="*", default=[128, 1024])
    parser.add_argument("--information", type=float, nargs="*", default=list(INFORMATION))
    parser.add_argument("--bounds", nargs="*", choices=BOUNDS, default=BOUNDS)
    options = parser.parse_args(arguments)
    readings = []
    for K, name, information in itertools.product(options.pairs, options.bounds, options.information):
        reading = measure(name, information, K, options.batches)
        readings.append(reading)
        off = (reading.mean - reading.expected) / reading.error
        word = ("holds" if reading.holds else "FAILS") if reading.judged else "above log K, not judged"
        print(
            f"K = {K:5,}   {name:12}   I = {information:4.1f}   mean {reading.mean:7.3f}   one batch ± {reading.deviation:6.3f}"
            f"   expected {reading.expected:7.3f}   off by {off:5.2f} standard errors   {word}",
            flush=True,
        )
    failed = [reading for reading in readings if not reading.holds]
    if failed:
        sys.exit(f"{len(failed)} of {len(readings)} means are more than 3 standard errors off")


if __name__ == "__main__":
    main()
