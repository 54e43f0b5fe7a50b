"""What every reduction reduces: a score per pair that is never stored, s_ij = φ(u_ij) + r_i + c_j.

    dot      u_ij = α⟨x_i, y_j⟩
    sqdist   u_ij = −α‖x_i − y_j‖²

Backends receive a `Score`, and compute any block of it they like.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .._checks import accumulation_dtype
from . import phi as phi_module
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


def joined(x: Tensor, y: Tensor | None, rest: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """x and y, the `rest` of the keys put behind them."""
    if rest is None:
        return x, y
    return (torch.cat([x, rest]), None) if y is None else (x, torch.cat([y, rest]))
