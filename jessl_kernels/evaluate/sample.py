"""The queries among the rows of a data set, and what a sweep of them against all rows gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..autocast import without_autocast
from ..literals import Kind
from ..pairwise import row_sums
from ..problem.exclude import DIAGONAL, Exclude

PILOT = 1024  # queries that settle a width


@dataclass(frozen=True)
class Sample:
    """Queries among N rows.

    index  (Q,) the row of each; None: all rows are queries
    """

    N: int
    index: Tensor | None

    @staticmethod
    def drawn(N: int, queries: int, seed: int, device: torch.device) -> Sample:
        """As many different rows, or all of them if there are no more. The global generators stay as they were."""
        if queries >= N:
            return Sample(N, None)
        generator = torch.Generator().manual_seed(seed)
        return Sample(N, torch.randperm(N, generator=generator)[:queries].to(device))

    @property
    def Q(self) -> int:
        return self.N if self.index is None else len(self.index)

    @property
    def own(self) -> Exclude:
        """The pairs of a query and its own row."""
        if self.index is None:
            return DIAGONAL
        return Exclude(same=(self.index, torch.arange(self.N, device=self.index.device)))

    def of(self, rows: Tensor) -> Tensor:
        """Of each query."""
        return rows if self.index is None else rows[self.index]

    def first(self, queries: int, device: torch.device) -> Sample:
        """The first of these queries alone; where all rows are queries some at random, since a file may be in order."""
        if queries >= self.Q:
            return self
        return Sample.drawn(self.N, queries, 0, device) if self.index is None else Sample(self.N, self.index[:queries])

    def log_sums(
        self, x: Tensor, scales: Sequence[float], keys: Tensor | None = None, kind: Kind = "dot"
    ) -> list[Tensor]:
        """For each scale (Q,) log Σ_j e^{scale·t_ij} over the keys j other than the query's own, from one sweep; in fp64
        on the CPU.

        x     (N, D) rows; t_ij = ⟨x_i, k_j⟩, or −‖x_i − k_j‖²
        keys  (N, D), k_i the own one of row i; None: the rows
        """
        if keys is None and self.index is not None:
            keys = x
        tilts = tuple(scale / scales[0] for scale in scales)
        with without_autocast(x.device):
            sums = row_sums(self.of(x), keys, kind=kind, scale=scales[0], tilts=tilts, exclude=self.own)
        return [of_scale.cpu().double() for of_scale in sums.N]

    def best(
        self, x: Tensor, widths: Sequence[float], mean: Callable[[Sample, Sequence[float]], list[Tensor]]
    ) -> tuple[float, tuple[tuple[float, float], ...]]:
        """The width with the smallest mean over the first queries, and the mean at each; of a single width no mean is made."""
        if len(widths) == 1:
            return widths[0], ()
        means = [float(rows.mean()) for rows in mean(self.first(PILOT, x.device), widths)]
        return widths[means.index(min(means))], tuple(zip(widths, means, strict=True))


def mean_of(rows: Tensor) -> tuple[float, float]:
    """The mean over queries, and its standard error; NaN for that of a single one."""
    wide = rows.double()
    return float(wide.mean()), float(wide.std()) / math.sqrt(len(wide)) if len(wide) > 1 else math.nan
