"""The problems that mutants must solve: small, of odd shapes, each with what is hard about it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jessl_kernels import phi
from jessl_kernels.problem.exclude import Exclude
from jessl_kernels.problem.score import Score

PLENTY = 64 << 20


@dataclass(frozen=True)
class Given:
    """The problem of a check, and on what it runs.

    whole       numbers: scores, distances that lie on a bound
    near        rows of y that lie as close to a row of x as rounding does not reach
    clustered   all points in two places far from each other, those of a tile in one
    spread      by how much biases grow from row to row, and from column to column, in nats
    special     biases that are infinite or NaN; a NaN among the columns' points; rows of x that are 0, or nearly
    programs    that a launch should have: 1 makes programs of several tiles, many of one each
    """

    kind: str = "dot"
    dtype: torch.dtype = torch.float64
    shape: tuple[int, int, int] = (21, 140, 5)
    symmetric: bool = False
    exclude: str = "nothing"
    of: phi.Phi = phi.IDENTITY
    scale: float = 0.3
    whole: bool = False
    near: int = 0
    clustered: bool = False
    spread: tuple[float, float] = (0.0, 0.0)
    special: str = ""
    biased: bool = True
    workspace: int = PLENTY
    programs: int = 1


@functools.cache
def problem_of(given: Given) -> Score:
    N, M, D = given.shape
    generator = torch.Generator().manual_seed(N + M + D)

    def normal(*shape: int, dtype: torch.dtype = given.dtype) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    x, y = normal(N, D), normal(M, D)
    if given.whole:
        x, y = (0.6 * x).round(), (0.6 * y).round()
        y[M // 2 :] = -y[: M - M // 2]  # their mean is 0
        x[0] = 2.0 * (
            torch.arange(D) < 16
        )  # a squared radius of 64, so that 16 is the squared distance of close pairs, to the last bit
    if given.clustered:
        x, y = (torch.where(torch.arange(len(z))[:, None] < n, 3.0, -3.0) + 1e-6 * z for z, n in ((x, 16), (y, 128)))
    if given.near:
        pick = torch.arange(given.near)
        y[(pick * 29) % M] = x[(pick * 11) % N] + 1e-3 * normal(given.near, D)
    wide = torch.float64 if given.dtype == torch.float64 else torch.float32
    row, col = normal(N, dtype=wide), normal(M, dtype=wide)
    row, col = row + given.spread[0] * (torch.arange(N) % 5), col + given.spread[1] * (torch.arange(M) % 7)
    if given.special == "empty":
        row[3], col[7], row[5] = -torch.inf, -torch.inf, torch.nan
    if given.special == "infinite":
        row[3] = torch.inf
    if given.special == "point":
        y[5] = torch.nan
    if given.special == "nothing":
        x[2], x[3] = 0.0, 1e-14 * x[3]
    bias = (row, col) if given.biased else (None, None)
    exclude = EXCLUSIONS[given.exclude](N, N if given.symmetric else M, generator)
    scale = torch.tensor(given.scale, dtype=torch.float64)
    return Score(x, None if given.symmetric else y, scale, *bias, exclude, given.kind, given.of)


def _ids(n: int, generator: torch.Generator, classes: int = 6) -> Tensor:
    return torch.randint(-1, classes, (n,), generator=generator)


EXCLUSIONS: dict[str, Callable[[int, int, torch.Generator], Exclude]] = {
    "nothing": lambda N, M, g: Exclude(),
    "partners": lambda N, M, g: Exclude(diagonals=(0,)),
    "further partners": lambda N, M, g: Exclude(diagonals=(3, 3 - M)),
    "all but few": lambda N, M, g: Exclude(different=(_ids(N, g, 40), _ids(M, g, 40)), diagonals=(0,)),
    "diagonals": lambda N, M, g: Exclude(diagonals=(0, N // 2, -(N // 2))),
    "same": lambda N, M, g: Exclude(same=(_ids(N, g), _ids(M, g)), diagonals=(3,), keep=(0, M - N - 2)),
    "different": lambda N, M, g: Exclude(different=(_ids(N, g), _ids(M, g)), diagonals=(1, 66), keep=(-1, 70)),
    # Rows without a pair, and columns.
    "most": lambda N, M, g: Exclude(different=(_ids(N, g, 3), 1 + _ids(M, g, 4)), diagonals=(0, 1), keep=(130,)),
    # Tiles without one.
    "blocks": lambda N, M, g: Exclude(different=tuple((torch.arange(n) >= k).long() for n, k in ((N, 16), (M, 128)))),
}


def _with_tensors(score: Score, change: Callable[[Tensor], Tensor]) -> Score:
    changed = [None if v is None else change(v) for v in (score.x, score.y, score.row_bias, score.col_bias)]
    return replace(score, x=changed[0], y=changed[1], row_bias=changed[2], col_bias=changed[3])


def score_of(given: Given) -> Score:
    """For one call: a mutant may write where it should not."""
    return _with_tensors(problem_of(given), torch.clone)


@functools.cache
def exact(given: Given) -> Score:
    return _with_tensors(problem_of(given), torch.Tensor.double)


@functools.cache
def vectors(given: Given, seed: int = 5) -> tuple[Tensor, Tensor]:
    """A number for each row and for each column, which the dtype of scores holds exactly."""
    score, generator = problem_of(given), torch.Generator().manual_seed(seed)
    row, col = (torch.randn(n, generator=generator, dtype=torch.float32) for n in (score.N, score.M))
    return row.to(score.dtype), col.to(score.dtype)
