"""Rows gathered by their numbers, and the transpose: rows summed by numbers. Each is the derivative of the other.

    gather_rows  (n, …)      rows[places]
    scatter_sum  (count, …)  for each k the sum of the rows whose place is k

Results have the same bits on every run. On a CPU index_select and index_add compute them. On a GPU, and in compiled code, the
gradient of the former and the value of the latter are added in the order in which threads arrive, so these functions sort first.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from ..backends.ordered_sums import one_by_one, sums_by_number
from .autograd import is_real, no_jvp, no_vmap


def gather_rows(rows: Tensor, places: Tensor) -> Tensor:
    """rows[places] along the first dimension."""
    if _is_eager_on_cpu(rows):
        return rows.index_select(0, places)
    if is_real(rows):
        return _GatherRows.apply(rows, places)
    return torch.ops.jessl_kernels.gather_rows(rows, places)


def scatter_sum(rows: Tensor, places: Tensor, count: int) -> Tensor:
    """For each k < count the sum of the rows whose place is k; 0 if there is none."""
    if _is_eager_on_cpu(rows):
        return one_by_one(rows, places, count)
    if is_real(rows):
        return _ScatterSum.apply(rows, places, count)
    return torch.ops.jessl_kernels.scatter_sum(rows, places, count)


def _is_eager_on_cpu(rows: Tensor) -> bool:
    return rows.device.type == "cpu" and not torch.compiler.is_compiling()


def _gather_rows(rows: Tensor, places: Tensor) -> Tensor:
    return rows.index_select(0, places)


def _scatter_sum(rows: Tensor, places: Tensor, count: int) -> Tensor:
    return sums_by_number(rows, places, count)


def _gather_rows_setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    rows, places = inputs
    ctx.count = rows.shape[0]
    ctx.save_for_backward(places)


def _gather_rows_backward(ctx: Any, *upstream: Tensor) -> tuple:
    (places,), (rows,) = ctx.saved_tensors, upstream
    return scatter_sum(rows, places, ctx.count), None


def _scatter_sum_setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])


def _scatter_sum_backward(ctx: Any, *upstream: Tensor) -> tuple:
    (places,), (sums,) = ctx.saved_tensors, upstream
    return gather_rows(sums, places), None, None


class _GatherRows(Function):
    """The operator for torch.func, which cannot differentiate an operator with its own backward (forward mode would give 0)."""

    forward = staticmethod(_gather_rows)
    setup_context = staticmethod(_gather_rows_setup)
    backward = staticmethod(_gather_rows_backward)
    vmap, jvp = staticmethod(no_vmap), staticmethod(no_jvp)


class _ScatterSum(Function):
    forward = staticmethod(_scatter_sum)
    setup_context = staticmethod(_scatter_sum_setup)
    backward = staticmethod(_scatter_sum_backward)
    vmap, jvp = staticmethod(no_vmap), staticmethod(no_jvp)


def _register(name: str, arguments: str, run: Any, fake: Any, backward: Any, setup: Any) -> None:
    # Registered as operators, so that a compiler neither sees the number of steps nor turns them into atomics.
    op = torch.library.custom_op(f"jessl_kernels::{name}", run, mutates_args=(), schema=f"({arguments}) -> Tensor")
    op.register_fake(fake)
    op.register_autograd(backward, setup_context=setup)


_register(
    "gather_rows",
    "Tensor rows, Tensor places",
    _gather_rows,
    lambda rows, places: rows.new_empty(places.shape[0], *rows.shape[1:]),
    _gather_rows_backward,
    _gather_rows_setup,
)
_register(
    "scatter_sum",
    "Tensor rows, Tensor places, SymInt count",
    _scatter_sum,
    lambda rows, places, count: rows.new_empty(count, *rows.shape[1:]),
    _scatter_sum_backward,
    _scatter_sum_setup,
)
