"""Data of users as tensors: NumPy arrays, memory-mapped ones among them, and tensors, one row a sample."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ._checks import FLOATS, embeddings, fail, wrong_type

CHECKED = 16384  # rows that are checked at a time


def table(function: str, argument: str, value: Any) -> Tensor:
    """A float array or tensor (N, D), or (N,) as one column, as a finite tensor (N, D) without a graph."""
    check_floats(function, argument, value)
    value = embeddings(function, argument, part(value), dims=(1, 2))
    value = value[:, None] if value.dim() == 1 else value
    check_finite(function, argument, value)
    return value


def check_floats(function: str, argument: str, value: Any) -> None:
    """TypeError unless it is a float tensor, or a float array of NumPy without a mask. Nothing of it is read."""
    if is_array(value):
        check_no_mask(function, argument, value)
        if value.dtype.kind != "f":
            must = "must be float32, float64 or float16: cast it if its numbers are quantities and no labels"
            raise TypeError(
                f"{function}: {argument} is an array of shape {value.shape} and dtype {value.dtype}, {must}"
            )
        return
    if not isinstance(value, Tensor):
        wrong_type(function, argument, value, "must be a float tensor or a NumPy array, one row a sample")
    if value.dtype not in FLOATS:
        must = "must be float64, float32, bfloat16 or float16: cast it if its numbers are quantities and no labels"
        wrong_type(function, argument, value, must)


def check_no_mask(function: str, argument: str, value: Any) -> None:
    """TypeError for a masked array of NumPy, whose mask a tensor would lose."""
    if isinstance(value, sys.modules["numpy"].ma.MaskedArray):
        must = "must not be masked: fill what is missing (x.filled), or leave such rows out of every argument"
        raise TypeError(f"{function}: {argument} is a masked array of shape {value.shape}, {must}")


def check_finite(function: str, argument: str, value: Tensor, first_row: int = 0) -> None:
    """ValueError with the place of a NaN or an infinity; first_row: the number of the first of these rows among all."""
    for first, block in _blocks(value, first_row):
        wrong = ~block.isfinite()
        if bool(wrong.any()):
            row, column = wrong.nonzero()[0].tolist()
            must = "must have neither NaN nor infinities: leave such rows out"
            fail(function, argument, f"{float(block[row, column])} at row {first + row}, column {column}", must)


def check_directions(function: str, argument: str, value: Tensor, first_row: int = 0) -> None:
    """ValueError for a row of zeros, which has no direction."""
    for first, block in _blocks(value, first_row):
        zero = (block == 0).all(dim=1).nonzero().flatten()
        if len(zero):
            must = "must have a direction in every row: leave such rows out"
            fail(function, argument, f"0 in row {first + int(zero[0])}", must)


def _blocks(value: Tensor, first_row: int) -> Iterator[tuple[int, Tensor]]:
    """Rows at a time, each with the number of its first: what is made of them takes no room beside a large table."""
    for start in range(0, len(value), CHECKED):
        yield first_row + start, value[start : start + CHECKED]


def is_array(value: Any) -> bool:
    """Whether it is an array of NumPy. Whoever has one has imported NumPy, which this package does not."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def part(value: Any, rows: slice = slice(None)) -> Tensor:
    """Some rows as a tensor without a graph: of a tensor itself, of a float array a copy in the machine's own byte order, and no
    wider than fp64."""
    if isinstance(value, Tensor):
        return value.detach()[rows]
    numpy = sys.modules["numpy"]
    return torch.from_numpy(numpy.array(value[rows], dtype=f"f{min(value.dtype.itemsize, 8)}", order="C"))


def device_of(function: str, device: Any) -> torch.device:
    """A device by its name, which must be one that torch finds here."""
    if not isinstance(device, (str, torch.device)):
        wrong_type(function, "device", device, "must be a torch.device or its name")
    try:
        found = torch.device(device)
        torch.empty(1, device=found).cpu()
    except Exception:  # of many kinds, by what is wrong with the device
        fail(function, "device", repr(str(device)), "must be a device that torch finds here, such as 'cpu' or 'cuda'")
    return found
