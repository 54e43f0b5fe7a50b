"""The pairs that a reduction excludes: by diagonals and ids, in O(N + M) memory, and by the scores of a guide."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from .._checks import fail, integer, wrong_type

IdPair = tuple[Tensor, Tensor]
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
MOST_PAIRS = 3  # pairs of ids: for the row itself, for its label, and for rows that must not count as negatives


class Guide(NamedTuple):
    """A second score of each pair, ⟨g_i, h_j⟩; a pair is excluded if it lies above a threshold of its row, or of its column.

    rows, cols          (N, G), (M, G): g, h, constants
    of_rows, of_cols    (N,), (M,): thresholds, or None
    """

    rows: Tensor
    cols: Tensor
    of_rows: Tensor | None = None
    of_cols: Tensor | None = None

    def transposed(self) -> Guide:
        return Guide(self.cols, self.rows, self.of_cols, self.of_rows)

    def fill(self, scores: Tensor, first_row: int, columns: slice, value: float) -> None:
        """As `Exclude.fill`."""
        here = slice(first_row, first_row + scores.shape[0])
        g, h = (z.detach().to(scores.dtype) for z in (self.rows[here], self.cols[columns]))
        guided = g @ h.T
        if self.of_rows is not None:
            scores.masked_fill_(guided > self.of_rows[here, None], value)
        if self.of_cols is not None:
            scores.masked_fill_(guided > self.of_cols[None, columns], value)


@dataclass(frozen=True, eq=False)
class Exclude:
    """Pairs (i, j) to leave out of a pairwise reduction.

    diagonals  ints; a pair is excluded if j − i is one of them
    same       (row_ids, col_ids), or several such pairs; a pair is excluded if row_ids[i] == col_ids[j] by any of them
    different  (row_ids, col_ids), or several; a pair is excluded if row_ids[i] != col_ids[j] by any of them
    keep       ints; a pair whose j − i is one of them is included, whatever the ids, a guide or `diagonals` say
    guide      (g, h, threshold), float tensors (N, G), (M, G) and (N,), constants for autograd: a pair is excluded if
               ⟨g_i, h_j⟩ > threshold_i. With the scores of another model these pairs are false negatives (GISTEmbed, arXiv
               2402.16829). If a threshold is such a score itself, leave room for rounding. A guide costs a product in each
               sweep; only "chunked" and "reference" compute it

    Ids are int64 tensors of shape (N,) and (M,), up to three pairs of them. A negative id matches nothing, itself included:
    under `same` it excludes no pair, under `different` it excludes all of them. So padding rows can be excluded.

    Diagonals count from the first given row and column. If rows are one process's share of the columns, or a part of them, use
    ids instead. A sum with an `anchor` counts that score itself, so its pair must be excluded, not kept; `row_loss` leaves its
    positives out of the negatives by itself, even kept ones.

    >>> views = jk.Exclude(diagonals=(0, n, -n))           # SimCLR: neither the row itself nor its other view
    >>> captions = jk.Exclude(same=(ids, ids))             # equal captions, the row's own too, are no negatives of each other
    """

    diagonals: tuple[int, ...] = ()
    same: tuple[IdPair, ...] = ()
    different: tuple[IdPair, ...] = ()
    keep: tuple[int, ...] = ()
    guide: Guide | None = None

    if TYPE_CHECKING:  # the accepted arguments; the fields are tuples afterwards

        def __init__(
            self,
            diagonals: int | Iterable[int] = (),
            same: IdPair | Iterable[IdPair] | None = None,
            different: IdPair | Iterable[IdPair] | None = None,
            keep: int | Iterable[int] = (),
            guide: Guide | tuple[Tensor, Tensor, Tensor] | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        for name in ("diagonals", "keep"):
            object.__setattr__(self, name, _ints(name, getattr(self, name)))
        for name in ("same", "different"):
            object.__setattr__(self, name, _ids(name, getattr(self, name)))
        object.__setattr__(self, "guide", _guide(self.guide))

    @property
    def symmetric(self) -> bool:
        """Whether (i, j) is excluded exactly when (j, i) is, as far as this is known without reading the ids."""
        offsets_mirror = all(set(d) == {-k for k in d} for d in (self.diagonals, self.keep))
        return (
            offsets_mirror and self.guide is None and all(one_tensor(*pair) for pair in (*self.same, *self.different))
        )

    def transposed(self) -> Exclude:
        """The same set for the scores with rows and columns exchanged."""

        offsets, kept = (tuple(-d for d in offsets) for offsets in (self.diagonals, self.keep))
        same, different = (tuple((cols, rows) for rows, cols in pairs) for pairs in (self.same, self.different))
        return Exclude(offsets, same, different, kept, None if self.guide is None else self.guide.transposed())

    def fill(self, scores: Tensor, first_row: int, columns: slice, value: float) -> None:
        """Write `value` into the excluded entries of a block of scores, in place.

        scores     (B, C), the rows first_row … first_row + B − 1 and the given columns of the whole score matrix
        """
        shift = first_row - columns.start
        kept = [(d, torch.diagonal(scores, d + shift).clone()) for d in self.keep]
        for d in self.diagonals:
            torch.diagonal(scores, d + shift).fill_(value)
        for pairs, inside in ((self.same, False), (self.different, True)):
            for pair in pairs:
                fill_by_ids(scores, pair, first_row, columns, value, inside=inside)
        if self.guide is not None:
            self.guide.fill(scores, first_row, columns, value)
        for d, original in kept:
            torch.diagonal(scores, d + shift).copy_(original)


def fill_by_ids(scores: Tensor, pair: IdPair, first_row: int, columns: slice, value: float, *, inside: bool) -> None:
    """Write `value` where the ids of a block's rows and columns are equal; with `inside`, where they differ."""
    # Negative ids become −1 among rows and −2 among columns, so that plain (in)equality never matches them.
    row_ids = pair[0][first_row : first_row + scores.shape[0]].clamp_min(-1)
    col_ids = pair[1][columns]
    col_ids = torch.where(col_ids < 0, -2, col_ids)
    out = (torch.ne if inside else torch.eq)(row_ids[:, None], col_ids[None, :])
    scores.masked_fill_(out, value)


def as_exclude(function: str, exclude: Exclude | str | None, N: int, M: int, device: torch.device) -> Exclude:
    """The `exclude` argument of a reduction, checked against the shape of its scores."""
    if exclude is None:
        return NOTHING
    if exclude == "diagonal":
        return DIAGONAL
    if not isinstance(exclude, Exclude):
        must = 'must be a jk.Exclude, "diagonal" or None'
        if isinstance(exclude, str):
            fail(function, "exclude", repr(exclude), must)
        wrong_type(function, "exclude", exclude, must)
    if (count := len(exclude.same) + len(exclude.different)) > MOST_PAIRS:
        fail(
            function,
            "exclude",
            f"of {count} pairs of ids",
            f"must have at most {MOST_PAIRS}, same and different together",
        )
    for name in ("same", "different"):
        sides = [
            (ids, side) for pair in getattr(exclude, name) for ids, side in zip(pair, ("row", "column"), strict=True)
        ]
        for ids, side in sides:
            length = N if side == "row" else M
            if ids.shape != (length,):
                fail(
                    function,
                    f"exclude.{name}",
                    f"{tuple(ids.shape)} {side} ids",
                    f"must be ({length},), one per {side}",
                )
            if ids.device != device:
                fail(function, f"exclude.{name}", f"on {ids.device}", f"must be on {device} like x")
    for t, length, of in zip(exclude.guide or (), (N, M, N, M), ("row", "column") * 2, strict=False):
        if t is not None and t.shape[0] != length:
            fail(function, "exclude.guide", f"of {t.shape[0]} {of}s", f"must be of {length}")
        if t is not None and t.device != device:
            fail(function, "exclude.guide", f"on {t.device}", f"must be on {device} like x")
    return exclude


def one_tensor(a: Tensor, b: Tensor) -> bool:
    """Whether these are the same ids, without reading them."""
    # Operators pass ids as separate objects, so equal tensors are recognized by their memory. A tensor without memory, as in a
    # trace, is recognized by its identity alone.
    if a is b:
        return True
    if torch.compiler.is_compiling() or type(a) is not Tensor or a.is_meta:
        return False
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride()


def _ints(name: str, values: int | Iterable[int]) -> tuple[int, ...]:
    if not isinstance(values, Iterable):
        values = (values,)
    values = tuple(integer("Exclude", name, value, "must hold ints, the values of j − i") for value in values)
    for value in values:
        if abs(value) >= 2**62:
            fail("Exclude", name, f"an int of {value.bit_length()} bits", "must hold ints below 2**62")
    return values


def _ids(name: str, pairs: Any) -> tuple[IdPair, ...]:
    if pairs is None:
        return ()
    if _is_pair(pairs):
        pairs = (pairs,)
    if not isinstance(pairs, (tuple, list)) or not all(_is_pair(pair) for pair in pairs):
        wrong_type("Exclude", name, pairs, "must be a pair of tensors (row_ids, col_ids), or several such pairs")
    return tuple(pair_of("Exclude", name, rows, cols) for rows, cols in pairs)


def _guide(guide: Any) -> Guide | None:
    if guide is None or isinstance(guide, Guide):
        return guide
    must = "must be (g, h, threshold), float tensors of shapes (N, G), (M, G) and (N,)"
    if not isinstance(guide, (tuple, list)) or not all(isinstance(t, Tensor) and t.is_floating_point() for t in guide):
        wrong_type("Exclude", "guide", guide, must)
    shapes = [tuple(t.shape) for t in guide]
    if [len(shape) for shape in shapes] != [2, 2, 1] or shapes[0][1] != shapes[1][1] or shapes[0][0] != shapes[2][0]:
        fail("Exclude", "guide", f"of shapes {', '.join(map(str, shapes))}", must)
    g, h, threshold = (t.detach() for t in guide)
    return Guide(g, h, threshold)


def _is_pair(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(ids, Tensor) for ids in value)


def pair_of(function: str, name: str, rows: Tensor, cols: Tensor) -> IdPair:
    """Ids of both sides; a single tensor for both stays a single tensor."""
    row_ids = ids_of(function, name, rows)
    return row_ids, row_ids if cols is rows else ids_of(function, name, cols)


def ids_of(function: str, name: str, ids: Any) -> Tensor:
    """Ids as int64 in one dimension, from integers of any width, in one dimension or in a column."""
    if not isinstance(ids, Tensor) or ids.dtype not in INTEGERS:
        wrong_type(function, name, ids, "must be a tensor of integers: int64, int32, int16, int8 or uint8")
    if ids.dim() != 1:
        if ids.dim() != 2 or ids.shape[1] != 1:
            fail(function, name, f"of shape {tuple(ids.shape)}", "must have one dimension, or a second one of 1")
        ids = ids.squeeze(1)
    return ids if ids.dtype == torch.int64 else ids.long()


def ids_like(function: str, name: str, ids: Any, length: int, like: tuple[str, Tensor], each: str = "") -> Tensor:
    """`ids_of` with this length, on the device of `like`; each: the meaning of one id, for the message."""
    found, (other_name, other) = ids_of(function, name, ids), like
    if found.shape != (length,):
        fail(function, name, f"of shape {tuple(found.shape)}", f"must be ({length},){each}")
    if found.device != other.device:
        fail(function, name, f"on {found.device}", f"must be on {other.device} like {other_name}")
    return found


NOTHING = Exclude()
DIAGONAL = Exclude(diagonals=(0,))
