"""Kernels over a strip: B rows of t, all M columns, made by the library's product. A program takes BM rows and one range.

    settle      −‖x_i − y_j‖² from ⟨x_i, y_j⟩, in place; by differences in tiles with close points, which it flags
    absorb      parts of the sums of the strip's scores over its rows and columns: of ranges of columns, of tiles of rows
    merge       sums from their parts, and from those that are there
    score_grad  U of the strip, times what t is multiplied by, and its sums; of distances, without the close pairs
    close       gradients through the close pairs, by differences, in flagged tiles
    finish      the scores themselves, in place

What is summed over rows, or columns, comes in parts, each number by one program; parts are merged in their order.
`backends/strips.py` drives them, by way of `strip_kernels.py`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .finalize import merge_exponentials, merge_linear
from .tile import (
    absorbed,
    absorbed_storing_columns,
    base_of,
    bases_of,
    differences,
    for_each,
    level_of,
    pulled,
    scores_of,
    side_of,
    vector,
    weights_of,
)
from .words import exp, phi_slope, psi_of, tilted

SIZES = ["first_row", "last_row", "M"]
SIDES = [*SIZES, "first_weight", "weights"]  # weights of rows begin with this row, and are so many
DIMS_PER_PROGRAM = tl.constexpr(16)  # that a program of `close` takes: they come one after the other
FLAGS_PER_LOAD = tl.constexpr(512)  # flags read at a time


@triton.jit
def place(first_row, i, j, ld):
    return (i - first_row).to(tl.int64)[:, None] * ld + j[None, :]


@triton.jit
def load(strip, first_row, last_row, i, j, M, ld, other):
    # Up to ld, which is a multiple of 16, as Triton can see: so it loads whole vectors.
    inside = (i < last_row)[:, None] & (j < ld)[None, :]
    return tl.where((j < M)[None, :], tl.load(strip + place(first_row, i, j, ld), mask=inside, other=other), other)


@triton.jit
def add(target, at, values, mask):
    """To what is there. No other program touches it."""
    tl.store(target + at, tl.load(target + at, mask=mask, other=0.0) + values, mask=mask)


@triton.jit(do_not_specialize=SIZES)
def settle(
    strip, x, y, x_squares, y_squares, close_above, flags, first_row, last_row, M, ld,
    D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """x_squares, y_squares  ‖x_i − c‖², ‖y_j − c‖² for the center c that the products were taken around
    flags (row tiles, column tiles)  1 where a pair may be close, else 0
    """
    across = tl.cdiv(M, BN)  # one axis of programs: the others end at 65,535
    i = first_row + tl.program_id(0) // across * BM + tl.arange(0, BM)
    j = tl.program_id(0) % across * BN + tl.arange(0, BN)
    inside = (i < last_row)[:, None] & (j < M)[None, :]
    product = load(strip, first_row, last_row, i, j, M, ld, 0.0)
    DTYPE: tl.constexpr = strip.dtype.element_ty
    t = 2.0 * product - vector(x_squares, i, last_row)[:, None] - vector(y_squares, j, M)[None, :]
    # Whatever is not known to be far, NaN included.
    any_close = tl.max((inside & ~(t <= tl.load(close_above))).to(tl.int32))
    tl.store(flags + tl.program_id(0), any_close.to(tl.int8))
    if any_close > 0:
        t = differences(x, y, i, j, last_row, M, D, DTYPE)
    tl.store(strip + place(first_row, i, j, ld), tl.minimum(t, 0.0, propagate_nan=tl.PropagateNan.ALL), mask=inside)


@triton.jit(do_not_specialize=SIZES)
def absorb(
    strip, scale, pairs, row, col, first_row, last_row, M, ld, columns_each,
    BM: tl.constexpr, BN: tl.constexpr, OP: tl.constexpr, TILTS: tl.constexpr, PHI: tl.constexpr, LOW: tl.constexpr,
    HIGH: tl.constexpr,
):  # fmt: skip
    """Of each tilt the number that exponents are measured from and Σ e^{tilt s − it}, or Σ ψ(tilt s); and Σ s and the pairs.

    row  parts of `Sums`, of ranges of columns, of this strip's rows
    col  the same of row tiles, of all columns; without a total nobody asks
    """
    tile, part = tl.program_id(0), tl.program_id(1)
    tiles = tl.num_programs(0).to(tl.int64)
    ranges = tl.num_programs(1)
    first = first_row + tile * BM
    i = first + tl.arange(0, BM)
    DTYPE: tl.constexpr = strip.dtype.element_ty
    alpha = tl.load(scale).to(DTYPE)
    largest = for_each(TILTS, BM, float("-inf"), DTYPE)
    total = for_each(TILTS, BM, 0.0, DTYPE)
    linear = tl.zeros([BM], DTYPE)
    count = tl.zeros([BM], DTYPE)
    begin = part * columns_each
    for start in range(begin, tl.minimum(begin + columns_each, M), BN):
        j = start + tl.arange(0, BN)
        t = load(strip, first_row, last_row, i, j, M, ld, 0.0)
        s = scores_of(t, alpha, first, start, last_row, M, pairs, PHI, LOW, HIGH)
        if col.total is not None:
            s = tl.where((i < last_row)[:, None], s, float("-inf"))
        if row.linear is not None:
            inside = s != float("-inf")
            there = tl.where(inside, s, 0.0)
            linear += tl.sum(there, axis=1)
            count += tl.sum(inside.to(DTYPE), axis=1)
            if col.linear is not None:
                col_at = tile.to(tl.int64) * M + j
                tl.store(col.linear + col_at, tl.sum(there, axis=0), mask=j < M)
                tl.store(col.count + col_at, tl.sum(inside.to(DTYPE), axis=0), mask=j < M)
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
                now, added, _, _ = absorbed(largest[k], total[k], tilted(s, TILTS[k]))
            largest_now, total_now = largest_now + (now,), total_now + (added,)
        largest, total = largest_now, total_now
    B = (last_row - first_row).to(tl.int64)
    at = part * B + i - first_row
    for k in tl.static_range(len(TILTS)):
        if OP == "logsumexp":
            tl.store(row.reference + k * ranges * B + at, level_of(largest[k]), mask=i < last_row)
        tl.store(row.total + k * ranges * B + at, total[k], mask=i < last_row)
    if row.linear is not None:
        tl.store(row.linear + at, linear, mask=i < last_row)
        tl.store(row.count + at, count, mask=i < last_row)


@triton.jit(do_not_specialize=["count", "n", "stride"])
def merge(
    total, reference, into_total, into_reference, count, n, stride,
    TILTS: tl.constexpr, ADD: tl.constexpr, BLOCK: tl.constexpr, PARTS_PER_LOAD: tl.constexpr,
):  # fmt: skip
    """Parts (TILTS, count, n) to sums (TILTS, n), stride apart; ADD: to what is there. A ψ has no reference."""
    for start in range(tl.program_id(0) * BLOCK, n, tl.num_programs(0) * BLOCK):
        i = start + tl.arange(0, BLOCK)
        inside = i < n
        for k in tl.static_range(TILTS):
            skip = k * count.to(tl.int64) * n
            at = k * stride.to(tl.int64) + i
            if reference is None:
                sums = merge_linear(total + skip, i, count, n, inside, BLOCK, PARTS_PER_LOAD)
            else:
                level, sums = merge_exponentials(
                    reference + skip, total + skip, None, i, count, n, inside, BLOCK, PARTS_PER_LOAD
                )
            if ADD:
                before = tl.load(into_total + at, mask=inside, other=0.0)
                if reference is None:
                    sums += before
                else:
                    other = tl.load(into_reference + at, mask=inside, other=0.0)
                    # Where there is no pair the reference means nothing, and must not be the larger one; that of an infinite
                    # sum must be, or the sum might be multiplied by 0.
                    other = tl.where(before == 0, float("-inf"), tl.where(before == float("inf"), before, other))
                    level = tl.where(sums == 0, float("-inf"), tl.where(sums == float("inf"), sums, level))
                    base = base_of(tl.maximum(level, other))
                    sums = sums * exp(level - base) + before * exp(other - base)
                    level = base
            if reference is not None:
                tl.store(into_reference + at, level, mask=inside)
            tl.store(into_total + at, sums, mask=inside)


@triton.jit(do_not_specialize=SIDES)
def score_grad(
    strip, u_strip, scale, pairs, row, col, lse_range, close_above, sums, first_row, last_row, M, ld, columns_each,
    first_weight, weights, BM: tl.constexpr, BN: tl.constexpr, OP: tl.constexpr, TILTS: tl.constexpr, PHI: tl.constexpr,
    LOW: tl.constexpr, HIGH: tl.constexpr,
):  # fmt: skip
    """U times α, of distances times 2α, into u_strip; and sums, each of which may be None:

    bias_row (ranges, B)     of P; bias_col (row tiles, M) the same
    u_row, u_col             of u_strip
    scale (ranges, B), fp64  Σ_j U_ij t_ij, close pairs too
    close_above  t of close pairs lies above, whose u_strip is 0; None for products
    """
    tile, part = tl.program_id(0), tl.program_id(1)
    first = first_row + tile * BM
    i = first + tl.arange(0, BM)
    DTYPE: tl.constexpr = strip.dtype.element_ty
    alpha = tl.load(scale).to(DTYPE)
    factor = alpha
    if close_above is not None:
        limit = tl.load(close_above)
        factor = 2.0 * alpha
    rows, bases = side_of(row, i - first_weight, weights, lse_range, TILTS), bases_of(lse_range, TILTS)
    of_bias = tl.zeros([BM], DTYPE)
    of_u = tl.zeros([BM], DTYPE)
    of_scale = tl.zeros([BM], tl.float64)  # it cancels
    begin = part * columns_each
    for start in range(begin, tl.minimum(begin + columns_each, M), BN):
        j = start + tl.arange(0, BN)
        col_at = tile.to(tl.int64) * M + j
        inside = (i < last_row)[:, None] & (j < M)[None, :]
        t = load(strip, first_row, last_row, i, j, M, ld, 0.0)
        s = scores_of(t, alpha, first, start, last_row, M, pairs, PHI, LOW, HIGH)
        cols = side_of(col, j, M, lse_range, TILTS)
        u = tl.where(inside, weights_of(s, row, col, rows, cols, bases, OP, TILTS), 0.0)
        if sums.bias_row is not None:
            of_bias += tl.sum(u, axis=1)
        if sums.bias_col is not None:
            tl.store(sums.bias_col + col_at, tl.sum(u, axis=0), mask=j < M)
        if PHI != "identity":
            u *= phi_slope(t * alpha, PHI, LOW, HIGH)
        if sums.scale is not None:
            of_scale += tl.sum(u * t, axis=1).to(tl.float64)
        u *= factor
        if close_above is not None:
            u = tl.where(t <= limit, u, 0.0)
            if sums.u_row is not None:
                of_u += tl.sum(u, axis=1)
            if sums.u_col is not None:
                tl.store(sums.u_col + col_at, tl.sum(u, axis=0), mask=j < M)
        tl.store(u_strip + place(first_row, i, j, ld), u, mask=inside)
    at = part.to(tl.int64) * (last_row - first_row) + i - first_row
    if sums.bias_row is not None:
        tl.store(sums.bias_row + at, of_bias, mask=i < last_row)
    if sums.u_row is not None:
        tl.store(sums.u_row + at, of_u, mask=i < last_row)
    if sums.scale is not None:
        tl.store(sums.scale + at, of_scale, mask=i < last_row)


@triton.jit(do_not_specialize=[*SIDES, "begin", "end"])
def close(
    strip, x, y, scale, pairs, row, col, lse_range, close_above, flags, target, first_row, last_row, M, ld,
    first_weight, weights, begin, end, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, COLS: tl.constexpr,
    OP: tl.constexpr, TILTS: tl.constexpr, PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
):  # fmt: skip
    """Add 2α Σ_j U_ij (y_j − x_i) of the close pairs to target (B, D), or with COLS 2α Σ_i U_ij (x_i − y_j) of columns
    begin … end − 1 to target (end − begin, D).

    A program owns the rows of target that it adds to, BM of them, or BN with COLS, and DIMS_PER_PROGRAM of their columns; it goes
    from flagged tile to flagged tile.
    """
    DTYPE: tl.constexpr = strip.dtype.element_ty
    alpha = tl.load(scale).to(DTYPE)
    limit = tl.load(close_above)
    owner = tl.program_id(0)
    if COLS:
        owner += begin // BN
    begin_d = tl.program_id(1) * DIMS_PER_PROGRAM
    down, across = tl.cdiv(last_row - first_row, BM), tl.cdiv(M, BN)
    count = down if COLS else across
    for seen in range(0, count, FLAGS_PER_LOAD):
        k = seen + tl.arange(0, FLAGS_PER_LOAD)
        where = k * across + owner if COLS else owner * across + k
        flagged = tl.load(flags + where, mask=k < count, other=0) > 0
        at = tl.min(tl.where(flagged, k, count))
        while at < count:
            first = first_row + (at if COLS else owner) * BM
            start = (owner if COLS else at) * BN
            i = first + tl.arange(0, BM)
            j = start + tl.arange(0, BN)
            # Out of range is far, and weighs nothing.
            t = load(strip, first_row, last_row, i, j, M, ld, float("-inf"))
            is_close = ~(t <= limit)
            s = scores_of(tl.where(is_close, t, 0.0), alpha, first, start, last_row, M, pairs, PHI, LOW, HIGH)
            rows, cols = side_of(row, i - first_weight, weights, lse_range, TILTS), side_of(col, j, M, lse_range, TILTS)
            u = weights_of(s, row, col, rows, cols, bases_of(lse_range, TILTS), OP, TILTS)
            u = tl.where(is_close, u, 0.0)
            if PHI != "identity":
                u *= phi_slope(t * alpha, PHI, LOW, HIGH)
            u *= 2.0 * alpha
            # A point is close to itself, and mostly excluded.
            if tl.max((u != 0).to(tl.int32)) > 0:
                for d in range(begin_d, tl.minimum(begin_d + DIMS_PER_PROGRAM, D)):
                    if COLS:
                        sums = pulled(tl.trans(u), y, x, j, i, d, M, last_row, D, DTYPE)
                        add(target, (j - begin).to(tl.int64) * D + d, sums, (j >= begin) & (j < end))
                    else:
                        sums = pulled(u, x, y, i, j, d, last_row, M, D, DTYPE)
                        add(target, (i - first_row).to(tl.int64) * D + d, sums, i < last_row)
            at = tl.min(tl.where(flagged & (k > at), k, count))


@triton.jit(do_not_specialize=SIZES)
def finish(
    strip, scale, pairs, first_row, last_row, M, ld,
    BM: tl.constexpr, BN: tl.constexpr, PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
):  # fmt: skip
    across = tl.cdiv(M, BN)  # one axis of programs: the others end at 65,535
    first = first_row + tl.program_id(0) // across * BM
    start = tl.program_id(0) % across * BN
    i = first + tl.arange(0, BM)
    j = start + tl.arange(0, BN)
    alpha = tl.load(scale).to(strip.dtype.element_ty)
    t = load(strip, first_row, last_row, i, j, M, ld, 0.0)
    s = scores_of(t, alpha, first, start, last_row, M, pairs, PHI, LOW, HIGH)
    tl.store(strip + place(first_row, i, j, ld), s, mask=(i < last_row)[:, None] & (j < M)[None, :])
