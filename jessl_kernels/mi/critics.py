"""Critics: modules that give each pair (x_i, y_j) of a batch a score, whose sums bounds are made of.

The first three are products of embeddings and cost matrix products alone. `Joint` and a module of one's own see both at once
and are evaluated block by block.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .._checks import FLOATS, fail, integer, wrong_type
from .blocks import BlockScores
from .scores import DotScores, Scores

BLOCK_BYTES = 8 << 20  # of what a block's graph keeps, estimated: larger ones leave the caches, smaller ones are many
UNKNOWN_WIDTH = 1024  # numbers that a module of one's own is taken to keep for each pair
FEW = 32  # rows of the blocks of which only the diagonal, the pairs themselves, is wanted


class Critic(nn.Module):
    """A critic f(x_i, y_j). `forward(x, y)` gives the scores of a batch of pairs as a `Scores`, which makes no N×N of them."""

    def forward(self, x: Tensor, y: Tensor) -> Scores:
        raise NotImplementedError


class InnerProduct(Critic):
    """⟨x_i, y_j⟩ · scale; x and y have the same dimensions.

    scale  float, or a parameter of the module with learnable=True
    """

    def __init__(self, scale: float = 1.0, *, learnable: bool = False):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(float(scale))) if learnable else float(scale)

    def forward(self, x: Tensor, y: Tensor) -> Scores:
        if x.shape[1] != y.shape[1]:
            must = f"must be (…, {x.shape[1]}) like x; a bilinear, separable or joint critic takes other dimensions"
            fail("InnerProduct", "y", f"of shape {tuple(y.shape)}", must)
        return DotScores(x, y, self.scale)


class Bilinear(Critic):
    """x_iᵀ W y_j, with W (D_x, D_y) learnable."""

    def __init__(self, x_dim: int, y_dim: int):
        super().__init__()
        self.map = nn.Linear(x_dim, y_dim, bias=False)

    def forward(self, x: Tensor, y: Tensor) -> Scores:
        return DotScores(self.map(x), y)


class Separable(Critic):
    """⟨g(x_i), h(y_j)⟩ of two MLPs.

    dim     of the embeddings that are multiplied
    hidden  widths of the hidden layers
    """

    def __init__(self, x_dim: int, y_dim: int, *, dim: int = 32, hidden: Sequence[int] = (256, 256)):
        super().__init__()
        self.g, self.h = mlp(x_dim, hidden, dim), mlp(y_dim, hidden, dim)

    def forward(self, x: Tensor, y: Tensor) -> Scores:
        return DotScores(self.g(x), self.h(y))


class Joint(Critic):
    """An MLP on [x_i, y_j]. Its first layer is A x + B y, made once for each row; the rest is made for each block of pairs.

    hidden  widths of the hidden layers
    """

    def __init__(self, x_dim: int, y_dim: int, *, hidden: Sequence[int] = (256, 256)):
        super().__init__()
        if isinstance(hidden, int) or not hidden:
            wrong_type(
                "Joint", "hidden", hidden, "must have at least one width: without a layer no score depends on both"
            )
        self.of_x, self.of_y = nn.Linear(x_dim, hidden[0]), nn.Linear(y_dim, hidden[0], bias=False)
        self.rest = nn.Sequential(nn.ReLU(), mlp(hidden[0], hidden[1:], 1))
        self.width = 2 * sum(hidden)  # of what a pair's graph keeps

    def forward(self, x: Tensor, y: Tensor) -> Scores:
        u, v = self.of_x(x), self.of_y(y)
        most = max(4, BLOCK_BYTES // (self.width * u.element_size()))
        return BlockScores(u, v, self._block, lambda u, v: self.rest(u + v)[:, 0], most)

    def _block(self, u: Tensor, v: Tensor) -> Tensor:
        return self.rest(u[:, None] + v[None])[..., 0]


class OfBlocks(Critic):
    """Any f(x_block, y_block) → scores (n, m), a function or a module, evaluated block by block.

    f     the score of a pair must not depend on the rest of its block: without dropout and batch normalisation, which would give
          each sum other scores
    most  pairs of a block, by which its memory is bounded, at least 4
    """

    def __init__(self, f: Callable[[Tensor, Tensor], Tensor], most: int = BLOCK_BYTES // (4 * UNKNOWN_WIDTH)):
        super().__init__()
        if integer("OfBlocks", "most", most) < 4:
            fail("OfBlocks", "most", most, "must be at least 4: blocks of two rows and two columns")
        self.f, self.most = f, most

    def forward(self, x: Tensor, y: Tensor) -> Scores:
        return BlockScores(x, y, self._block, self._pairs, self.most)

    def _pairs(self, x: Tensor, y: Tensor) -> Tensor:
        few = max(1, min(FEW, math.isqrt(self.most)))

        def diagonal(x: Tensor, y: Tensor) -> Tensor:
            return self._block(x, y).diagonal()

        blocks = zip(x.split(few), y.split(few), strict=True)
        return torch.cat([checkpoint(diagonal, a, b, use_reentrant=False) for a, b in blocks])  # pyright: ignore

    def _block(self, x: Tensor, y: Tensor) -> Tensor:
        s = self.f(x, y)
        if not isinstance(s, Tensor) or s.dtype not in FLOATS:
            wrong_type("critic", "f(x, y)", s, "must be a float tensor of scores (n, m)")
        if s.shape != (len(x), len(y)):
            must = f"must be ({len(x)}, {len(y)}): the scores of all pairs of the block"
            fail("critic", "f(x, y)", f"of shape {tuple(s.shape)}", must)
        return s


def mlp(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    if isinstance(hidden, int) or not all(isinstance(width, int) and width > 0 for width in hidden):
        wrong_type("critic", "hidden", hidden, "must be a sequence of widths, ints above 0")
    widths = [inputs, *hidden, outputs]
    layers: list[nn.Module] = []
    for n, m in itertools.pairwise(widths):
        layers += [nn.Linear(n, m), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
