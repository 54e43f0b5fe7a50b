"""What `jk.explain` hears. While somebody listens, operators write down what they are asked for, and return zeros."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..problem import types
from ..problem.flat import tensors_of
from ..problem.row_loss import Loss, RowProblem
from .eager import Who
from .library import empty_sums


@dataclass
class Asked:
    """One call of an operator.

    operator       "row_sums", "row_loss", "total", "attend" or "top_k"
    reduction      what becomes of its sums: that of a loss, "logsumexp" for a total, "none" where rows are wanted
    with_gradient  whether somebody will ask for a gradient by the problem's tensors
    width          the columns of the values of "attend"
    """

    operator: str
    problem: RowProblem
    who: Who
    reduction: str = "none"
    with_gradient: bool = False
    width: int = 0


class _Local(threading.local):
    # As the settings of backends: an attribute of each thread, which torch.compile guards.
    def __init__(self) -> None:
        self.heard: list[Asked] | None = None


_local = _Local()


@contextlib.contextmanager
def listening() -> Iterator[list[Asked]]:
    """Within the block operators of this thread compute nothing; the list holds what they were asked for."""
    before, _local.heard = _local.heard, []
    try:
        yield _local.heard
    finally:
        _local.heard = before


def heard() -> list[Asked] | None:
    """The list of whoever listens, else None."""
    return _local.heard


def row_sums(heard: list[Asked], problem: RowProblem, who: Who) -> types.RowSums:
    heard.append(Asked("row_sums", problem, who))
    sums = empty_sums(problem)
    for side in sums:
        for t in (t for part in side or () for t in part or () if t is not None):
            t.zero_()
    return sums


def attach(heard: list[Asked], values: Sequence[Tensor], problem: RowProblem) -> Sequence[Tensor]:
    """Sums are made without a graph, and say here whether they want a gradient."""
    for asked in heard:
        if asked.problem is problem:
            asked.with_gradient = _wants_gradient(problem)
    return values


def row_loss(heard: list[Asked], problem: RowProblem, loss: Loss, who: Who) -> Tensor:
    heard.append(Asked("row_loss", problem, who, loss.reduction, _wants_gradient(problem)))
    return problem.first.new_zeros((), dtype=problem.dtype)


def total(heard: list[Asked], problem: RowProblem, who: Who) -> Tensor:
    heard.append(Asked("total", problem, who, "logsumexp", _wants_gradient(problem)))
    return problem.first.new_zeros((), dtype=problem.dtype)


def attend(heard: list[Asked], problem: RowProblem, values: Tensor, who: Who) -> Tensor:
    with_gradient = _wants_gradient(problem) or (torch.is_grad_enabled() and values.requires_grad)
    heard.append(Asked("attend", problem, who, "none", with_gradient, values.shape[1]))
    return problem.first.new_zeros((problem.N, values.shape[1]), dtype=problem.dtype)


def top_k(heard: list[Asked], problem: RowProblem, k: int, who: Who) -> tuple[Tensor, Tensor]:
    heard.append(Asked("top_k", problem, who))
    values = problem.first.new_zeros((problem.N, k), dtype=problem.dtype)
    return values, torch.zeros_like(values, dtype=torch.int64)


def _wants_gradient(problem: RowProblem) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors_of(problem))
