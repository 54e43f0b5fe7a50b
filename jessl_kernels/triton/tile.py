"""Functions on one tile of scores, (BM, BN): they make it, reduce it and turn it into weights. All kernels use them.

    t_ij   ⟨x_i, y_j⟩, or −‖x_i − y_j‖²
    s_ij   φ(α t_ij) + r_i + c_j; −inf if the pair is excluded or out of range
    P_ij   ∂loss/∂s_ij, from the weights of rows and of columns: see `problem.types.Weights`
    U_ij   φ'(α t_ij) P_ij

Scores are in nats: with log2 e folded into α all scores of a row would be rounded once more, in the same direction, which
shows in the gradient at a small temperature. `backends/reference.py` is the specification.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .words import exp, phi_of, psi_slope, tilted

# The largest distance of log-sum-exps at which rows and columns share one exponential. Up to 80 it would not overflow, but the
# rounding of a large s − m shows in the weight: 2e-6 at 44.
MAX_LSE_GAP = tl.constexpr(22.0)
MIN_SUM = tl.constexpr(2.0**-32)  # e^−22
MAX_PROGRAMS = tl.constexpr(256)
STRIP_ALIGNED = tl.constexpr(16)  # elements


@triton.jit
def rows_of(source, i, mask, first, D: tl.constexpr, BD: tl.constexpr):
    """BD columns, from `first` on, of rows i of a contiguous matrix of D columns; zeros beyond them and in masked rows."""
    d = first + tl.arange(0, BD)
    at = source + i.to(tl.int64)[:, None] * D + d[None, :]
    inside = mask[:, None]
    if D % BD != 0:
        inside = inside & (d < D)[None, :]
    return tl.load(at, mask=inside, other=0.0)


@triton.jit
def store_rows(target, at, mask, first, rows, D: tl.constexpr, BD: tl.constexpr):
    """Store BD columns, from `first` on, of rows `at` (64 bits) of a contiguous matrix."""
    d = first + tl.arange(0, BD)
    tl.store(target + at[:, None] * D + d[None, :], rows, mask=mask[:, None] & (d < D)[None, :])


@triton.jit
def products(x, y, i, j, N, M, D: tl.constexpr, BD: tl.constexpr):
    """⟨x_i, y_j⟩, BD dimensions at a time."""
    t = tl.zeros([i.shape[0], j.shape[0]], tl.float32)
    for first in range(0, D, BD):
        t = tl.dot(rows_of(x, i, i < N, first, D, BD), tl.trans(rows_of(y, j, j < M, first, D, BD)), t)
    return t


@triton.jit
def strip_at(first_row, i, j, M):
    """The place of t of these rows and columns in a strip from first_row on. Each row begins at a multiple of 16 elements, which
    Triton can see, so that it loads whole vectors."""
    return (i - first_row).to(tl.int64)[:, None] * (tl.cdiv(M, STRIP_ALIGNED) * STRIP_ALIGNED) + j[None, :]


@triton.jit
def of_strip(strip, first_row, last_row, i, j, M, other):
    """t of rows i, up to last_row − 1, and columns j."""
    inside = (i < last_row)[:, None] & (j < tl.cdiv(M, STRIP_ALIGNED) * STRIP_ALIGNED)[None, :]
    return tl.where((j < M)[None, :], tl.load(strip + strip_at(first_row, i, j, M), mask=inside, other=other), other)


@triton.jit
def column_of(source, i, count, d, D: tl.constexpr, DTYPE: tl.constexpr):
    """Column d of rows i of a contiguous (count, D) matrix, in the dtype of the computation."""
    return tl.load(source + i.to(tl.int64) * D + d, mask=i < count, other=0.0).to(DTYPE)


@triton.jit
def vector(source, i, count):
    """Elements i of a vector, in the dtype of scores; 0 beyond its end."""
    return tl.load(source + i, mask=i < count, other=0.0)


@triton.jit
def differences(x, y, i, j, N, M, D: tl.constexpr, DTYPE: tl.constexpr):
    """−‖x_i − y_j‖², one dimension after the other: exact however close two points are."""
    t = tl.zeros([i.shape[0], j.shape[0]], DTYPE)
    for d in range(D):
        apart = column_of(x, i, N, d, D, DTYPE)[:, None] - column_of(y, j, M, d, D, DTYPE)[None, :]
        t -= apart * apart
    return t


@triton.jit
def pulled(u, x, y, i, j, d, N, M, D: tl.constexpr, DTYPE: tl.constexpr):
    """Σ_j U_ij (y_jd − x_id), (BM,), by differences."""
    apart = column_of(y, j, M, d, D, DTYPE)[None, :] - column_of(x, i, N, d, D, DTYPE)[:, None]
    return tl.sum(u * apart, axis=1)


@triton.jit
def scores_of(t, alpha, first_i, first_j, N, M, pairs, PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr):
    """The scores of the tile that begins at this row and column.

    Steps that only some tiles need are branches on the scores: a mask that passes through a branch costs more.
    """
    BM: tl.constexpr = t.shape[0]
    BN: tl.constexpr = t.shape[1]
    i, j = first_i + tl.arange(0, BM), first_j + tl.arange(0, BN)
    every = phi_of(t * alpha, PHI, LOW, HIGH)
    if pairs.row_bias is not None:
        every += vector(pairs.row_bias, i, N)[:, None]
    if pairs.col_bias is not None:
        every += vector(pairs.col_bias, j, M)[None, :]
    s = every
    offset = j[None, :] - i[:, None]
    least, most = first_j - first_i - (BM - 1), first_j - first_i + (BN - 1)
    for k in tl.static_range(len(pairs.diagonals)):
        d = pairs.diagonals[k] >> 2
        if (least <= d) & (d <= most):
            s = tl.where(offset == d, float("-inf"), s)
    for k in tl.static_range(len(pairs.same)):
        s = tl.where(ids_agree(pairs.same[k], i, j, N, M), float("-inf"), s)
    for k in tl.static_range(len(pairs.different)):
        s = tl.where(ids_agree(pairs.different[k], i, j, N, M), s, float("-inf"))
    for k in tl.static_range(len(pairs.keep)):
        d = pairs.keep[k] >> 2
        if (least <= d) & (d <= most):
            s = tl.where(offset == d, every, s)
    for k in tl.static_range(len(pairs.without)):
        s = tl.where(ids_agree(pairs.without[k], i, j, N, M), float("-inf"), s)
    for k in tl.static_range(len(pairs.within)):
        s = tl.where(ids_agree(pairs.within[k], i, j, N, M), s, float("-inf"))
    if first_j + BN > M:
        s = tl.where((j >= M)[None, :], float("-inf"), s)
    return s


@triton.jit
def column_range(pairs, first_i, begin, end, N, BM: tl.constexpr, BN: tl.constexpr):
    """The part of the columns begin … end − 1 that may hold pairs of the tile of rows from first_i on, in whole tiles."""
    if pairs.first is not None:
        begin = tl.maximum(begin, tl.load(pairs.first + first_i).to(tl.int32) // BN * BN)
        end = tl.minimum(end, tl.load(pairs.last + tl.minimum(first_i + BM, N) - 1).to(tl.int32))
    return begin, end


@triton.jit
def ids_agree(pair, i, j, N, M):
    """Whether rows i and columns j have the same non-negative id: (BM, BN)."""
    row, col = ids(pair[0], i, N), ids(pair[1], j, M)
    return (row[:, None] == col[None, :]) & (row >= 0)[:, None]


@triton.jit
def ids(source, i, count):
    return tl.load(source + i, mask=i < count, other=-1)


@triton.jit
def base_of(largest):
    """The reference of exponents: the largest score, or 0 if there is none or it is infinite."""
    return tl.where((largest == float("-inf")) | (largest == float("inf")), tl.zeros_like(largest), largest)


@triton.jit
def absorbed(largest, total, s):
    """Add a tile's scores to running row sums, total = Σ e^{s − base}. Also returns e = e^{s − base} and the factor by which
    earlier sums shrank."""
    now = tl.maximum(largest, tl.max(s, axis=1))
    base = base_of(now)
    e = exp(s - base[:, None])
    shrunk = exp(largest - base)
    return now, total * shrunk + tl.sum(e, axis=1), e, shrunk


@triton.jit
def level_of(largest):
    """The stored reference of a part of a sum: −∞ if it has no pair, else that of `base_of`."""
    return tl.where(largest == float("inf"), tl.zeros_like(largest), largest)


@triton.jit
def absorbed_storing_columns(largest, total, s, reference, sums, j, M):
    """The same for rows. For columns j, reference and total of this tile alone are stored. Rows out of range must hold −inf.

    The rows' e^{s − base} serves columns too, times e^{base − most}. It does not if a column lies far below the largest row, or
    if the largest row is infinite: base is then 0 and e may overflow.
    """
    now, total, e, _ = absorbed(largest, total, s)
    base = base_of(now)
    most = base_of(tl.max(now))
    of_cols = tl.sum(e * tl.where(now == float("-inf"), 0.0, exp(base - most))[:, None], axis=0)
    # Each branch stores its own result: two vectors of columns that outlive the branch would need too many registers.
    if (tl.min(of_cols) >= MIN_SUM) & (tl.max(now) < float("inf")):
        tl.store(reference + j, tl.zeros_like(of_cols) + most, mask=j < M)
        tl.store(sums + j, of_cols, mask=j < M)
    else:
        largest_of_cols = tl.max(s, axis=0)
        tl.store(reference + j, level_of(largest_of_cols), mask=j < M)
        tl.store(sums + j, tl.sum(exp(s - base_of(largest_of_cols)[None, :]), axis=0), mask=j < M)
    return now, total


@triton.jit
def for_each(TILTS: tl.constexpr, BM: tl.constexpr, value: tl.constexpr, DTYPE: tl.constexpr):
    """One vector of this value for each tilt."""
    made = ()
    for _ in tl.static_range(len(TILTS)):
        made = made + (tl.full([BM], value, DTYPE),)
    return made


@triton.jit
def side_of(side, i, count, lse_range, TILTS: tl.constexpr):
    """The arguments of `weights_of` for rows i: factors, references, and factors over e^{reference − base}, each for every tilt;
    spread and mean. Absent ones are 0."""
    none = tl.zeros(i.shape, tl.float32)
    factors, references, rescaled = (), (), ()
    for k in tl.static_range(len(TILTS)):
        at = k * count.to(tl.int64) + i
        factors = factors + (none if side.factor is None else tl.load(side.factor + at, mask=i < count, other=0.0),)
        references = references + (
            none if side.reference is None else tl.load(side.reference + at, mask=i < count, other=0.0),
        )
        rescaled = rescaled + (none if lse_range is None else tl.load(side.rescaled + at, mask=i < count, other=0.0),)
    spread = none if side.spread is None else vector(side.spread, i, count)
    mean = none if side.mean is None else vector(side.mean, i, count)
    return factors, references, rescaled, spread, mean


@triton.jit
def bases_of(lse_range, TILTS: tl.constexpr):
    """A common reference for each tilt, and whether all other references lie near it; needed only with two sides. lse_range holds
    2 MAX_PROGRAMS distances, of the rows and of the columns of each program, and then the common references."""
    bases = ()
    near = True
    for k in tl.static_range(len(TILTS)):
        bases = bases + (0.0 if lse_range is None else tl.load(lse_range + 2 * MAX_PROGRAMS + k),)
    if lse_range is not None:
        near = tl.max(tl.load(lse_range + tl.arange(0, 2 * MAX_PROGRAMS))) <= MAX_LSE_GAP
    return bases, near


@triton.jit
def weights_of(s, row, col, rows, cols, shared, OP: tl.constexpr, TILTS: tl.constexpr):
    """P of a tile, from `side_of` its rows and of its columns. A side without a factor contributes nothing.

    One exponential for each tilt serves rows and columns if all references lie near each other. The two parts of a spread nearly
    cancel, so they are subtracted in fp32, before P is rounded to the dtype of the embeddings.
    """
    f, r, f_rescaled, row_spread, row_mean = rows
    g, c, g_rescaled, col_spread, col_mean = cols
    bases, near = shared
    for k in tl.static_range(len(TILTS)):
        tilted_s = tilted(s, TILTS[k])
        if OP != "logsumexp":
            term = psi_slope(s, OP, TILTS[k]) * (f[k][:, None] + g[k][None, :])
        elif col.factor is None:
            e = exp(tilted_s - r[k][:, None])
            term = e * f[k][:, None]
            if row.spread is not None and k == 0:
                term += within_mean(s, e * row_spread[:, None], row_mean[:, None])
        elif row.factor is None:
            e = exp(tilted_s - c[k][None, :])
            term = e * g[k][None, :]
            if col.spread is not None and k == 0:
                term += within_mean(s, e * col_spread[None, :], col_mean[None, :])
        elif row.rescaled is None:
            e, of_cols = exp(tilted_s - r[k][:, None]), exp(tilted_s - c[k][None, :])
            term = e * f[k][:, None] + of_cols * g[k][None, :]
            if row.spread is not None and k == 0:
                term += within_mean(s, e * row_spread[:, None], row_mean[:, None])
                term += within_mean(s, of_cols * col_spread[None, :], col_mean[None, :])
        elif near:
            # s is at most any reference: no factor overflows, and if e^{s − base} underflows, so does the weight.
            term = exp(tilted_s - bases[k]) * (f_rescaled[k][:, None] + g_rescaled[k][None, :])
        else:
            term = f[k][:, None] * exp(tilted_s - r[k][:, None]) + g[k][None, :] * exp(tilted_s - c[k][None, :])
        if k == 0:
            p = term
        else:
            p += term
    return p


@triton.jit
def within_mean(s, share, mean):
    """A pair's share minus the mean of its row; 0 for an excluded pair."""
    return tl.where(s > float("-inf"), share - mean, 0.0)
