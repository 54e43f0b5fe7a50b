"""What a backend is: a module with these names and functions.

`op` is "logsumexp" or the name of a ψ to sum. `workspace` is in bytes, beyond inputs, outputs and a few vectors. Results come
in the accumulation dtype of the score.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from ..problem.row_loss import Labelling, Pairing
from ..problem.score import Score
from ..problem.types import Gradients, Needs, Plan, Upstream, Weighted


class Backend(Protocol):
    """What every backend has."""

    @property
    def NAME(self) -> str:
        """How users select it."""
        ...

    @property
    def DESCRIPTION(self) -> str:
        """What users are told of it."""
        ...

    @property
    def MISSING(self) -> str:
        """Why it is not in this installation; empty if it is."""
        ...

    def declines(self, score: Score, op: str) -> list[str]:
        """Why it cannot run this problem; empty if it can."""
        ...

    def reduce(self, score: Score, op: str, cols: bool, workspace: int) -> tuple[Tensor, Tensor]:
        """row (N,), and col (M,) or empty."""
        ...

    def gradient(
        self, score: Score, op: str, row: Upstream, col: Upstream | None, needs: Needs, workspace: int
    ) -> Gradients:
        """Gradients for given upstream gradients and log-sum-exps."""
        ...

    def reduce_and_gradient(
        self, score: Score, op: str, row: Weighted, col: Weighted | None, needs: Needs, workspace: int
    ) -> tuple[Tensor, Tensor, Gradients]:
        """row, col, and the gradients of Σ w_i row_i + Σ v_j col_j."""
        ...

    def top_k(self, score: Score, k: int, workspace: int) -> tuple[Tensor, Tensor]:
        """Values (N, k) and indices (N, k)."""
        ...

    def plan(self, score: Score, op: str, cols: bool, with_gradient: bool, reduction: str, workspace: int) -> Plan:
        """What it would do, for `jk.explain`."""
        ...


class OptionalFunctions(Protocol):
    """What a backend may have as well, each of them alone."""

    def total(self, score: Score, needs: Needs, workspace: int) -> tuple[Tensor, Gradients]:
        """log ΣΣ e^s and its gradients."""
        ...

    def paired(self, score: Score, op: str, pairing: Pairing, needs: Needs, workspace: int) -> tuple[Tensor, Gradients]:
        """The value and gradients of a whole loss. Alone in being handed a score whose batch has a `rest`."""
        ...

    def labelled(self, score: Score, labelling: Labelling, needs: Needs, workspace: int) -> tuple[Tensor, Gradients]:
        """The value and gradients of a whole SupCon."""
        ...

    def whole(self, score: Score, loss: str) -> bool:
        """Whether "paired" or "labelled" takes this score; a backend without this function takes all."""
        ...
