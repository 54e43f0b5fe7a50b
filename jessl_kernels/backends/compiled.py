"""What the backends with compiled kernels have in common: the words that their kernels know, and calls on the right GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import torch

from ..problem.row_loss import RowProblem
from ..problem.score import Score

PHIS = ("identity", "clamp", "laplace", "student", "tophat", "epanechnikov", "linear", "cosine")
OPS = ("logsumexp", "softplus", "log1m_exp", "step", "nearest")
MOST_OFFSETS = 64  # diagonals, and kept diagonals, of the kernels for GPUs
FUNCTIONS = ("row_sums", "row_grads", "row_loss", "total", "top_k", "attend", "attend_grads")


def unknown_words(problem: Score | RowProblem, op: str, *further_ops: str) -> list[str]:
    """A reason to decline for each word that is not compiled into any kernels."""
    reasons = []
    if problem.phi.name not in PHIS:
        reasons.append(f"φ {problem.phi.name!r} is not compiled into it")
    if op not in (*OPS, *further_ops):
        reasons.append(f"ψ {op!r} is not compiled into it")
    if problem.exclude.guide is not None:
        reasons.append("a guide is not compiled into it")
    return reasons


def too_many_offsets(problem: Score | RowProblem) -> list[str]:
    """The reason to decline if the kernels for GPUs have no room for the diagonals."""
    if max(len(problem.exclude.diagonals), len(problem.exclude.keep)) <= MOST_OFFSETS:
        return []
    return [f"more than {MOST_OFFSETS} diagonals to exclude or to keep"]


def on_its_device(room: Callable[[], ModuleType], functions: Iterable[str]) -> Iterable[Callable[..., Any]]:
    """These functions of a room, on the embeddings' device: temporary tensors and launches go to the current one, which may be
    another. The room is imported when one is called."""

    def of(function: str) -> Callable[..., Any]:
        def run(problem: Score | RowProblem, *args: Any) -> Any:
            with torch.cuda.device_of(problem.x if isinstance(problem, Score) else problem.x[0]):
                return getattr(room(), function)(problem, *args)

        return run

    return map(of, functions)
