"""The scores f(x_i, y_j) of a critic on a batch of pairs, by the few sums over them that bounds are made of.

`DotScores` are scale·⟨x_i, y_j⟩ + row_bias_i + col_bias_j, whose sums are the package's reductions. `BlockScores` (blocks.py)
come from any function of a block of x and a block of y.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from ..autocast import under_autocast
from ..functional.rows import rowwise_dot
from ..literals import Negatives, PsiName
from ..pairwise import pairwise_logsumexp, pairwise_sum, pairwise_topk, row_loss
from ..problem.exclude import Exclude
from ..problem.phi import Phi


class Scores(ABC):
    """N pairs. Sums are over the negatives that `negatives` names, in nats; all have gradients."""

    negatives: Negatives

    @property
    @abstractmethod
    def N(self) -> int: ...

    @abstractmethod
    def positives(self) -> Tensor:
        """f(x_i, y_i), (N,)."""

    @abstractmethod
    def at(self, columns: Tensor) -> Tensor:
        """f(x_i, y_{columns_i}), (N,); columns: (N,), int64."""

    @abstractmethod
    def largest(self) -> Tensor:
        """The column of each row's largest negative, (N,), without a gradient."""

    @abstractmethod
    def cross_entropy(self) -> Tensor:
        """mean_i (log Σ_j e^{s_ij} − s_ii) over all j, 0-d."""

    @abstractmethod
    def rows(self, without: Tensor | None = None) -> Tensor:
        """log Σ_j e^{s_ij}, (N,). without: (N,), one column of each row that is left out."""

    @abstractmethod
    def total(self, col_bias: Tensor | None = None, clamp: Phi | None = None) -> Tensor:
        """log Σ_ij e^{φ(s_ij) + c_j}, 0-d."""

    @abstractmethod
    def sums(self, psi: PsiName, row_bias: Tensor | None = None, without: Tensor | None = None) -> Tensor:
        """Σ_j ψ(s_ij + r_i), (N,). without: as of `rows`."""


def count(scores: Scores) -> int:
    """Number of negatives of a row."""
    return scores.N - (scores.negatives == "others")


@dataclass
class DotScores(Scores):
    """scale·⟨x_i, y_j⟩ + row_bias_i + col_bias_j.

    x, y       (N, D)
    scale      float or 0-d tensor
    row_bias, col_bias   (N,), or None
    """

    x: Tensor
    y: Tensor
    scale: float | Tensor = 1.0
    row_bias: Tensor | None = None
    col_bias: Tensor | None = None
    negatives: Negatives = "others"

    @property
    def N(self) -> int:
        return len(self.x)

    def _exclude(self, without: Tensor | None = None) -> Exclude:
        columns = torch.arange(self.N, device=self.x.device)
        return Exclude(
            diagonals=0 if self.negatives == "others" else (), same=None if without is None else (without, columns)
        )

    def positives(self) -> Tensor:
        return self._with(self.y, self.col_bias)

    def at(self, columns: Tensor) -> Tensor:
        return self._with(self.y[columns], None if self.col_bias is None else self.col_bias[columns])

    def largest(self) -> Tensor:
        col_bias = None if self.col_bias is None else self.col_bias.detach()
        scale = self.scale.detach() if isinstance(self.scale, Tensor) else self.scale
        _, columns = pairwise_topk(
            self.x.detach(), self.y.detach(), k=1, scale=scale, col_bias=col_bias, exclude=self._exclude()
        )
        return columns[:, 0]

    def _with(self, y: Tensor, col_bias: Tensor | None) -> Tensor:
        s = rowwise_dot(*under_autocast(self.x, y)) * self.scale
        for bias in (self.row_bias, col_bias):
            s = s if bias is None else s + bias
        return s

    def cross_entropy(self) -> Tensor:
        # A row's bias is in all of its scores, its own among them.
        return row_loss(self.x, self.y, join="softplus", positives=0, scale=self.scale, col_bias=self.col_bias)

    def rows(self, without: Tensor | None = None) -> Tensor:
        return pairwise_logsumexp(
            self.x,
            self.y,
            scale=self.scale,
            row_bias=self.row_bias,
            col_bias=self.col_bias,
            exclude=self._exclude(without),
        )

    def total(self, col_bias: Tensor | None = None, clamp: Phi | None = None) -> Tensor:
        of = self if clamp is None else self._without_biases()
        return pairwise_logsumexp(
            of.x,
            of.y,
            phi=clamp,
            scale=of.scale,
            row_bias=of.row_bias,
            col_bias=added(of.col_bias, col_bias),
            exclude=self._exclude(),
            reduction="logsumexp",
        )

    def _without_biases(self) -> DotScores:
        """The same scores as products of two dimensions more: φ is applied before biases, and a clamp must see whole scores."""
        if self.row_bias is None and self.col_bias is None:
            return self
        one = self.x.new_ones(self.N, 1)
        r, c = (one * 0 if bias is None else bias[:, None].to(one.dtype) for bias in (self.row_bias, self.col_bias))
        x = torch.cat([self.x * self.scale, r, one], dim=1)
        return DotScores(x, torch.cat([self.y, one, c], dim=1), negatives=self.negatives)

    def sums(self, psi: PsiName, row_bias: Tensor | None = None, without: Tensor | None = None) -> Tensor:
        return pairwise_sum(
            self.x,
            self.y,
            psi=psi,
            scale=self.scale,
            row_bias=added(self.row_bias, row_bias),
            col_bias=self.col_bias,
            exclude=self._exclude(without),
        )


def added(bias: Tensor | None, further: Tensor | None) -> Tensor | None:
    """The sum of those that are there."""
    if bias is None or further is None:
        return further if bias is None else bias
    return bias + further
