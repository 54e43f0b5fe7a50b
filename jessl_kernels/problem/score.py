"""The score of each pair, which is never stored: s_ij = φ(u_ij) + r_i + c_j.

    dot      u_ij = α⟨x_i, y_j⟩
    sqdist   u_ij = −α‖x_i − y_j‖²

Backends receive a `Score`, and compute any block of it they like.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .._checks import accumulation_dtype
from .exclude import Exclude, IdPair, fill_by_ids, one_tensor
from .phi import Phi


class OfEmbeddings:
    """Properties of a problem that depend on its embeddings and its scale."""

    scale: float | Tensor

    @property
    def first(self) -> Tensor:
        """X, or its first piece."""
        raise NotImplementedError

    @property
    def N(self) -> int:
        raise NotImplementedError

    @property
    def M(self) -> int:
        raise NotImplementedError

    @property
    def D(self) -> int:
        return self.first.shape[1]

    @property
    def device(self) -> torch.device:
        return self.first.device

    @property
    def input_dtype(self) -> torch.dtype:
        """The dtype of the embeddings."""
        return self.first.dtype

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which scores, sums and gradients are computed."""
        return accumulation_dtype(self.first.dtype)

    @property
    def scale_dtype(self) -> torch.dtype:
        """The dtype in which the gradient of the scale is summed: that of sums, or fp64 if the scale is fp64."""
        wide = isinstance(self.scale, Tensor) and self.scale.dtype == torch.float64
        return torch.float64 if wide else self.dtype

    @property
    def scale_number(self) -> float:
        """α on the host. Reads a tensor, so it is for CPU tensors."""
        return float(self.scale.detach()) if isinstance(self.scale, Tensor) else self.scale


@dataclass(frozen=True, eq=False)
class Score(OfEmbeddings):
    """The scores of one reduction, unstored.

    x          (N, D) float tensor
    y          (M, D), or None where y is x
    scale      α, a number or a 0-d tensor
    row_bias   (N,) r, or None; col_bias (M,) c, or None; of the accumulation dtype
    skip_below ε: the share of a row's (and column's) Σ e^s that a backend may leave out; 0 for none
    without    ids like those of `exclude.same`, or None: such pairs are excluded even if `exclude` keeps them (positives)
    within     ids, or None: all pairs of unequal ids are excluded
    """

    x: Tensor
    y: Tensor | None
    scale: float | Tensor
    row_bias: Tensor | None
    col_bias: Tensor | None
    exclude: Exclude
    kind: str
    phi: Phi
    skip_below: float = 0.0
    without: IdPair | None = None
    within: IdPair | None = None

    @property
    def first(self) -> Tensor:
        return self.x

    @property
    def keys(self) -> Tensor:
        """Y, which is x itself in a problem of x with itself."""
        return self.x if self.y is None else self.y

    @property
    def N(self) -> int:
        return self.x.shape[0]

    @property
    def M(self) -> int:
        return self.keys.shape[0]

    @property
    def symmetric(self) -> bool:
        """Whether s_ij = s_ji, as far as this is known without reading the ids."""
        plain = self.y is None and self.row_bias is None and self.col_bias is None and self.exclude.symmetric
        return plain and all(pair is None or one_tensor(*pair) for pair in (self.without, self.within))

    def transposed(self) -> Score:
        """The scores s_ji, as a problem of its own."""

        def swapped(pair: IdPair | None) -> IdPair | None:
            return None if pair is None else (pair[1], pair[0])

        return replace(
            self,
            x=self.keys,
            y=None if self.y is None else self.x,
            row_bias=self.col_bias,
            col_bias=self.row_bias,
            exclude=self.exclude.transposed(),
            without=swapped(self.without),
            within=swapped(self.within),
        )

    def finish(self, u: Tensor, first_row: int, columns: slice) -> Tensor:
        """The scores of a block whose u is given, in place: φ, biases, exclusion."""
        s = self.phi(u)
        if self.row_bias is not None:
            s += self.row_bias[first_row : first_row + s.shape[0], None]
        if self.col_bias is not None:
            s += self.col_bias[None, columns]
        self.leave_out(s, first_row, columns)
        return s

    def leave_out(self, s: Tensor, first_row: int, columns: slice) -> None:
        """Write −inf into the entries of a block of scores whose pairs are excluded."""
        self.exclude.fill(s, first_row, columns, -torch.inf)
        for pair, inside in ((self.without, False), (self.within, True)):
            if pair is not None:
                fill_by_ids(s, pair, first_row, columns, -torch.inf, inside=inside)

    def has_sorted_classes(self) -> bool:
        """Whether `within` holds ascending ids, so that the pairs of each row lie in one contiguous range of columns.

        It reads the ids, so it is for CPU tensors.
        """
        return self.within is not None and all(bool((ids[1:] >= ids[:-1]).all()) for ids in self.within)

    def columns_in_reach(self, first_row: int, end_row: int) -> slice:
        """With sorted classes, the columns outside of which every pair of these rows is excluded."""
        assert self.within is not None
        row_ids, col_ids = self.within
        low = torch.searchsorted(col_ids, row_ids[first_row], side="left")
        high = torch.searchsorted(col_ids, row_ids[end_row - 1], side="right")
        return slice(int(low), int(high))
