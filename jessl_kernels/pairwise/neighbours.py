"""Nearest neighbours among the rows of a batch, by differences in fp64: exact, without an N×N matrix, and without gradients.

Results have no gradient and need no operator: torch.compile leaves its graph here and goes on behind it. Arguments are those of
the estimators in `mi`, checked there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..backends import select, settings
from ..ops import Who, asked, eager
from ..problem.exclude import Exclude
from ..problem.phi import IDENTITY
from ..problem.score import Score


def kth_distance(function: str, z: Tensor, k: int, norm: str) -> Tensor:
    """(N,) the distance of each row's k-th nearest other row, 1 ≤ k < N; norm: "euclidean" or "max" over dimensions."""
    return _run(function, "kth_distance", z, norm, k)


def count_nearer(function: str, z: Tensor, limit: Tensor) -> Tensor:
    """(N,) how many other rows lie nearer than each row's limit, by the max-norm."""
    return _run(function, "count_nearer", z, limit)


def reach_of_nearer(function: str, x: Tensor, y: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) each: the largest distances in x, and in y, to the other rows of [x, y] that lie nearer than a row's limit."""
    reach_x, reach_y = _run(function, "reach_of_nearer", torch.cat([x, y], dim=1), x.shape[1], limit).unbind(1)
    return reach_x, reach_y


def _found(function: str, what: str, z: Tensor, *args: Any) -> Tensor:
    if asked.heard() is not None:
        raise NotImplementedError(f"explain: {function} is not planned: it takes distances and no matrix products")
    points = z.detach().double().resolve_neg()
    score = Score(points, None, 1.0, None, None, Exclude((0,)), "sqdist", IDENTITY)
    who = Who(select(function, score, "nearest"), settings().workspace_on(z.device))
    return eager.run(what, who, score, *args)


_run: Callable[..., Tensor] = torch.compiler.disable(_found)  # pyright: ignore[reportAssignmentType]
