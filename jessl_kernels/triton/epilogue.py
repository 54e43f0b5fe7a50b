"""Kernels over a strip: B rows of t with all M columns, made by the library's product. A program takes BM rows and one range.

    settle      −‖x_i − y_j‖² from ⟨x_i, y_j⟩, in place; by differences in tiles with close points, which it flags
    score_grad  U of the strip, times the factor of t, and sums of U; without the close pairs of distances
    close       gradients through the close pairs, by differences, in flagged tiles
    weights     P of the strip, for softmax-weighted sums of values
    finish      the scores, in place

`fused.row_sums` sums a strip's scores. Sums over rows or columns come in parts, each number from one program; parts are merged in
their order. `backends/strips.py` runs these kernels through `strip_kernels.py`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tile import bases_of, differences, of_strip, pulled, scores_of, side_of, strip_at, vector, weights_of
from .words import phi_slope

SIZES = ["first_row", "last_row", "M"]
DIMS_PER_PROGRAM = tl.constexpr(16)  # a program of `close` takes them one after the other
FLAGS_PER_LOAD = tl.constexpr(512)  # flags read at a time


@triton.jit
def add(target, at, values, mask):
    """Add values to the target. No other program may touch these places."""
    tl.store(target + at, tl.load(target + at, mask=mask, other=0.0) + values, mask=mask)


@triton.jit(do_not_specialize=SIZES)
def settle(
    strip, x, y, x_squares, y_squares, close_above, flags, first_row, last_row, M,
    D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """x_squares, y_squares  ‖x_i − c‖², ‖y_j − c‖² for the center c of the products
    flags (row tiles, column tiles)  1 if a pair may be close, else 0
    """
    across = tl.cdiv(M, BN)  # one axis of programs, because the other axes end at 65,535
    i = first_row + tl.program_id(0) // across * BM + tl.arange(0, BM)
    j = tl.program_id(0) % across * BN + tl.arange(0, BN)
    inside = (i < last_row)[:, None] & (j < M)[None, :]
    product = of_strip(strip, first_row, last_row, i, j, M, 0.0)
    DTYPE: tl.constexpr = strip.dtype.element_ty
    t = 2.0 * product - vector(x_squares, i, last_row)[:, None] - vector(y_squares, j, M)[None, :]
    # Pairs that are not known to be far, NaN included.
    any_close = tl.max((inside & ~(t <= tl.load(close_above))).to(tl.int32))
    tl.store(flags + tl.program_id(0), any_close.to(tl.int8))
    if any_close > 0:
        t = differences(x, y, i, j, last_row, M, D, DTYPE)
    tl.store(strip + strip_at(first_row, i, j, M), tl.minimum(t, 0.0, propagate_nan=tl.PropagateNan.ALL), mask=inside)


@triton.jit(do_not_specialize=SIZES)
def score_grad(
    strip, u_strip, scale, pairs, row, col, lse_range, close_above, sums, of_shares, first_row, last_row, M, columns_each,
    BM: tl.constexpr, BN: tl.constexpr, OP: tl.constexpr, TILTS: tl.constexpr, PHI: tl.constexpr,
    LOW: tl.constexpr, HIGH: tl.constexpr,
):  # fmt: skip
    """Write U times α (2α for distances) to u_strip; and sums, each of which may be None:

    bias_row (ranges, B)     sums of P over columns; bias_col (row tiles, M) sums of P over rows
    u_row, u_col             the same sums of u_strip
    scale (ranges, B), fp64  Σ_j U_ij t_ij, with close pairs
    close_above  pairs with t above it are close, and their u_strip is 0; None for products
    of_shares    like strip: P is multiplied by it; or None
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
    rows, bases = side_of(row, i - first_row, last_row - first_row, lse_range, TILTS), bases_of(lse_range, TILTS)
    of_bias = tl.zeros([BM], DTYPE)
    of_u = tl.zeros([BM], DTYPE)
    of_scale = tl.zeros([BM], tl.float64)  # fp64, because its terms cancel
    begin = part * columns_each
    for start in range(begin, tl.minimum(begin + columns_each, M), BN):
        j = start + tl.arange(0, BN)
        col_at = tile.to(tl.int64) * M + j
        inside = (i < last_row)[:, None] & (j < M)[None, :]
        t = of_strip(strip, first_row, last_row, i, j, M, 0.0)
        s = scores_of(t, alpha, first, start, last_row, M, pairs, PHI, LOW, HIGH)
        cols = side_of(col, j, M, lse_range, TILTS)
        u = tl.where(inside, weights_of(s, row, col, rows, cols, bases, OP, TILTS), 0.0)
        if of_shares is not None:
            u *= of_strip(of_shares, first_row, last_row, i, j, M, 0.0)
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
        tl.store(u_strip + strip_at(first_row, i, j, M), u, mask=inside)
    at = part.to(tl.int64) * (last_row - first_row) + i - first_row
    if sums.bias_row is not None:
        tl.store(sums.bias_row + at, of_bias, mask=i < last_row)
    if sums.u_row is not None:
        tl.store(sums.u_row + at, of_u, mask=i < last_row)
    if sums.scale is not None:
        tl.store(sums.scale + at, of_scale, mask=i < last_row)


@triton.jit(do_not_specialize=[*SIZES, "begin", "end"])
def close(
    strip, x, y, scale, pairs, row, col, lse_range, close_above, flags, of_shares, target, first_row, last_row, M, begin, end,
    D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, COLS: tl.constexpr,
    OP: tl.constexpr, TILTS: tl.constexpr, PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
):  # fmt: skip
    """Add 2α Σ_j U_ij (y_j − x_i) over the close pairs to target (B, D); or, with COLS, 2α Σ_i U_ij (x_i − y_j) of columns
    begin … end − 1 to target (end − begin, D).

    A program owns BM rows of the target (BN with COLS) and DIMS_PER_PROGRAM of their dimensions. It goes from one flagged tile to
    the next.
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
            # Pairs out of range are far and have the weight 0.
            t = of_strip(strip, first_row, last_row, i, j, M, float("-inf"))
            is_close = ~(t <= limit)
            s = scores_of(tl.where(is_close, t, 0.0), alpha, first, start, last_row, M, pairs, PHI, LOW, HIGH)
            rows, cols = (
                side_of(row, i - first_row, last_row - first_row, lse_range, TILTS),
                side_of(col, j, M, lse_range, TILTS),
            )
            u = weights_of(s, row, col, rows, cols, bases_of(lse_range, TILTS), OP, TILTS)
            u = tl.where(is_close, u, 0.0)
            if of_shares is not None:
                u *= of_strip(of_shares, first_row, last_row, i, j, M, 0.0)
            if PHI != "identity":
                u *= phi_slope(t * alpha, PHI, LOW, HIGH)
            u *= 2.0 * alpha
            # A point is close to itself, but that pair is mostly excluded.
            if tl.max((u != 0).to(tl.int32)) > 0:
                for d in range(begin_d, tl.minimum(begin_d + DIMS_PER_PROGRAM, D)):
                    if COLS:
                        sums = pulled(tl.trans(u), y, x, j, i, d, M, last_row, D, DTYPE)
                        add(target, (j - begin).to(tl.int64) * D + d, sums, (j >= begin) & (j < end))
                    else:
                        sums = pulled(u, x, y, i, j, d, last_row, M, D, DTYPE)
                        add(target, (i - first_row).to(tl.int64) * D + d, sums, i < last_row)
            at = tl.min(tl.where(flagged & (k > at), k, count))


@triton.jit
def scored(
    strip, scale, pairs, first_row, last_row, M,
    BM: tl.constexpr, BN: tl.constexpr, PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
):  # fmt: skip
    """The rows and columns of the program's tile, and their scores."""
    across = tl.cdiv(M, BN)  # one axis of programs, because the other axes end at 65,535
    first = first_row + tl.program_id(0) // across * BM
    start = tl.program_id(0) % across * BN
    i = first + tl.arange(0, BM)
    j = start + tl.arange(0, BN)
    alpha = tl.load(scale).to(strip.dtype.element_ty)
    t = of_strip(strip, first_row, last_row, i, j, M, 0.0)
    return i, j, scores_of(t, alpha, first, start, last_row, M, pairs, PHI, LOW, HIGH)


@triton.jit(do_not_specialize=SIZES)
def weights(
    strip, p_strip, scale, pairs, row, col, lse_range, first_row, last_row, M,
    BM: tl.constexpr, BN: tl.constexpr, OP: tl.constexpr, TILTS: tl.constexpr, PHI: tl.constexpr,
    LOW: tl.constexpr, HIGH: tl.constexpr,
):  # fmt: skip
    """Write P to p_strip."""
    i, j, s = scored(strip, scale, pairs, first_row, last_row, M, BM, BN, PHI, LOW, HIGH)
    rows, cols = (
        side_of(row, i - first_row, last_row - first_row, lse_range, TILTS),
        side_of(col, j, M, lse_range, TILTS),
    )
    p = weights_of(s, row, col, rows, cols, bases_of(lse_range, TILTS), OP, TILTS)
    tl.store(p_strip + strip_at(first_row, i, j, M), p, mask=(i < last_row)[:, None] & (j < M)[None, :])


@triton.jit(do_not_specialize=SIZES)
def finish(
    strip, scale, pairs, first_row, last_row, M,
    BM: tl.constexpr, BN: tl.constexpr, PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
):  # fmt: skip
    i, j, s = scored(strip, scale, pairs, first_row, last_row, M, BM, BN, PHI, LOW, HIGH)
    tl.store(strip + strip_at(first_row, i, j, M), s, mask=(i < last_row)[:, None] & (j < M)[None, :])
