"""Kernels over a strip: B rows of t, all M columns, made by the library's product. A program takes BM rows and one range.

    settle                −‖x_i − y_j‖² from ⟨x_i, y_j⟩, in place; by differences in tiles with close points, which it flags
    absorb                row and column sums of the strip's scores
    merge                 log-sum-exps, or sums of ψ, from their parts, and the gradient that arrives there
    score_grad            U of the strip, times what t is multiplied by, and its sums; of distances, without the close pairs
    close                 gradients through the close pairs, by differences, in flagged tiles
    scores_from_products  the scores themselves, in place

What is summed over columns is added to what the strips before left, each number by one program; `strips.py` merges the parts.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tile import (
    absorbed,
    absorbed_both,
    base_of,
    differences,
    exp,
    log_of,
    phi_slope,
    pulled,
    scores_of,
    shared_exp_of,
    sigmoid,
    softplus,
    upstream_of,
    vector,
    weights,
)

SIZES = ["first_row", "last_row", "M"]
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
    strip, scale, pairs, row_largest, row_total, col_largest, col_total, first_row, last_row, M, ld, columns_each,
    BM: tl.constexpr, BN: tl.constexpr, LSE: tl.constexpr, PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
):  # fmt: skip
    """Largest scores and Σ e^{s − largest}, or Σ ψ(s) and no largest:

    row_… (ranges, B)       of this strip
    col_… (row tiles, M)    of this strip and those before; or None
    """
    tile, part = tl.program_id(0), tl.program_id(1)
    first = first_row + tile * BM
    i = first + tl.arange(0, BM)
    DTYPE: tl.constexpr = strip.dtype.element_ty
    alpha = tl.load(scale).to(DTYPE)
    largest = tl.full([BM], float("-inf"), DTYPE)
    total = tl.zeros([BM], DTYPE)
    begin = part * columns_each
    for start in range(begin, tl.minimum(begin + columns_each, M), BN):
        j = start + tl.arange(0, BN)
        col_at = tile.to(tl.int64) * M + j
        t = load(strip, first_row, last_row, i, j, M, ld, 0.0)
        s = scores_of(t, alpha, first, start, last_row, M, pairs, PHI, LOW, HIGH)
        if LSE and col_total is not None:
            s = tl.where((i < last_row)[:, None], s, float("-inf"))
            largest, total, cols = absorbed_both(largest, total, s)
            before = tl.load(col_largest + col_at, mask=j < M, other=float("-inf"))
            now = tl.maximum(before, cols)
            base = base_of(now)
            shrunk = tl.load(col_total + col_at, mask=j < M, other=0.0) * exp(before - base)
            tl.store(col_largest + col_at, now, mask=j < M)
            tl.store(col_total + col_at, shrunk + exp(cols - base), mask=j < M)
        elif LSE:
            largest, total, _, _ = absorbed(largest, total, s)
        else:
            terms = tl.where((i < last_row)[:, None], softplus(s), 0.0)
            total += tl.sum(terms, axis=1)
            if col_total is not None:
                add(col_total, col_at, tl.sum(terms, axis=0), j < M)
    at = part.to(tl.int64) * (last_row - first_row) + i - first_row
    tl.store(row_total + at, total, mask=i < last_row)
    if LSE:
        tl.store(row_largest + at, largest, mask=i < last_row)


@triton.jit(do_not_specialize=["first", "last", "parts"])
def merge(
    total, largest, weight, anchor, value, gradient, first, last, parts,
    BM: tl.constexpr, BN: tl.constexpr, LSE: tl.constexpr,
):  # fmt: skip
    """What `absorb` left of rows (or columns) first … last − 1, (parts, last − first), into value; and where there is an anchor
    weight · σ(value − anchor) into gradient."""
    DTYPE: tl.constexpr = value.dtype.element_ty
    i = first + tl.program_id(0) * BM + tl.arange(0, BM)
    most = tl.full([BM], float("-inf"), DTYPE)
    sums = tl.zeros([BM], DTYPE)
    for start in range(0, parts, BN):
        k = start + tl.arange(0, BN)
        at = k.to(tl.int64)[None, :] * (last - first) + (i - first)[:, None]
        inside = (i < last)[:, None] & (k < parts)[None, :]
        found = tl.load(total + at, mask=inside, other=0.0)
        if LSE:
            of_parts = tl.load(largest + at, mask=inside, other=float("-inf"))
            now = tl.maximum(most, tl.max(of_parts, axis=1))
            base = base_of(now)
            sums = sums * exp(most - base) + tl.sum(found * exp(of_parts - base[:, None]), axis=1)
            most = now
        else:
            sums += tl.sum(found, axis=1)
    result = log_of(most, sums) if LSE else sums
    tl.store(value + i, result, mask=i < last)
    if anchor is not None:
        tl.store(gradient + i, vector(weight, i, last) * sigmoid(result - vector(anchor, i, last)), mask=i < last)


@triton.jit(do_not_specialize=SIZES)
def score_grad(
    strip, u_strip, scale, pairs, row, col, lse_range, close_above, bias_row, bias_col, u_row, u_col, scale_sum,
    first_row, last_row, M, ld, columns_each,
    BM: tl.constexpr, BN: tl.constexpr, LSE: tl.constexpr, PHI: tl.constexpr, LOW: tl.constexpr,
    HIGH: tl.constexpr,
):  # fmt: skip
    """U times α, of distances times 2α, into u_strip; and sums, each of which may be None:

    bias_row (ranges, B)          of P
    u_row, the same               of u_strip
    bias_col, u_col               the same, added to what is there, (row tiles, M)
    scale_sum (ranges, B), fp64   Σ_j U_ij t_ij, close pairs too, added to what is there
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
    rows, shared_exp = upstream_of(row, i, last_row, lse_range, LSE), shared_exp_of(lse_range)
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
        cols = upstream_of(col, j, M, lse_range, LSE)
        u = tl.where(inside, weights(s, row, col, rows, cols, shared_exp, 0, LSE, False), 0.0)
        if bias_row is not None:
            of_bias += tl.sum(u, axis=1)
        if bias_col is not None:
            add(bias_col, col_at, tl.sum(u, axis=0), j < M)
        if PHI != "identity":
            u *= phi_slope(t * alpha, PHI, LOW, HIGH)
        if scale_sum is not None:
            of_scale += tl.sum(u * t, axis=1).to(tl.float64)
        u *= factor
        if close_above is not None:
            u = tl.where(t <= limit, u, 0.0)
            if u_row is not None:
                of_u += tl.sum(u, axis=1)
            if u_col is not None:
                add(u_col, col_at, tl.sum(u, axis=0), j < M)
        tl.store(u_strip + place(first_row, i, j, ld), u, mask=inside)
    at = part.to(tl.int64) * (last_row - first_row) + i - first_row
    if bias_row is not None:
        tl.store(bias_row + at, of_bias, mask=i < last_row)
    if u_row is not None:
        tl.store(u_row + at, of_u, mask=i < last_row)
    if scale_sum is not None:
        add(scale_sum, at, of_scale, i < last_row)


@triton.jit(do_not_specialize=SIZES)
def close(
    strip, x, y, scale, pairs, row, col, lse_range, close_above, flags, target, first_row, last_row, M, ld,
    D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, COLS: tl.constexpr, LSE: tl.constexpr,
    PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
):  # fmt: skip
    """Add 2α Σ_j U_ij (y_j − x_i) of the close pairs to target (B, D), or with COLS 2α Σ_i U_ij (x_i − y_j) to target (M, D).

    A program owns the rows of target that it adds to, BM of them, or BN with COLS, and DIMENSIONS of their columns; it goes
    from flagged tile to flagged tile.
    """
    DTYPE: tl.constexpr = strip.dtype.element_ty
    alpha = tl.load(scale).to(DTYPE)
    limit = tl.load(close_above)
    owner = tl.program_id(0)
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
            rows, cols = upstream_of(row, i, last_row, lse_range, LSE), upstream_of(col, j, M, lse_range, LSE)
            u = tl.where(is_close, weights(s, row, col, rows, cols, shared_exp_of(lse_range), 0, LSE, False), 0.0)
            if PHI != "identity":
                u *= phi_slope(t * alpha, PHI, LOW, HIGH)
            u *= 2.0 * alpha
            # A point is close to itself, and mostly excluded.
            if tl.max((u != 0).to(tl.int32)) > 0:
                for d in range(begin_d, tl.minimum(begin_d + DIMS_PER_PROGRAM, D)):
                    if COLS:
                        sums = pulled(tl.trans(u), y, x, j, i, d, M, last_row, D, DTYPE)
                        add(target, j.to(tl.int64) * D + d, sums, j < M)
                    else:
                        sums = pulled(u, x, y, i, j, d, last_row, M, D, DTYPE)
                        add(target, (i - first_row).to(tl.int64) * D + d, sums, i < last_row)
            at = tl.min(tl.where(flagged & (k > at), k, count))


@triton.jit(do_not_specialize=SIZES)
def scores_from_products(
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
