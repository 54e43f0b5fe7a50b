"""Kernels that make tiles of scores, use and forget them. A program takes BM rows and what they meet of one range of columns.

    row_sums   L_i = log Σ_j e^{s_ij} or Σ_j ψ(s_ij) of its range, with ATTEND also O_i = Σ_j e^{s_ij − L_i} y_j, and the same
               over its rows for each column: 1 product of 2·N·M·D flops, 2 with ATTEND
    pull       Σ_j U_ij y_j, or Σ_j U_ij (y_j − x_i) for distances; also Σ_j ψ(s_ij): 2 products

A product of at most BD dimensions keeps its rows of x on the chip, and so can be pulled; of more of them sums alone are made.
Distances are taken by differences, for D ≤ 16, and spend no product.
Each program writes numbers that are its own, which `launch.py` merges in a fixed order: no atomics, the same bits on every
run. Where a sum is over columns the caller transposes the problem. Sizes are not specialised on: one compiled variant serves
batches of any length.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tile import (
    absorbed,
    absorbed_both,
    column_range,
    differences,
    log_of,
    phi_slope,
    products,
    pulled,
    rows_of,
    scores_of,
    shared_exp_of,
    softplus,
    upstream_of,
    vector,
    weights,
)


@triton.jit(do_not_specialize=["first_row", "N", "M"])
def row_sums(
    x, y, scale, pairs, row_part, col_part, pulled_part, mean_part, linear_part, first_row, N, M, columns_each,
    D: tl.constexpr, BD: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, KIND: tl.constexpr, LSE: tl.constexpr,
    ATTEND: tl.constexpr, SHIFT: tl.constexpr, PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
    DTYPE: tl.constexpr,
):  # fmt: skip
    """row_part (ranges, N); col_part (row tiles of this launch, M) or None. With ATTEND pulled_part (ranges, N, D), and
    mean_part (ranges, N) Σ_j e^{s_ij − L_i} t_ij or None: from weights that are not rounded, since it cancels. linear_part
    (ranges, N) Σ_j s_ij, with LSE and without col_part, or None."""
    tile, part = tl.program_id(0), tl.program_id(1)
    first = first_row + tile * BM
    i = first + tl.arange(0, BM)
    alpha = tl.load(scale).to(DTYPE)
    if KIND == "dot" and D <= BD:
        x_tile = rows_of(x, i, N, 0, D, BD)
    largest = tl.full([BM], float("-inf"), DTYPE)
    total = tl.zeros([BM], DTYPE)
    linear = tl.zeros([BM], DTYPE)
    if ATTEND:
        o = tl.zeros([BM, BD], tl.float32)
        mean = tl.zeros([BM], DTYPE)
    begin = part * columns_each
    begin, end = column_range(pairs, first, begin, tl.minimum(begin + columns_each, M), N, BM, BN)
    for start in range(begin, end, BN):
        j = start + tl.arange(0, BN)
        if KIND == "dot" and D <= BD:
            y_tile = rows_of(y, j, M, 0, D, BD)
            t = tl.dot(x_tile, tl.trans(y_tile))
        elif KIND == "dot":
            t = products(x, y, i, j, N, M, D, BD)
        else:
            t = differences(x, y, i, j, N, M, D, DTYPE)
        s = scores_of(t, alpha, first, start, N, M, pairs, PHI, LOW, HIGH)
        if LSE and col_part is not None:
            s = tl.where((i < N)[:, None], s, float("-inf"))
            largest, total, cols = absorbed_both(largest, total, s)
            tl.store(col_part + tile.to(tl.int64) * M + j, cols, mask=j < M)
        elif LSE:
            largest, total, e, shrunk = absorbed(largest, total, s)
            if linear_part is not None:
                linear += tl.sum(tl.where(s > float("-inf"), s, 0.0), axis=1)
            if ATTEND:
                o = tl.dot((e * 2.0**SHIFT).to(y_tile.dtype), y_tile, o * shrunk[:, None])
                if mean_part is not None:
                    mean = mean * shrunk + tl.sum(e * t, axis=1)
        else:
            terms = tl.where((i < N)[:, None], softplus(s), 0.0)
            total += tl.sum(terms, axis=1)
            if col_part is not None:
                tl.store(col_part + tile.to(tl.int64) * M + j, tl.sum(terms, axis=0), mask=j < M)
    at = part.to(tl.int64) * N + i
    tl.store(row_part + at, log_of(largest, total) if LSE else total, mask=i < N)
    if linear_part is not None:
        tl.store(linear_part + at, linear, mask=i < N)
    if ATTEND:
        per_total = tl.where(total > 0, 1.0 / total, 0.0)
        write_rows(pulled_part, at, o * (per_total * 2.0**-SHIFT)[:, None], i < N, D, BD)
        if mean_part is not None:
            tl.store(mean_part + at, mean * per_total, mask=i < N)


@triton.jit
def write_rows(target, at, rows, mask, D: tl.constexpr, BD: tl.constexpr):
    """Rows `at`, in 64 bits, of a contiguous matrix."""
    d = tl.arange(0, BD)
    tl.store(target + at[:, None] * D + d[None, :], rows, mask=mask[:, None] & (d < D)[None, :])


@triton.jit(do_not_specialize=["N", "M"])
def pull(
    x, y, scale, pairs, row, col, lse_range, linear_grad, pulled_part, psi_part, bias_part, scale_part, N, M, columns_each,
    D: tl.constexpr, BD: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, KIND: tl.constexpr, LSE: tl.constexpr,
    SHIFT: tl.constexpr, UNIT_UPSTREAM: tl.constexpr, PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
    DTYPE: tl.constexpr,
):  # fmt: skip
    """pulled_part (ranges, N, D), bias_part Σ_j P_ij and scale_part Σ_j U_ij t_ij, (ranges, N); all over 2^−SHIFT. psi_part
    (ranges, N) Σ_j ψ(s_ij), for which the gradient need not wait. All but the first may be None.

    linear_grad (N,), of a symmetric problem, or None: linear_grad_i + linear_grad_j is taken off U_ij of each pair that is in"""
    tile, part = tl.program_id(0), tl.program_id(1)
    first = tile * BM
    i = first + tl.arange(0, BM)
    alpha = tl.load(scale).to(DTYPE)
    rows, shared_exp = upstream_of(row, i, N, lse_range, LSE), shared_exp_of(lse_range)
    if linear_grad is not None:
        linear_grad_of_rows = vector(linear_grad, i, N)
    if KIND == "dot":
        x_tile = rows_of(x, i, N, 0, D, BD)
    acc = tl.zeros([BM, BD], DTYPE)
    of_psi = tl.zeros([BM], DTYPE)
    of_bias = tl.zeros([BM], DTYPE)
    of_scale = tl.zeros([BM], DTYPE)
    begin = part * columns_each
    begin, end = column_range(pairs, first, begin, tl.minimum(begin + columns_each, M), N, BM, BN)
    for start in range(begin, end, BN):
        j = start + tl.arange(0, BN)
        if KIND == "dot":
            y_tile = rows_of(y, j, M, 0, D, BD)
            t = tl.dot(x_tile, tl.trans(y_tile))
        else:
            t = differences(x, y, i, j, N, M, D, DTYPE)
        s = scores_of(t, alpha, first, start, N, M, pairs, PHI, LOW, HIGH)
        u = weights(s, row, col, rows, upstream_of(col, j, M, lse_range, LSE), shared_exp, SHIFT, LSE, UNIT_UPSTREAM)
        if linear_grad is not None:  # before U is rounded, since it may nearly cancel
            u -= tl.where(s > float("-inf"), linear_grad_of_rows[:, None] + vector(linear_grad, j, M)[None, :], 0.0)
        if psi_part is not None:
            of_psi += tl.sum(softplus(s), axis=1)
        if bias_part is not None:
            of_bias += tl.sum(u, axis=1)
        if PHI != "identity":
            u *= phi_slope(t * alpha, PHI, LOW, HIGH)
        if scale_part is not None:
            of_scale += tl.sum(u * t, axis=1)  # from weights that are not rounded, since it cancels
        if KIND == "dot":
            acc = tl.dot(u.to(y_tile.dtype), y_tile, acc)
        else:
            d = tl.arange(0, BD)
            for k in range(D):
                acc += tl.where((d == k)[None, :], pulled(u, x, y, i, j, k, N, M, D, DTYPE)[:, None], 0.0)
    at = part.to(tl.int64) * N + i
    write_rows(pulled_part, at, acc, i < N, D, BD)
    if psi_part is not None:
        tl.store(psi_part + at, of_psi, mask=i < N)
    if bias_part is not None:
        tl.store(bias_part + at, of_bias, mask=i < N)
    if scale_part is not None:
        tl.store(scale_part + at, of_scale, mask=i < N)
