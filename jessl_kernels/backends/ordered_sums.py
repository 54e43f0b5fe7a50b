"""Rows summed by numbers in a fixed order: the same bits on every run.

index_add computes the same, but on a GPU it adds in the order in which threads arrive.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sums_by_number(rows: Tensor, numbers: Tensor, count: int) -> Tensor:
    """(count, …): for each k the sum of the rows whose number is k; 0 if there is none."""
    return (one_by_one if rows.device.type == "cpu" else in_pairs)(rows, numbers, count)


def one_by_one(rows: Tensor, places: Tensor, count: int) -> Tensor:
    """The sums on a CPU, where index_add adds one row after the other."""
    return rows.new_zeros(count, *rows.shape[1:]).index_add(0, places, rows)


def in_pairs(rows: Tensor, places: Tensor, count: int) -> Tensor:
    """The sums without atomics, in ⌈log₂ n⌉ steps over the sorted rows; a tree rounds less than a sequence."""
    places, order = places.sort(stable=True)
    sums = rows.index_select(0, order)
    reach = 1  # each row holds the sum of `reach` rows from itself on, as far as they share its place
    while reach < len(sums):
        shared = _along(places[:-reach] == places[reach:], sums)
        sums[:-reach] += torch.where(shared, sums[reach:], 0.0)  # a copy, so that nothing is read after it was written
        reach *= 2
    wanted = torch.arange(count, device=places.device)
    first = torch.searchsorted(places, wanted).clamp_max(len(sums) - 1)
    absent = _along(places.index_select(0, first) != wanted, sums)
    return sums.index_select(0, first).masked_fill_(absent, 0.0)


def _along(condition: Tensor, rows: Tensor) -> Tensor:
    return condition.view(-1, *(1 for _ in rows.shape[1:]))
