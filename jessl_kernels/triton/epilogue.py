"""Kernels over a strip: B rows of t, all M columns, made by the library's product. A program takes BM rows and one range.

    settle     −‖x_i − y_j‖² from ⟨x_i, y_j⟩, in place; by differences in tiles where two points are close
    absorb     row and column sums of the strip's scores
    weigh      U of the strip, and its sums; of distances, without the close pairs
    close      gradients through the close pairs, by differences
    finish     the scores themselves, in place

What is summed over rows and columns here is merged by `launch.py` in a fixed order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tile import (
    absorbed,
    absorbed_both,
    differences,
    finished,
    log_of,
    phi_slope,
    pulled,
    softplus,
    vector,
    weights,
)

SIZES = ["first_row", "last_row", "M"]


@triton.jit
def place(first_row, i, j, ld):
    return (i - first_row).to(tl.int64)[:, None] * ld + j[None, :]


@triton.jit
def load(strip, first_row, last_row, i, j, M, ld, other):
    # Up to ld, which is a multiple of 16, as Triton can see: so it loads whole vectors.
    inside = (i < last_row)[:, None] & (j < ld)[None, :]
    return tl.where((j < M)[None, :], tl.load(strip + place(first_row, i, j, ld), mask=inside, other=other), other)


@triton.jit(do_not_specialize=SIZES)
def settle(
    strip, x, y, x_squares, y_squares, close_above, first_row, last_row, M, ld,
    D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """x_squares, y_squares  ‖x_i − c‖², ‖y_j − c‖² for the center c that the products were taken around."""
    across = tl.cdiv(M, BN)  # one axis of programs: the others end at 65,535
    i = first_row + tl.program_id(0) // across * BM + tl.arange(0, BM)
    j = tl.program_id(0) % across * BN + tl.arange(0, BN)
    inside = (i < last_row)[:, None] & (j < M)[None, :]
    product = load(strip, first_row, last_row, i, j, M, ld, 0.0)
    DTYPE: tl.constexpr = strip.dtype.element_ty
    t = 2.0 * product - vector(x_squares, i, last_row)[:, None] - vector(y_squares, j, M)[None, :]
    # Whatever is not known to be far, NaN included.
    if tl.max((inside & ~(t <= tl.load(close_above))).to(tl.int32)) > 0:
        t = differences(x, y, i, j, last_row, M, D, DTYPE)
    tl.store(strip + place(first_row, i, j, ld), tl.minimum(t, 0.0, propagate_nan=tl.PropagateNan.ALL), mask=inside)


@triton.jit(do_not_specialize=SIZES)
def absorb(
    strip, scale, out, row_part, col_part, first_row, last_row, M, ld, columns_each,
    BM: tl.constexpr, BN: tl.constexpr, LSE: tl.constexpr, PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
):  # fmt: skip
    """row_part (ranges, B); col_part (row tiles, M) or None."""
    tile, part = tl.program_id(0), tl.program_id(1)
    i = first_row + tile * BM + tl.arange(0, BM)
    DTYPE: tl.constexpr = strip.dtype.element_ty
    alpha = tl.load(scale).to(DTYPE)
    largest = tl.full([BM], float("-inf"), DTYPE)
    total = tl.zeros([BM], DTYPE)
    begin = part * columns_each
    for start in range(begin, tl.minimum(begin + columns_each, M), BN):
        j = start + tl.arange(0, BN)
        t = load(strip, first_row, last_row, i, j, M, ld, 0.0)
        s = finished(t, alpha, i, j, last_row, M, out, PHI, LOW, HIGH)
        if LSE and col_part is not None:
            s = tl.where((i < last_row)[:, None], s, float("-inf"))
            largest, total, cols = absorbed_both(largest, total, s)
            tl.store(col_part + tile.to(tl.int64) * M + j, cols, mask=j < M)
        elif LSE:
            largest, total, _, _ = absorbed(largest, total, s)
        else:
            terms = tl.where((i < last_row)[:, None], softplus(s), 0.0)
            total += tl.sum(terms, axis=1)
            if col_part is not None:
                tl.store(col_part + tile.to(tl.int64) * M + j, tl.sum(terms, axis=0), mask=j < M)
    at = part.to(tl.int64) * (last_row - first_row) + i - first_row
    tl.store(row_part + at, log_of(largest, total) if LSE else total, mask=i < last_row)


@triton.jit(do_not_specialize=SIZES)
def weigh(
    strip, u_strip, scale, out, row, col, close_above, bias_row, bias_col, u_row, u_col, scale_part,
    first_row, last_row, M, ld, columns_each,
    BM: tl.constexpr, BN: tl.constexpr, LSE: tl.constexpr, PHI: tl.constexpr, LOW: tl.constexpr,
    HIGH: tl.constexpr,
):  # fmt: skip
    """U into u_strip, and sums, each of which may be None:

    bias_row (ranges, B), bias_col (row tiles, M)   of P
    u_row, u_col, the same                          of U, without the close pairs
    scale_part (ranges, B)                          Σ_j U_ij t_ij
    close_above  t of close pairs lies above; None for products
    """
    tile, part = tl.program_id(0), tl.program_id(1)
    i = first_row + tile * BM + tl.arange(0, BM)
    DTYPE: tl.constexpr = strip.dtype.element_ty
    alpha = tl.load(scale).to(DTYPE)
    of_bias = tl.zeros([BM], DTYPE)
    of_u = tl.zeros([BM], DTYPE)
    of_scale = tl.zeros([BM], DTYPE)
    begin = part * columns_each
    col_at = tile.to(tl.int64) * M
    for start in range(begin, tl.minimum(begin + columns_each, M), BN):
        j = start + tl.arange(0, BN)
        inside = (i < last_row)[:, None] & (j < M)[None, :]
        t = load(strip, first_row, last_row, i, j, M, ld, 0.0)
        s = finished(t, alpha, i, j, last_row, M, out, PHI, LOW, HIGH)
        u = tl.where(inside, weights(s, row, col, i, j, last_row, M, 0, LSE), 0.0)
        of_bias += tl.sum(u, axis=1)
        if bias_col is not None:
            tl.store(bias_col + col_at + j, tl.sum(u, axis=0), mask=j < M)
        if PHI != "identity":
            u *= phi_slope(t * alpha, PHI, LOW, HIGH)
        if scale_part is not None:
            of_scale += tl.sum(u * t, axis=1)
        if close_above is not None:
            u = tl.where(t <= tl.load(close_above), u, 0.0)
            of_u += tl.sum(u, axis=1)
            if u_col is not None:
                tl.store(u_col + col_at + j, tl.sum(u, axis=0), mask=j < M)
        tl.store(u_strip + place(first_row, i, j, ld), u, mask=inside)
    at = part.to(tl.int64) * (last_row - first_row) + i - first_row
    if bias_row is not None:
        tl.store(bias_row + at, of_bias, mask=i < last_row)
    if u_row is not None:
        tl.store(u_row + at, of_u, mask=i < last_row)
    if scale_part is not None:
        tl.store(scale_part + at, of_scale, mask=i < last_row)


@triton.jit(do_not_specialize=SIZES)
def close(
    strip, x, y, scale, out, row, col, close_above, target, first_row, last_row, M, ld,
    D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, COLS: tl.constexpr, LSE: tl.constexpr,
    PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
):  # fmt: skip
    """Add Σ_j U_ij (y_j − x_i) of the close pairs to target (B, D), or with COLS Σ_i U_ij (x_i − y_j) to target (M, D).

    A program owns the rows of target that it adds to: BM of them, or BN with COLS; it walks along the others.
    """
    DTYPE: tl.constexpr = strip.dtype.element_ty
    alpha = tl.load(scale).to(DTYPE)
    limit = tl.load(close_above)
    count = last_row - first_row if COLS else M
    for start in range(0, count, BM if COLS else BN):
        i = first_row + (start if COLS else tl.program_id(0) * BM) + tl.arange(0, BM)
        j = (tl.program_id(0) * BN if COLS else start) + tl.arange(0, BN)
        t = load(strip, first_row, last_row, i, j, M, ld, float("-inf"))  # out of range is far, and weighs nothing
        near = ~(t <= limit)
        if tl.max(near.to(tl.int32)) > 0:
            s = finished(tl.where(near, t, 0.0), alpha, i, j, last_row, M, out, PHI, LOW, HIGH)
            u = tl.where(near, weights(s, row, col, i, j, last_row, M, 0, LSE), 0.0)
            if PHI != "identity":
                u *= phi_slope(t * alpha, PHI, LOW, HIGH)
            for d in range(D):
                if COLS:
                    at = target + j.to(tl.int64) * D + d
                    sums = pulled(tl.trans(u), y, x, j, i, d, M, last_row, D, DTYPE)
                    tl.store(at, tl.load(at, mask=j < M, other=0.0) + sums, mask=j < M)
                else:
                    at = target + (i - first_row).to(tl.int64) * D + d
                    sums = pulled(u, x, y, i, j, d, last_row, M, D, DTYPE)
                    tl.store(at, tl.load(at, mask=i < last_row, other=0.0) + sums, mask=i < last_row)


@triton.jit(do_not_specialize=SIZES)
def finish(
    strip, scale, out, first_row, last_row, M, ld,
    BM: tl.constexpr, BN: tl.constexpr, PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
):  # fmt: skip
    across = tl.cdiv(M, BN)  # one axis of programs: the others end at 65,535
    i = first_row + tl.program_id(0) // across * BM + tl.arange(0, BM)
    j = tl.program_id(0) % across * BN + tl.arange(0, BN)
    alpha = tl.load(scale).to(strip.dtype.element_ty)
    t = load(strip, first_row, last_row, i, j, M, ld, 0.0)
    s = finished(t, alpha, i, j, last_row, M, out, PHI, LOW, HIGH)
    tl.store(strip + place(first_row, i, j, ld), s, mask=(i < last_row)[:, None] & (j < M)[None, :])
