"""What a backend is: a module with these names and functions.

`workspace` is in bytes, beyond inputs, outputs and a few vectors. Results come in the accumulation dtype of the problem. Backends
that are written in Python have most of this from `executor.py`, and supply the two sweeps over the pairs.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from ..problem.row_loss import Loss, RowProblem
from ..problem.score import Score
from ..problem.types import Gradients, Needs, Plan, RowSums, Slopes, Terms


class Backend(Protocol):
    """What every backend has.

    NAME, DESCRIPTION  how users select it, and what they are told of it
    MISSING            why it is not in this installation; empty if it is
    """

    @property
    def NAME(self) -> str: ...
    @property
    def DESCRIPTION(self) -> str: ...
    @property
    def MISSING(self) -> str: ...

    def declines(self, problem: Score | RowProblem, op: str, /) -> list[str]:
        """Why it cannot sum these words ("logsumexp" or a ψ) over this problem; empty if it can."""
        ...

    def row_sums(self, problem: RowProblem, workspace: int) -> RowSums:
        """Sums of rows, and of columns where the problem has them."""
        ...

    def row_grads(self, problem: RowProblem, sums: RowSums, slopes: Slopes, needs: Needs, workspace: int) -> Gradients:
        """Gradients for what arrives at these sums, which may be over more pairs than the problem's."""
        ...

    def row_loss(self, problem: RowProblem, loss: Loss, needs: Needs, workspace: int) -> tuple[Tensor, Gradients]:
        """The value of a loss, 0-d, and its gradients."""
        ...

    def total(self, score: Score, needs: Needs, workspace: int) -> tuple[Tensor, Gradients]:
        """log ΣΣ e^s, 0-d, and its gradients."""
        ...

    def top_k(self, score: Score, k: int, workspace: int) -> tuple[Tensor, Tensor]:
        """Values (N, k) and indices (N, k)."""
        ...

    def plan(self, score: Score, terms: Terms, cols: bool, with_gradient: bool, reduction: str, workspace: int) -> Plan:
        """What it would do, for `jk.explain`."""
        ...
