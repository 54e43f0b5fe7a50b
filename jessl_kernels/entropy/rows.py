"""Rows of a data set, read a block at a time, and one pass over them that checks, measures and identifies them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._checks import embeddings, fail, widest, wrong_type
from ..arrays import check_directions, check_finite, check_floats, is_array, part

BLOCK = 16384  # rows: a pair of blocks takes seconds at most, so that Ctrl-C is heard


@dataclass(frozen=True)
class Rows:
    """(N, D) rows of a tensor or of an array, which may be a file on the disk, as tensors on a device.

    device  None: where the tensor is, or the CPU
    """

    source: Any
    device: torch.device | None

    def __len__(self) -> int:
        return len(self.source)

    def block(self, first: int) -> Tensor:
        """(n, D), n ≤ BLOCK, from this row on."""
        found = part(self.source, slice(first, first + BLOCK))
        found = found[:, None] if found.dim() == 1 else found
        return found if self.device is None else found.to(self.device)

    @property
    def starts(self) -> range:
        """The first row of each block."""
        return range(0, len(self), BLOCK)


def rows_of(function: str, argument: str, value: Any, device: torch.device | None) -> Rows:
    """The rows of a float tensor or array (N, D), or (N,) as one column; or of all batches of an iterable."""
    if not (isinstance(value, Tensor) or is_array(value)):
        value = torch.cat(list(_batches(function, argument, value)))
    check_floats(function, argument, value)
    if len(value.shape) not in (1, 2):
        fail(function, argument, f"of shape {tuple(value.shape)}", "must have 1 or 2 dimensions")
    if len(value) < 2 or 0 in value.shape:
        fail(function, argument, f"of shape {tuple(value.shape)}", "must have at least 2 rows and 1 column")
    if isinstance(value, Tensor):
        embeddings(function, argument, value, dims=(1, 2))
    return Rows(value, device)


def _batches(function: str, argument: str, loader: Any) -> Iterator[Tensor]:
    """The batches of an iterable; of a batch that is a tuple or a list its first item."""
    must = (
        "must be a float tensor, a NumPy array, or an iterable of batches of those; numpy.load makes an array of a file"
    )
    if not isinstance(loader, Iterable) or isinstance(loader, (str, bytes, dict)):
        wrong_type(function, argument, loader, must)
    first = None
    for number, batch in enumerate(loader):
        name = f"{argument}, batch {number},"
        batch = batch[0] if isinstance(batch, (tuple, list)) and len(batch) else batch
        check_floats(function, name, batch)
        batch = embeddings(function, name, part(batch), dims=(1, 2), like=first)
        batch = batch[:, None] if batch.dim() == 1 else batch
        first = first or (f"the first batch of {argument}", batch)
        yield batch
    if first is None:
        fail(function, argument, "without a batch", must)


@dataclass(frozen=True)
class Moments:
    """Of the rows whose weight is above 0.

    mean, deviation  (D,) in fp64: weighted, the deviation that of a sample (divided by n − 1 for equal weights)
    constant         (D,) whether a column has one value alone
    """

    mean: Tensor
    deviation: Tensor
    constant: Tensor


def moments_of(
    function: str, argument: str, rows: Rows, weights: Tensor | None, *, directions: bool = False
) -> Moments:
    """ValueError for a NaN or an infinity, and with directions for a row of zeros; the moments otherwise.

    weights  (N,) with the sum 1, or None for equal ones
    """
    first = rows.block(0)
    columns, dtype = first.shape[1], widest(first.device)
    mean, squares = (first.new_zeros(columns, dtype=dtype) for _ in range(2))
    low, high = first.new_full((columns,), torch.inf), first.new_full((columns,), -torch.inf)
    seen = 0.0
    for start in rows.starts:
        z = rows.block(start)
        check_finite(function, argument, z, start)
        if directions:
            check_directions(function, argument, z, start)
        w = z.new_full((len(z),), 1 / len(rows), dtype=dtype)
        if weights is not None:
            w = weights[start : start + len(z)].to(z.device, dtype)
            z, w = z[w > 0], w[w > 0]
        if not len(z):
            continue
        low, high = torch.minimum(low, z.amin(dim=0)), torch.maximum(high, z.amax(dim=0))
        # Moments of the block about its own mean, then of all rows so far (Chan, Golub and LeVeque): nothing cancels.
        here, wide = float(w.sum()), z.to(dtype)
        own = w @ wide / here
        apart = own - mean
        squares += w @ (wide - own).square() + apart.square() * (seen * here / (seen + here))
        mean += apart * (here / (seen + here))
        seen += here
    of_sample = 1 - (1 / len(rows) if weights is None else float(weights.square().sum()))
    return Moments(mean, (squares / of_sample).sqrt(), low == high)


def digest_of(rows: Rows) -> str:
    """A digest of all bytes of the rows."""
    found = hashlib.blake2b(digest_size=16)
    for start in rows.starts:
        found.update(rows.block(start).contiguous().view(torch.uint8).cpu().numpy().data)
    return found.hexdigest()
