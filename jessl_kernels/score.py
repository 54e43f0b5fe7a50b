"""What every reduction reduces: a score per pair that is never stored, s_ij = φ(u_ij) + r_i + c_j.

    dot      u_ij = α⟨x_i, y_j⟩
    sqdist   u_ij = −α‖x_i − y_j‖²

Backends receive a `Score`, and compute any block of it they like.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from . import phi as phi_module
from ._checks import accumulation_dtype
from .exclude import Exclude
from .phi import Phi

KINDS = ("dot", "sqdist")

# The arguments of a Score as an operator schema spells them, in the order of `Score.flatten`.
SCHEMA = (
    "Tensor x, Tensor? y, Tensor scale, Tensor? row_bias, Tensor? col_bias, "
    "Tensor? same_rows, Tensor? same_cols, Tensor? different_rows, Tensor? different_cols, "
    "int[] diagonals, int[] keep, str kind, str phi, float[] phi_parameters, float skip_below"
)
TENSORS = 9  # how many of them are tensors, all in front
FLAT = 15  # how many there are


@dataclass(frozen=True, eq=False)
class Score:
    """The scores of one reduction, unstored.

    x          (N, D) float tensor
    y          (M, D), or None where y is x
    scale      0-d fp64 tensor α
    row_bias   (N,) r, or None; col_bias (M,) c, or None; of the accumulation dtype
    skip_below ε: what a backend may leave out of a row's (and column's) Σ e^s, as a share of it; 0 for nothing
    rest       further rows of Y, which follow those of y, or of x where y is None; None for none. Only backends that compute
               `paired` are handed a batch in two pieces, and only real tensors: see `in_one_piece`
    """

    x: Tensor
    y: Tensor | None
    scale: Tensor
    row_bias: Tensor | None
    col_bias: Tensor | None
    exclude: Exclude
    kind: str
    phi: Phi
    skip_below: float = 0.0
    rest: Tensor | None = None

    @property
    def keys(self) -> Tensor:
        """Y, which is x itself in a symmetric problem; without its `rest`."""
        return self.x if self.y is None else self.y

    @property
    def N(self) -> int:
        return self.M if self.y is None else self.x.shape[0]

    @property
    def M(self) -> int:
        return self.keys.shape[0] + (0 if self.rest is None else self.rest.shape[0])

    @property
    def D(self) -> int:
        return self.x.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of scores, sums and gradients while they are made."""
        return accumulation_dtype(self.x.dtype)

    @property
    def symmetric(self) -> bool:
        """Whether s_ij = s_ji, as far as that can be told without reading the ids."""
        return self.y is None and self.row_bias is None and self.col_bias is None and self.exclude.symmetric

    def transposed(self) -> Score:
        """The scores s_ji, as a problem of its own."""
        assert self.rest is None  # it would be rows of x
        x, y = self.keys, None if self.y is None else self.x
        exclude = self.exclude.transposed()
        return replace(self, x=x, y=y, row_bias=self.col_bias, col_bias=self.row_bias, exclude=exclude)

    def in_one_piece(self) -> Score:
        """The same scores, of a copy of the batch that is in two pieces."""
        x, y = joined(self.x, self.y, self.rest)
        return replace(self, x=x, y=y, rest=None)

    def finish(self, u: Tensor, first_row: int, columns: slice) -> Tensor:
        """The scores of a block whose u is given, in place: φ, biases, exclusion."""
        s = self.phi(u)
        if self.row_bias is not None:
            s += self.row_bias[first_row : first_row + s.shape[0], None]
        if self.col_bias is not None:
            s += self.col_bias[None, columns]
        self.exclude.fill(s, first_row, columns, -torch.inf)
        return s

    def flatten(self) -> tuple:
        """The arguments of `SCHEMA`, which knows no batch in two pieces."""
        assert self.rest is None
        same, different = self.exclude.same or (None, None), self.exclude.different or (None, None)
        tensors = (self.x, self.y, self.scale, self.row_bias, self.col_bias, *same, *different)
        words = (
            list(self.exclude.diagonals),
            list(self.exclude.keep),
            self.kind,
            self.phi.name,
            list(self.phi.parameters),
            self.skip_below,
        )
        return (*tensors, *words)

    @staticmethod
    def unflatten(flat: tuple) -> Score:
        x, y, scale, row_bias, col_bias, same_rows, same_cols, different_rows, different_cols, *words = flat
        diagonals, keep, kind, phi_name, phi_parameters, skip_below = words
        same = None if same_rows is None else (same_rows, same_cols)
        different = None if different_rows is None else (different_rows, different_cols)
        exclude = Exclude(tuple(diagonals), same, different, tuple(keep))
        phi = phi_module.build(phi_name, phi_parameters)
        return Score(x, y, scale, row_bias, col_bias, exclude, kind, phi, skip_below)


@dataclass
class Gradients:
    """Gradients of one reduction, each an empty tensor where nobody asked for it.

    x, y, row_bias, col_bias   like the score's, in its accumulation dtype; where y is x, x holds both halves. A batch in two
                               pieces has one gradient
    scale                      0-d, fp64
    """

    x: Tensor
    y: Tensor
    scale: Tensor
    row_bias: Tensor
    col_bias: Tensor

    @staticmethod
    def empty(score: Score, needs: Needs) -> Gradients:
        """To be written to."""

        def new(needed: bool, shape: tuple[int, ...], dtype: torch.dtype = score.dtype) -> Tensor:
            return score.x.new_empty(shape if needed else 0, dtype=dtype)

        return Gradients(
            new(needs.x, (score.N, score.D)),
            new(needs.y and score.y is not None, (score.M, score.D)),
            new(needs.scale, (), torch.float64),
            new(needs.row_bias, (score.N,)),
            new(needs.col_bias, (score.M,)),
        )

    @staticmethod
    def zeros(score: Score, needs: Needs) -> Gradients:
        """To be added to."""
        made = Gradients.empty(score, needs)
        for gradient in made.flatten():
            gradient.zero_()
        return made

    def flatten(self) -> tuple[Tensor, ...]:
        return (self.x, self.y, self.scale, self.row_bias, self.col_bias)

    def in_pieces(self, score: Score) -> tuple[Tensor, ...]:
        """As `flatten`, and the gradient of the score's `rest` if it has one: views, no copies."""
        if score.rest is None:
            return self.flatten()
        whole, split = self.x if score.y is None else self.y, len(score.keys)
        # By way of `.data` each counts its own versions: who writes to one gradient does not spoil the other for autograd.
        first, rest = whole.data[:split], whole.data[split:]
        x, y = (first, self.y) if score.y is None else (self.x, first)
        return (x, y, self.scale, self.row_bias, self.col_bias, rest)


@dataclass(frozen=True)
class Needs:
    """Which gradients somebody will use."""

    x: bool
    y: bool
    scale: bool
    row_bias: bool
    col_bias: bool

    def flatten(self) -> list[bool]:
        return [self.x, self.y, self.scale, self.row_bias, self.col_bias]


def joined(x: Tensor, y: Tensor | None, rest: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """x and y, the `rest` of the keys put behind them."""
    if rest is None:
        return x, y
    return (torch.cat([x, rest]), None) if y is None else (x, torch.cat([y, rest]))


def squared_distances(x: Tensor, y: Tensor, out: Tensor) -> Tensor:
    """‖x_i − y_j‖² by differences, into a block (B, C): exact however small against the spread, at 2D passes over the block."""
    out.zero_()
    for x_d, y_d in _dimensions(x, y, out.dtype):
        out += torch.sub(x_d[:, None], y_d[None, :]).square_()
    return out


def pull(weights: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_j w_ij (y_j − x_i), (B, D), and Σ_i w_ij (x_i − y_j), (C, D), by differences, one dimension at a time."""
    toward_y, toward_x = weights.new_empty(x.shape), weights.new_empty(y.shape)
    for d, (x_d, y_d) in enumerate(_dimensions(x, y, weights.dtype)):
        product = torch.sub(y_d[None, :], x_d[:, None]).mul_(weights)
        toward_y[:, d] = product.sum(dim=1)
        toward_x[:, d] = -product.sum(dim=0)
    return toward_y, toward_x


def _dimensions(x: Tensor, y: Tensor, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    for d in range(x.shape[1]):
        yield x[:, d].to(dtype), y[:, d].to(dtype)
