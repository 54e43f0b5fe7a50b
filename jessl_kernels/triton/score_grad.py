"""The kernel that makes U of a block of scores from the embeddings, one tile a program: 1 product of 2·D flops a pair.

`blocks.py` merges its sums over rows and columns in a fixed order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tile import bases_of, products, scores_of, side_of, weights_of
from .words import phi_slope, psi_of

# Neighbouring programs stay within this many rows of tiles, so that they find shared rows in L2.
GROUP_ROWS = tl.constexpr(8)


@triton.jit(do_not_specialize=["first_row", "last_row", "first_col", "last_col", "N", "M"])
def score_grad_block(
    x, y, u_block, scale, pairs, row, col, lse_range, psi_row, bias_row, bias_col, scale_part, first_row, last_row, first_col,
    last_col, N, M, ld, D: tl.constexpr, BD: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, OP: tl.constexpr,
    TILTS: tl.constexpr, PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
):  # fmt: skip
    """Write U of rows and columns first … last − 1 to u_block (rows, ld), and sums, each of which may be None:

    psi_row (column tiles, rows)      sums of ψ(tilt s), of one tilt, if U is the gradient of such a sum
    bias_row (column tiles, rows)     sums of P
    bias_col (row tiles, columns)     sums of P
    scale_part (column tiles, rows)   Σ_j U_ij t_ij
    """
    down, across = tl.cdiv(last_row - first_row, BM), tl.cdiv(last_col - first_col, BN)
    tile_row, tile_col = tl.swizzle2d(tl.program_id(0) // across, tl.program_id(0) % across, down, across, GROUP_ROWS)
    first, start = first_row + tile_row * BM, first_col + tile_col * BN
    i, j = first + tl.arange(0, BM), start + tl.arange(0, BN)
    inside = (i < last_row)[:, None] & (j < last_col)[None, :]
    alpha = tl.load(scale).to(tl.float32)
    t = products(x, y, i, j, last_row, last_col, D, BD)
    s = scores_of(t, alpha, first, start, last_row, last_col, pairs, PHI, LOW, HIGH)
    rows, cols = side_of(row, i, N, lse_range, TILTS), side_of(col, j, M, lse_range, TILTS)
    u = tl.where(inside, weights_of(s, row, col, rows, cols, bases_of(lse_range, TILTS), OP, TILTS), 0.0)
    by_row = tile_col.to(tl.int64) * (last_row - first_row) + i - first_row
    by_col = tile_row.to(tl.int64) * (last_col - first_col) + j - first_col
    if psi_row is not None:
        tl.store(psi_row + by_row, tl.sum(psi_of(s, OP, TILTS[0]), axis=1), mask=i < last_row)
    if bias_row is not None:
        tl.store(bias_row + by_row, tl.sum(u, axis=1), mask=i < last_row)
    if bias_col is not None:
        tl.store(bias_col + by_col, tl.sum(u, axis=0), mask=j < last_col)
    if PHI != "identity":
        u *= phi_slope(t * alpha, PHI, LOW, HIGH)
    if scale_part is not None:  # from unrounded weights, because it cancels
        tl.store(scale_part + by_row, tl.sum(u * t, axis=1), mask=i < last_row)
    at = (i - first_row).to(tl.int64)[:, None] * ld + (j - first_col)[None, :]
    tl.store(u_block + at, u, mask=inside)
