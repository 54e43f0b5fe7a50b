"""Kernels that make tiles of scores, use them and forget them. A program takes BM rows and one range of columns.

    row_sums   m_i and Σ_j e^{tilt s_ij − m_i} for each tilt, or Σ_j ψ(tilt s_ij), over its range; the same sums over its rows
               for each column; with ATTEND also O_i = Σ_j e^{s_ij − m_i} y_j. 1 product of 2·N·M·D flops, 2 with ATTEND. It
               also sums a strip, whose t the library's product has made
    pull       Σ_j U_ij y_j, or Σ_j U_ij (y_j − x_i) for distances; also Σ_j ψ(tilt s_ij): 2 products

Up to BD dimensions a program keeps its rows of x on the chip, so that gradients can be pulled; in more dimensions only sums are
made. Distances are taken by differences, for D ≤ 16, without a product.
Each program writes numbers of its own, and `finalize.py` merges them in a fixed order: no atomics, the same bits on every run.
For sums over columns the caller transposes the problem. Sizes are not specialised on: one compiled variant serves batches of any
length.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tile import (
    absorbed,
    absorbed_storing_columns,
    bases_of,
    column_range,
    differences,
    for_each,
    level_of,
    of_strip,
    products,
    pulled,
    rows_of,
    scores_of,
    side_of,
    store_rows,
    weights_of,
)
from .words import phi_slope, psi_of, tilted


@triton.jit(do_not_specialize=["first_row", "first_part", "N", "M"])
def row_sums(
    x, y, scale, pairs, row, col, pulled_part, mean_part, first_row, first_part, N, M, columns_each,
    D: tl.constexpr, BD: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, KIND: tl.constexpr, OP: tl.constexpr,
    TILTS: tl.constexpr, ATTEND: tl.constexpr, SHIFT: tl.constexpr, PHI: tl.constexpr, LOW: tl.constexpr,
    HIGH: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """Parts of sums: `row` over ranges of columns, for rows first_part … N − 1; `col` over the row tiles of this launch. Either
    may lack `linear`; a `col` without a total is absent. KIND "strip": x is a strip of t from first_row on.

    With ATTEND, for one tilt: pulled_part (ranges, N, D), and mean_part (ranges, N) = Σ_j e^{s_ij − m_i} t_ij or None. mean_part
    is made from unrounded weights, because it cancels.
    """
    tile, part = tl.program_id(0), tl.program_id(1)
    tiles = tl.num_programs(0).to(tl.int64)
    ranges = tl.num_programs(1).to(tl.int64)
    first = first_row + tile * BM
    i = first + tl.arange(0, BM)
    alpha = tl.load(scale).to(DTYPE)
    if KIND == "dot" and D <= BD:
        x_tile = rows_of(x, i, i < N, 0, D, BD)
    largest = for_each(TILTS, BM, float("-inf"), DTYPE)
    total = for_each(TILTS, BM, 0.0, DTYPE)
    linear = tl.zeros([BM], DTYPE)
    pair_count = tl.zeros([BM], DTYPE)
    if ATTEND:
        o = tl.zeros([BM, BD], tl.float32)
        mean = tl.zeros([BM], DTYPE)
    begin = part * columns_each
    begin, end = column_range(pairs, first, begin, tl.minimum(begin + columns_each, M), N, BM, BN)
    for start in range(begin, end, BN):
        j = start + tl.arange(0, BN)
        if KIND == "dot" and D <= BD:
            y_tile = rows_of(y, j, j < M, 0, D, BD)
            t = tl.dot(x_tile, tl.trans(y_tile))
        elif KIND == "dot":
            t = products(x, y, i, j, N, M, D, BD)
        elif KIND == "strip":
            t = of_strip(x, first_row, N, i, j, M, 0.0)
        else:
            t = differences(x, y, i, j, N, M, D, DTYPE)
        s = scores_of(t, alpha, first, start, N, M, pairs, PHI, LOW, HIGH)
        if col.total is not None:
            s = tl.where((i < N)[:, None], s, float("-inf"))
        if row.linear is not None:
            inside = s > float("-inf")
            here = tl.where(inside, s, 0.0)
            linear += tl.sum(here, axis=1)
            pair_count += tl.sum(inside.to(DTYPE), axis=1)
            if col.linear is not None:
                at = tile.to(tl.int64) * M + j
                tl.store(col.linear + at, tl.sum(here, axis=0), mask=j < M)
                tl.store(col.count + at, tl.sum(inside.to(DTYPE), axis=0), mask=j < M)
        largest_now, total_now = (), ()
        for k in tl.static_range(len(TILTS)):
            skip = (k * tiles + tile) * M
            if OP != "logsumexp":
                terms = psi_of(s, OP, TILTS[k])
                now, added = largest[k], total[k] + tl.sum(terms, axis=1)
                if col.total is not None:
                    tl.store(col.total + skip + j, tl.sum(terms, axis=0), mask=j < M)
            elif col.total is not None:
                now, added = absorbed_storing_columns(
                    largest[k], total[k], tilted(s, TILTS[k]), col.reference + skip, col.total + skip, j, M
                )
            else:
                now, added, e, shrunk = absorbed(largest[k], total[k], tilted(s, TILTS[k]))
                if ATTEND:
                    o = tl.dot((e * 2.0**SHIFT).to(y_tile.dtype), y_tile, o * shrunk[:, None])
                    if mean_part is not None:
                        mean = mean * shrunk + tl.sum(e * t, axis=1)
            largest_now, total_now = largest_now + (now,), total_now + (added,)
        largest, total = largest_now, total_now
    at = part.to(tl.int64) * (N - first_part) + i - first_part
    for k in tl.static_range(len(TILTS)):
        skip = k * ranges * (N - first_part)
        if OP == "logsumexp":
            tl.store(row.reference + skip + at, level_of(largest[k]), mask=i < N)
        tl.store(row.total + skip + at, total[k], mask=i < N)
    if row.linear is not None:
        tl.store(row.linear + at, linear, mask=i < N)
        tl.store(row.count + at, pair_count, mask=i < N)
    if ATTEND:
        store_rows(pulled_part, at, i < N, 0, o * 2.0**-SHIFT, D, BD)
        if mean_part is not None:
            tl.store(mean_part + at, mean, mask=i < N)


@triton.jit(do_not_specialize=["first_row", "last_row", "N", "M"])
def pull(
    x, y, scale, pairs, row, col, lse_range, pulled_part, psi_part, bias_part, scale_part, first_row, last_row, N, M,
    columns_each, D: tl.constexpr, BD: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, KIND: tl.constexpr,
    OP: tl.constexpr, TILTS: tl.constexpr, PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """Gradients of the R rows first_row … last_row − 1 of N: pulled_part (ranges, R, D); bias_part = Σ_j P_ij and scale_part =
    Σ_j U_ij t_ij, (ranges, R). psi_part (ranges, R) = Σ_j ψ(tilt s_ij) of one tilt, if the gradient does not depend on that sum.
    All parts but pulled_part may be None. row, col: `launch.Side`s."""
    tile, part = tl.program_id(0), tl.program_id(1)
    first = first_row + tile * BM
    i = first + tl.arange(0, BM)
    alpha = tl.load(scale).to(DTYPE)
    rows, shared = side_of(row, i, N, lse_range, TILTS), bases_of(lse_range, TILTS)
    if KIND == "dot":
        x_tile = rows_of(x, i, i < N, 0, D, BD)
    acc = tl.zeros([BM, BD], DTYPE)
    of_psi = tl.zeros([BM], DTYPE)
    of_bias = tl.zeros([BM], DTYPE)
    of_scale = tl.zeros([BM], DTYPE)
    begin = part * columns_each
    begin, end = column_range(pairs, first, begin, tl.minimum(begin + columns_each, M), N, BM, BN)
    for start in range(begin, end, BN):
        j = start + tl.arange(0, BN)
        if KIND == "dot":
            y_tile = rows_of(y, j, j < M, 0, D, BD)
            t = tl.dot(x_tile, tl.trans(y_tile))
        else:
            t = differences(x, y, i, j, N, M, D, DTYPE)
        s = scores_of(t, alpha, first, start, N, M, pairs, PHI, LOW, HIGH)
        u = weights_of(s, row, col, rows, side_of(col, j, M, lse_range, TILTS), shared, OP, TILTS)
        if psi_part is not None:
            of_psi += tl.sum(psi_of(s, OP, TILTS[0]), axis=1)
        if bias_part is not None:
            of_bias += tl.sum(u, axis=1)
        if PHI != "identity":
            u *= phi_slope(t * alpha, PHI, LOW, HIGH)
        if scale_part is not None:
            of_scale += tl.sum(u * t, axis=1)  # from unrounded weights, because it cancels
        if KIND == "dot":
            acc = tl.dot(u.to(y_tile.dtype), y_tile, acc)
        else:
            d = tl.arange(0, BD)
            for k in range(D):
                acc += tl.where((d == k)[None, :], pulled(u, x, y, i, j, k, N, M, D, DTYPE)[:, None], 0.0)
    inside = i < last_row
    at = part.to(tl.int64) * (last_row - first_row) + i - first_row
    store_rows(pulled_part, at, inside, 0, acc, D, BD)
    if psi_part is not None:
        tl.store(psi_part + at, of_psi, mask=inside)
    if bias_part is not None:
        tl.store(bias_part + at, of_bias, mask=inside)
    if scale_part is not None:
        tl.store(scale_part + at, of_scale, mask=inside)
