"""Nearest neighbours in plain torch, in strips of rows, on any device: exact, by differences.

The points are the x of a `Score`, in fp64; a point is no neighbour of itself. `protocol.py` says what each function returns.
Results of a strip are written where they stay: small tensors kept between large ones that are freed made the heap grow with
every strip, to 2.3 GB at N = 16,384.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..problem.score import Score

POWERS = {"euclidean": 2.0, "max": math.inf}
MATRICES = 16  # of a strip, by which its process grows: distances, maxima, copies, and holes between them


def kth_distance(score: Score, norm: str, k: int, workspace: int) -> Tensor:
    radius = score.x.new_empty(score.N)
    for rows in _strips(score, workspace):
        radius[rows] = _distances(score.x, rows, norm).kthvalue(k, dim=1).values
    return radius


def count_nearer(score: Score, limit: Tensor, workspace: int) -> Tensor:
    count = score.x.new_empty(score.N, dtype=torch.int64)
    for rows in _strips(score, workspace):
        count[rows] = (_distances(score.x, rows, "max") < limit[rows, None]).sum(dim=1)
    return count


def reach_of_nearer(score: Score, split: int, limit: Tensor, workspace: int) -> Tensor:
    reach = score.x.new_empty(score.N, 2)
    for rows in _strips(score, workspace):
        sides = [_distances(z, rows, "max") for z in score.x.split((split, score.D - split), dim=1)]
        near = torch.maximum(*sides) < limit[rows, None]
        for side, d in enumerate(sides):
            reach[rows, side] = torch.where(near, d, 0.0).amax(dim=1)
    return reach


def _strips(score: Score, workspace: int) -> Iterator[slice]:
    rows = max(1, workspace // (8 * score.N * MATRICES))
    return (slice(i, min(i + rows, score.N)) for i in range(0, score.N, rows))


def _distances(z: Tensor, rows: slice, norm: str) -> Tensor:
    """From the strip's points to all; a point's own is infinite."""
    d = torch.cdist(z[rows], z, p=POWERS[norm], compute_mode="donot_use_mm_for_euclid_dist")
    own = torch.arange(rows.start, rows.stop, device=z.device)
    d[own - rows.start, own] = torch.inf
    return d
