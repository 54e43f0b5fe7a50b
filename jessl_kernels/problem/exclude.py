"""Which pairs a reduction leaves out: diagonals and ids, in O(N + M) memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .._checks import fail, wrong_type

IdPair = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Exclude:
    """Pairs (i, j) to leave out of a pairwise reduction.

    diagonals  ints; a pair is out if j − i is one of them
    same       (row_ids, col_ids); a pair is out if row_ids[i] == col_ids[j]
    different  (row_ids, col_ids); a pair is out if row_ids[i] != col_ids[j]
    keep       ints; a pair whose j − i is one of them is in, whatever the ids say (and whatever `diagonals` says)

    Ids are int64 tensors of shape (N,) and (M,). A negative id matches nothing, itself included: under `same` it
    excludes no pair, under `different` it excludes all of them, which is how padding rows are taken out.

    >>> views = jk.Exclude(diagonals=(0, n, -n))           # SimCLR: neither the row itself nor its other view
    >>> captions = jk.Exclude(same=(ids, ids), keep=(0,))  # equal captions are no negatives of each other
    """

    diagonals: tuple[int, ...] = ()
    same: IdPair | None = None
    different: IdPair | None = None
    keep: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("diagonals", "keep"):
            object.__setattr__(self, name, _ints(name, getattr(self, name)))
        for name in ("same", "different"):
            object.__setattr__(self, name, _ids(name, getattr(self, name)))

    @property
    def symmetric(self) -> bool:
        """Whether (i, j) is out exactly when (j, i) is, as far as that can be told without reading the ids."""
        offsets_mirror = all(set(d) == {-k for k in d} for d in (self.diagonals, self.keep))
        return offsets_mirror and all(pair is None or _one_tensor(*pair) for pair in (self.same, self.different))

    def transposed(self) -> Exclude:
        """The same set for the scores with rows and columns exchanged."""

        def swapped(pair: IdPair | None) -> IdPair | None:
            return None if pair is None else (pair[1], pair[0])

        offsets, kept = (tuple(-d for d in offsets) for offsets in (self.diagonals, self.keep))
        return Exclude(offsets, swapped(self.same), swapped(self.different), kept)

    def fill(self, scores: Tensor, first_row: int, columns: slice, value: float) -> None:
        """Write `value` into the excluded entries of a block of scores, in place.

        scores     (B, C), the rows first_row … first_row + B − 1 and the given columns of the whole score matrix
        """
        shift = first_row - columns.start
        kept = [(d, torch.diagonal(scores, d + shift).clone()) for d in self.keep]
        for d in self.diagonals:
            torch.diagonal(scores, d + shift).fill_(value)
        rows = slice(first_row, first_row + scores.shape[0])
        for pair, matches in ((self.same, torch.eq), (self.different, torch.ne)):
            if pair is not None:
                row_ids, col_ids = _disjoint_padding(pair[0][rows], pair[1][columns])
                scores.masked_fill_(matches(row_ids[:, None], col_ids[None, :]), value)
        for d, original in kept:
            torch.diagonal(scores, d + shift).copy_(original)

    def has_sorted_classes(self) -> bool:
        """Whether `different` holds ascending ids, so that each row can only meet one contiguous range of columns.

        Reads the ids, so it is for CPU tensors.
        """
        return (
            self.different is not None and not self.keep and all(bool((d[1:] >= d[:-1]).all()) for d in self.different)
        )

    def columns_in_reach(self, first_row: int, end_row: int) -> slice:
        """With sorted classes, the columns outside of which every pair of these rows is out."""
        assert self.different is not None
        row_ids, col_ids = self.different
        low = torch.searchsorted(col_ids, row_ids[first_row], side="left")
        high = torch.searchsorted(col_ids, row_ids[end_row - 1], side="right")
        return slice(int(low), int(high))


def as_exclude(function: str, exclude: Exclude | str | None, N: int, M: int, device: torch.device) -> Exclude:
    """The `exclude` argument of a reduction, checked against the shape of its scores."""
    if exclude is None:
        return NOTHING
    if exclude == "diagonal":
        return DIAGONAL
    if not isinstance(exclude, Exclude):
        wrong_type(function, "exclude", exclude, 'must be a jk.Exclude, "diagonal" or None')
    for name in ("same", "different"):
        for ids, length, side in zip(getattr(exclude, name) or (), (N, M), ("row", "column"), strict=False):
            if ids.shape != (length,):
                fail(
                    function,
                    f"exclude.{name}",
                    f"{tuple(ids.shape)} {side} ids",
                    f"must be ({length},), one per {side}",
                )
            if ids.device != device:
                fail(function, f"exclude.{name}", f"on {ids.device}", f"must be on {device} like x")
    return exclude


def _one_tensor(a: Tensor, b: Tensor) -> bool:
    # Operators hand over ids as separate objects, so that the same tensor is told by its memory.
    return a is b or (a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride())


def _disjoint_padding(row_ids: Tensor, col_ids: Tensor) -> IdPair:
    # Negative ids become −1 among rows and −2 among columns, so that plain (in)equality never matches them.
    return row_ids.clamp_min(-1), torch.where(col_ids < 0, -2, col_ids)


def _ints(name: str, values: int | Iterable[int]) -> tuple[int, ...]:
    if not isinstance(values, Iterable):
        values = (values,)
    values = tuple(values)
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool):
            wrong_type("Exclude", name, value, "must hold ints, the values of j − i")
    return values


def _ids(name: str, pair: IdPair | None) -> IdPair | None:
    if pair is None:
        return None
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(isinstance(ids, Tensor) for ids in pair):
        wrong_type("Exclude", name, pair, "must be a pair of tensors (row_ids, col_ids)")
    for ids in pair:
        if ids.dtype != torch.int64:
            wrong_type("Exclude", name, ids.dtype, "must hold int64 ids (ids.long())")
        if ids.dim() != 1:
            fail(
                "Exclude", name, f"of shape {tuple(ids.shape)}", "must hold two one-dimensional tensors, (N,) and (M,)"
            )
    return (pair[0], pair[1])


NOTHING = Exclude()
DIAGONAL = Exclude(diagonals=(0,))
