"""The arguments that the overloads of one function have in common, for type checkers alone: only `dim` and `reduction` change a
result's type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from torch import Tensor

from ..literals import ExcludeWord, JoinName, Kind, PhiName, PsiName, SumName
from ..problem.exclude import Exclude
from ..problem.phi import Phi

Embeddings = Tensor | Sequence[Tensor]
PositivePairs = int | Tensor | tuple[Tensor, Tensor] | None
JoinOf = JoinName | Callable[..., Tensor]


class ScoreOptions(TypedDict, total=False):
    """Of `pairwise_topk`: the score."""

    kind: Kind
    phi: Phi | PhiName | None
    scale: float | Tensor
    row_bias: Tensor | None
    col_bias: Tensor | None
    exclude: Exclude | ExcludeWord | None


class LogSumExpOptions(ScoreOptions, total=False):
    """Of `pairwise_logsumexp`."""

    anchor: Tensor | None
    col_anchor: Tensor | None
    weights: Tensor | None
    col_weights: Tensor | None


class SumOptions(ScoreOptions, total=False):
    """Of `pairwise_sum`."""

    psi: PsiName
    weights: Tensor | None
    col_weights: Tensor | None


class LossOptions(ScoreOptions, total=False):
    """Of `row_loss`."""

    positives: PositivePairs
    negatives: SumName
    of_positives: SumName
    tilts: Sequence[float]
    params: Sequence[Any]
    also: Tensor | None
    normalize: bool
    weights: Tensor | None
    col_weights: Tensor | None
