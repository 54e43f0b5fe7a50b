"""The names and functions of a module that is a backend.

`workspace` is in bytes, beyond inputs, outputs and a few vectors. Results have the accumulation dtype of the problem. A backend
written in Python takes most functions from `executor.py`, and supplies the two sweeps over the pairs.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from ..problem.row_loss import Loss, RowProblem
from ..problem.score import Score
from ..problem.types import Attended, Gradients, Needs, Plan, RowSums, Slopes, Sums, Terms


class Backend(Protocol):
    """A backend.

    NAME, DESCRIPTION  the name by which users select it, and its line in `jk.backends()`
    MISSING            why it is absent from this installation; empty if it is present
    """

    @property
    def NAME(self) -> str: ...
    @property
    def DESCRIPTION(self) -> str: ...
    @property
    def MISSING(self) -> str: ...

    def declines(self, problem: Score | RowProblem, op: str, /) -> list[str]:
        """The reasons why it cannot sum this word ("logsumexp" or a ψ), or find the "nearest" points; empty if it can."""
        ...

    def row_sums(self, problem: RowProblem, workspace: int) -> RowSums:
        """Sums of rows, and of columns if the problem has them."""
        ...

    def row_grads(self, problem: RowProblem, sums: RowSums, slopes: Slopes, needs: Needs, workspace: int) -> Gradients:
        """Gradients for the upstream gradients of these sums, which may include other problems' pairs."""
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

    def attend(self, score: Score, values: Tensor, workspace: int) -> tuple[Tensor, Sums]:
        """Σ_j p_ij v_j, (N, V), of values (M, V), and the sums of the rows; 0 for a row without pairs."""
        ...

    def attend_grads(
        self, score: Score, sums: Sums, of: Attended, needs: Needs, with_values: bool, workspace: int
    ) -> tuple[Gradients, Tensor]:
        """Gradients of the score's arguments, and of the values; the latter is empty unless requested."""
        ...

    def kth_distance(self, score: Score, norm: str, k: int, workspace: int) -> Tensor:
        """(N,) the distance of the k-th nearest other point of each x, which are fp64; the rest of the score is not read."""
        ...

    def count_nearer(self, score: Score, limit: Tensor, workspace: int) -> Tensor:
        """(N,) int64, the number of other points whose largest difference of a coordinate is below the limit, (N,)."""
        ...

    def reach_of_nearer(self, score: Score, split: int, limit: Tensor, workspace: int) -> Tensor:
        """(N, 2) the largest difference to these points, in the first `split` coordinates and in the rest."""
        ...

    def plan(self, score: Score, terms: Terms, cols: bool, with_gradient: bool, reduction: str, workspace: int) -> Plan:
        """The route it would take, for `jk.explain`. reduction: what becomes of the sums, or "top_k", or "attend"."""
        ...
