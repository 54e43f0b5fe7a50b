"""Scores of a critic that is no product of embeddings, made block by block: no N×N of them, nor of what leads to them.

Each block is a checkpoint: the forward keeps its sums of rows alone, and the backward makes the block again with a graph. So one
block's graph is held at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..literals import Negatives, PsiName
from ..problem.phi import Phi
from ..problem.psi import PSIS
from .scores import Scores

Block = Callable[[Tensor, Tensor], Tensor]  # (n, …), (m, …) → (n, m)


@dataclass
class BlockScores(Scores):
    """block(u_i, v_j) of blocks of rows of u and v.

    u, v   (N, …), with a graph to x and y where they have one
    block  scores (n, m) of n rows of u and m rows of v
    pairs  scores (N,) of as many rows of u and v, pair by pair
    most   pairs of a block
    """

    u: Tensor
    v: Tensor
    block: Block
    pairs: Block
    most: int
    negatives: Negatives = "others"

    @property
    def N(self) -> int:
        return len(self.u)

    def positives(self) -> Tensor:
        return self.pairs(self.u, self.v)

    def neighbours(self) -> Tensor:
        return self.pairs(self.u, self.v.roll(-1, 0))

    def cross_entropy(self) -> Tensor:
        return (self._rows(self._score, diagonal=True) - self.positives()).mean()

    def rows(self) -> Tensor:
        return self._rows(self._score, diagonal=self.negatives == "all")

    def total(self, col_bias: Tensor | None = None, clamp: Phi | None = None) -> Tensor:
        def score(u: Tensor, v: Tensor, i: slice, j: slice) -> Tensor:
            s = self.block(u, v)
            s = s if clamp is None else s.clamp(*clamp.parameters)
            return s if col_bias is None else s + col_bias[j]

        return self._rows(score, diagonal=self.negatives == "all").logsumexp(dim=0)

    def sums(self, psi: PsiName, row_bias: Tensor | None = None) -> Tensor:
        def part(u: Tensor, v: Tensor, i: slice, j: slice) -> Tensor:
            s = self.block(u, v)
            s = s if row_bias is None else s + row_bias[i, None]
            return PSIS[psi].value(_without_pairs(s, i, j) if self.negatives == "others" else s).sum(dim=1)

        return self._over(part, lambda parts: parts.sum(dim=0))

    def _score(self, u: Tensor, v: Tensor, i: slice, j: slice) -> Tensor:
        return self.block(u, v)

    def _rows(self, score: Callable[..., Tensor], diagonal: bool) -> Tensor:
        def part(u: Tensor, v: Tensor, i: slice, j: slice) -> Tensor:
            s = score(u, v, i, j)
            return (s if diagonal else _without_pairs(s, i, j)).logsumexp(dim=1)

        return self._over(part, lambda parts: parts.logsumexp(dim=0))

    def _over(self, part: Callable[..., Tensor], merged: Callable[[Tensor], Tensor]) -> Tensor:
        """Sums of rows: of each block by itself, then merged over the blocks of its rows."""
        # Two columns at least: a block of one might have no pair left.
        blocks = max(1, min(self.N // 2, math.ceil(self.N / math.isqrt(self.most))))
        places = [slice(int(p[0]), int(p[-1]) + 1) for p in torch.arange(self.N).tensor_split(blocks)]
        strips = zip(places, self.u.tensor_split(blocks), strict=True)
        columns = list(zip(places, self.v.tensor_split(blocks), strict=True))
        return torch.cat(
            [
                merged(torch.stack([checkpoint(part, u, v, i, j, use_reentrant=False) for j, v in columns]))  # pyright: ignore
                for i, u in strips
            ]
        )


def _without_pairs(s: Tensor, i: slice, j: slice) -> Tensor:
    """Scores with −inf where row and column are of one pair."""
    rows = torch.arange(i.start, i.stop, device=s.device)[:, None]
    return s.masked_fill(rows == torch.arange(j.start, j.stop, device=s.device), -torch.inf)
