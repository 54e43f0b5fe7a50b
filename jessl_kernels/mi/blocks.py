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

from .._checks import accumulation_dtype
from ..literals import Negatives, PsiName
from ..problem.phi import Phi
from ..problem.psi import PSIS
from .scores import Scores

Block = Callable[[Tensor, Tensor], Tensor]  # (n, …), (m, …) → (n, m)


@dataclass
class BlockScores(Scores):
    """block(u_i, v_j) of blocks of rows of u and v.

    u, v   (N, …), with a graph to x and y where they have one
    block  scores (n, m) of n rows of u and m rows of v, each pair's by itself: of a dropout or a batch norm no two sums agree
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
        return _wide(self.pairs(self.u, self.v))

    def at(self, columns: Tensor) -> Tensor:
        return _wide(self.pairs(self.u, self.v[columns]))

    def largest(self) -> Tensor:
        def best(u: Tensor, v: Tensor, i: slice, j: slice) -> Tensor:
            value, column = self._negatives(self._score(u, v), i, j).max(dim=1)
            return torch.stack([value, (column + j.start).to(value.dtype)])

        def merged(parts: Tensor) -> Tensor:
            return parts[:, 1].gather(0, parts[:, 0].argmax(dim=0, keepdim=True))[0]

        with torch.no_grad():
            return self._over(best, merged).long()

    def cross_entropy(self) -> Tensor:
        every = self._over(lambda u, v, i, j: self._score(u, v).logsumexp(dim=1), _logsumexp)
        return (every - self.positives()).mean()

    def rows(self, without: Tensor | None = None) -> Tensor:
        def part(u: Tensor, v: Tensor, i: slice, j: slice) -> Tensor:
            return self._negatives(self._score(u, v), i, j, without).logsumexp(dim=1)

        return self._over(part, _logsumexp)

    def total(self, col_bias: Tensor | None = None, clamp: Phi | None = None) -> Tensor:
        def part(u: Tensor, v: Tensor, i: slice, j: slice) -> Tensor:
            s = self._score(u, v)
            s = s if clamp is None else s.clamp(*clamp.parameters)
            s = s if col_bias is None else s + col_bias[j]
            return self._negatives(s, i, j).logsumexp(dim=1)

        return self._over(part, _logsumexp).logsumexp(dim=0)

    def sums(self, psi: PsiName, row_bias: Tensor | None = None, without: Tensor | None = None) -> Tensor:
        def part(u: Tensor, v: Tensor, i: slice, j: slice) -> Tensor:
            s = self._score(u, v)
            s = s if row_bias is None else s + row_bias[i, None]
            return PSIS[psi].value(self._negatives(s, i, j, without)).sum(dim=1)

        return self._over(part, lambda parts: parts.sum(dim=0))

    def _score(self, u: Tensor, v: Tensor) -> Tensor:
        return _wide(self.block(u, v))

    def _negatives(self, s: Tensor, i: slice, j: slice, without: Tensor | None = None) -> Tensor:
        """A block's scores with −inf where a pair is no negative, or is left out."""
        columns = torch.arange(j.start, j.stop, device=s.device)
        if self.negatives == "others":
            s = s.masked_fill(torch.arange(i.start, i.stop, device=s.device)[:, None] == columns, -torch.inf)
        return s if without is None else s.masked_fill(without[i, None] == columns, -torch.inf)

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


def _logsumexp(parts: Tensor) -> Tensor:
    return parts.logsumexp(dim=0)


def _wide(s: Tensor) -> Tensor:
    """Sums of bf16 scores are in fp32."""
    return s.to(accumulation_dtype(s.dtype))
