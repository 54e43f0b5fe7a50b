"""Distances of nearest neighbours on the CPU: csrc/cpu/passes/neighbours.h computes; this module calls it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..native import native, native_status
from ..problem.score import Score

_core: Any = native() if native_status().available else None


def kth_distance(score: Score, norm: str, k: int, workspace: int) -> Tensor:
    points, radius = score.x.contiguous(), score.x.new_empty(score.N)
    _core.kth_distance(_points(points), norm, k, torch.get_num_threads(), radius.data_ptr())
    return radius


def count_nearer(score: Score, limit: Tensor, workspace: int) -> Tensor:
    points, limit = score.x.contiguous(), limit.contiguous()
    count = torch.empty(score.N, dtype=torch.int64)
    _core.count_nearer(_points(points), limit.data_ptr(), torch.get_num_threads(), count.data_ptr())
    return count


def reach_of_nearer(score: Score, split: int, limit: Tensor, workspace: int) -> Tensor:
    points, limit, reach = score.x.contiguous(), limit.contiguous(), score.x.new_empty(score.N, 2)
    _core.reach_of_nearer(_points(points), split, limit.data_ptr(), torch.get_num_threads(), reach.data_ptr())
    return reach


def _points(z: Tensor) -> tuple[int, int, int]:
    N, D = z.shape
    return z.data_ptr(), N, D
