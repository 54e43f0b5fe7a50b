"""Counts the included pairs of each row, in O((N + M) log M) and without the scores.

Several rules exclude pairs at once, so excluded pairs are counted by inclusion and exclusion. Two rules of equal ids hold both
if pairs of ids are equal, which is again a rule of equal ids.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from .exclude import IdPair
from .row_loss import RowProblem


def count_pairs(problem: RowProblem) -> Tensor:
    """(N,) int64: the negatives of each row, for a problem without a guide. Pairs that a bias of −inf leaves out are counted."""
    N, M, device = problem.N, problem.M, problem.x[0].device
    exclude, positives = problem.exclude, problem.positives
    rows, columns = torch.arange(N, device=device), torch.arange(M, device=device)
    apart: list[IdPair] = []  # pairs of these equal ids are excluded even if `keep` names them
    if positives.index is not None:
        apart.append((positives.index, columns))
    if positives.row_ids is not None and positives.col_ids is not None:
        apart.append((positives.row_ids, positives.col_ids))
    inside = _matching(list(exclude.different), N, M, device)
    found = inside
    rules = [*exclude.same, *apart]
    for size in range(1, len(rules) + 1):
        for together in combinations(rules, size):
            found = found + (-1) ** size * _matching([*exclude.different, *together], N, M, device)

    def at(offset: int, pairs: list[IdPair]) -> list[Tensor]:
        """Whether each rule holds between row i and column i + offset."""
        column = (rows + offset).clamp(0, M - 1)
        return [(r == c[column]) & (r >= 0) for r, c in pairs]

    def there(offset: int) -> Tensor:
        return (rows + offset >= 0) & (rows + offset < M)

    shifts = () if positives.shift is None else (positives.shift, positives.shift - M)
    kept = [k for k in exclude.keep if k not in shifts]
    for offset in _each_once((*exclude.diagonals, *shifts, *kept)):
        out = torch.zeros(N, dtype=torch.bool, device=device)
        for matches in at(offset, list(exclude.same)):
            out = out | matches
        for matches in at(offset, list(exclude.different)):
            out = out | ~matches
        always = torch.zeros_like(out)
        for matches in at(offset, apart):
            always = always | matches
        counted = there(offset) & ~out & ~always  # the ids alone include it
        is_in = there(offset) & ~always if offset in kept else torch.zeros_like(out)
        found = found - counted.long() + is_in.long()
    return found


def _each_once(offsets: tuple[int, ...]) -> list[int]:
    """The distinct offsets, without a hash, which would turn a compiler's symbol for a size into a number."""
    found: list[int] = []
    for offset in offsets:
        if all(offset != other for other in found):
            found.append(offset)
    return found


def _matching(rules: list[IdPair], N: int, M: int, device: torch.device) -> Tensor:
    """(N,) the number of columns whose ids are all equal to those of the row, and not negative."""
    if not rules:
        return torch.full((N,), M, dtype=torch.int64, device=device)
    row = col = None
    valid_rows = torch.ones(N, dtype=torch.bool, device=device)
    valid_cols = torch.ones(M, dtype=torch.bool, device=device)
    for row_ids, col_ids in rules:
        valid_rows, valid_cols = valid_rows & (row_ids >= 0), valid_cols & (col_ids >= 0)
        both = torch.cat([row_ids, col_ids])
        dense = torch.searchsorted(both.sort().values, both)  # equal for equal ids, and below N + M
        mine, theirs = dense[:N], dense[N:]
        if row is not None and col is not None:
            both = torch.cat([row * (N + M) + mine, col * (N + M) + theirs])
            dense = torch.searchsorted(both.sort().values, both)
            mine, theirs = dense[:N], dense[N:]
        row, col = mine, theirs
    assert row is not None and col is not None
    columns = col.masked_fill(~valid_cols, N + M).sort().values
    count = torch.searchsorted(columns, row, side="right") - torch.searchsorted(columns, row, side="left")
    return count.masked_fill(~valid_rows, 0)
