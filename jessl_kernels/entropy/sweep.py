"""The log-sum-exp of each row over all other rows, by pairs of blocks, each of which serves the rows of both."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from .._checks import widest
from ..autocast import without_autocast
from ..functional.kernels import Kernel
from ..pairwise import pairwise_logsumexp
from .rows import Rows
from .state import State

EVERY = 60.0  # seconds after which the state is saved


def sweep(
    rows: Rows,
    kernel: Kernel,
    log_weights: Tensor | None,
    leave_one_out: bool,
    state: State,
    report: Callable[[int, str], None],
) -> Tensor:
    """(N,) log Σ_j w_j e^{s_ij}, in fp64 on the CPU: over j ≠ i or over all j. −inf for a row of weight 0.

    log_weights  (N,) in fp64 on the CPU; None: w_j = 1

    Blocks are summed in fp32 (fp64 for fp64) and merged in fp64. The state is saved every minute, and when the sweep ends, by
    an error or Ctrl-C too.
    """
    pairs = [(i, j) for i in rows.starts for j in rows.starts if j >= i]
    report(state.progress.done, "entropy")
    saved = begun = time.perf_counter()
    at, x = -1, torch.empty(0)
    try:
        for i, j in pairs[state.progress.done :]:
            if i != at:
                at, x = i, kernel.place(rows.block(i))
            of_x = _of(log_weights, i, x)
            if i == j:
                found = [(i, _within(x, kernel, of_x, leave_one_out))]
            else:
                y = kernel.place(rows.block(j))
                row, col = _between(x, y, kernel, of_x, _of(log_weights, j, y))
                found = [(i, row), (j, col)]
            now = time.perf_counter()
            # One assignment: an interruption comes before this pair or after it.
            state.progress = state.progress.after(found, now - begun)
            begun = now
            report(state.progress.done, "entropy")
            if now - saved > EVERY:
                state.save()
                saved = now
    finally:
        state.save()
    return state.progress.log_sums


def count_of_pairs(rows: Rows) -> int:
    """Pairs of blocks in a sweep."""
    blocks = len(rows.starts)
    return blocks * (blocks + 1) // 2


def _of(log_weights: Tensor | None, first: int, x: Tensor) -> Tensor | None:
    return None if log_weights is None else log_weights[first : first + len(x)].to(x.device, widest(x.device))


def _within(x: Tensor, kernel: Kernel, log_weights: Tensor | None, leave_one_out: bool) -> Tensor:
    exclude = "diagonal" if leave_one_out else None
    with without_autocast(x.device):
        row = pairwise_logsumexp(
            x, kind=kernel.kind, phi=kernel.phi, scale=kernel.scale, col_bias=log_weights, exclude=exclude
        )
    return _on_host(row if log_weights is None else row.masked_fill(log_weights == -torch.inf, -torch.inf))


def _between(x: Tensor, y: Tensor, kernel: Kernel, of_x: Tensor | None, of_y: Tensor | None) -> tuple[Tensor, Tensor]:
    with without_autocast(x.device):
        row, col = pairwise_logsumexp(
            x, y, kind=kernel.kind, phi=kernel.phi, scale=kernel.scale, row_bias=of_x, col_bias=of_y, dim="both"
        )
    return _on_host(_without(row, of_x)), _on_host(_without(col, of_y))


def _without(log_sums: Tensor, own: Tensor | None) -> Tensor:
    """Sums without the own weight of each row, which is in them because the other side's sums need it."""
    return log_sums if own is None else (log_sums.to(own) - own).masked_fill(own == -torch.inf, -torch.inf)


def _on_host(log_sums: Tensor) -> Tensor:
    """In fp64 on the CPU, which some devices lack. A device has then finished: the bar and Ctrl-C are not ahead of it."""
    return log_sums.cpu().double()
