"""One tile of scores, (BM, BN): how it is made, reduced and turned into weights. Every kernel is written over these.

    t_ij   ⟨x_i, y_j⟩, or −‖x_i − y_j‖²
    s_ij   φ(α t_ij) + r_i + c_j, −inf where the pair is excluded or out of range
    P_ij   g_i ∂row_i/∂s_ij + h_j ∂col_j/∂s_ij
    U_ij   φ'(α t_ij) P_ij

Scores are in nats: with log2 e folded into α they would round once more, all of a row in the same direction, which the
gradient of a small temperature shows. `backends/reference.py` specifies all of it.
"""

from __future__ import annotations

import triton
import triton.language as tl

# How far rows and columns of a tile may lie apart to share one exponential. It would not overflow up to 80; but where s − m is
# large its rounding shows in the weight, 2e-6 at 44.
APART = tl.constexpr(22.0)


@triton.jit
def rows_of(source, i, count, first, D: tl.constexpr, BD: tl.constexpr):
    """BD columns from `first` on of rows i of a contiguous (count, D) matrix; zeros beyond its ends."""
    d = first + tl.arange(0, BD)
    at = source + i.to(tl.int64)[:, None] * D + d[None, :]
    inside = (i < count)[:, None]
    if D % BD != 0:
        inside = inside & (d < D)[None, :]
    return tl.load(at, mask=inside, other=0.0)


@triton.jit
def products(x, y, i, j, N, M, D: tl.constexpr, BD: tl.constexpr):
    """⟨x_i, y_j⟩, BD dimensions at a time."""
    t = tl.zeros([i.shape[0], j.shape[0]], tl.float32)
    for first in range(0, D, BD):
        t = tl.dot(rows_of(x, i, N, first, D, BD), tl.trans(rows_of(y, j, M, first, D, BD)), t)
    return t


@triton.jit
def column_of(source, i, count, d, D: tl.constexpr, DTYPE: tl.constexpr):
    """Column d of rows i of a contiguous (count, D) matrix, in the dtype to compute in."""
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
def phi_of(u, PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr):
    if PHI == "clamp":
        low, high = tl.full([], LOW, u.dtype), tl.full([], HIGH, u.dtype)
        u = tl.where(u < low, low, tl.where(u > high, high, u))  # a NaN stays one
    if PHI == "laplace":
        u = -tl.sqrt(-u)
    return u


@triton.jit
def phi_slope(u, PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr):
    if PHI == "clamp":
        low, high = tl.full([], LOW, u.dtype), tl.full([], HIGH, u.dtype)
        slope = tl.where(u != u, u, tl.where((u >= low) & (u <= high), 1.0, 0.0).to(u.dtype))
    else:  # laplace: φ(u) = −√(−u); where two points meet 0 is a subgradient
        root = tl.sqrt(-u)
        slope = tl.where(root > 0, 0.5 / root, tl.zeros_like(root))
    return slope


@triton.jit
def excluded(i, j, N, M, out):
    """Which pairs are out. Diagonals cost a scalar comparison where they do not cross the tile."""
    gone = (i < 0)[:, None] | (j < 0)[None, :]
    least = tl.min(j) - tl.max(i)
    most = tl.max(j) - tl.min(i)
    offset = j[None, :] - i[:, None]
    for k in tl.static_range(len(out.diagonals)):
        d = out.diagonals[k] >> 2
        if (least <= d) & (d <= most):
            gone = gone | (offset == d)
    if out.same_rows is not None:
        row, col = ids(out.same_rows, i, N), ids(out.same_cols, j, M)
        gone = gone | ((row[:, None] == col[None, :]) & (row >= 0)[:, None])
    if out.different_rows is not None:
        row, col = ids(out.different_rows, i, N), ids(out.different_cols, j, M)
        gone = gone | (row[:, None] != col[None, :]) | (row < 0)[:, None]
    for k in tl.static_range(len(out.keep)):
        d = out.keep[k] >> 2
        if (least <= d) & (d <= most):
            gone = gone & (offset != d)
    return gone


@triton.jit
def ids(source, i, count):
    return tl.load(source + i, mask=i < count, other=-1)


@triton.jit
def finished(t, alpha, i, j, N, M, out, PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr):
    """The scores of a tile."""
    s = phi_of(t * alpha, PHI, LOW, HIGH)
    if out.row_bias is not None:
        s += vector(out.row_bias, i, N)[:, None]
    if out.col_bias is not None:
        s += vector(out.col_bias, j, M)[None, :]
    return tl.where(excluded(i, j, N, M, out) | (j >= M)[None, :], float("-inf"), s)


@triton.jit
def base_of(largest):
    """What exponents are measured from: the largest score, or 0 where there is none or it is infinite."""
    return tl.where((largest == float("-inf")) | (largest == float("inf")), tl.zeros_like(largest), largest)


@triton.jit
def log_of(largest, total):
    """The log-sum-exp of total = Σ e^{s − base}."""
    return base_of(largest) + tl.log(total)  # without base_of it is the same, but spills on sm_100


@triton.jit
def absorbed(largest, total, s):
    """Running row sums, total = Σ e^{s − base}, with a tile's scores taken in; also e = e^{s − base} and by how much the
    sums before shrank."""
    now = tl.maximum(largest, tl.max(s, axis=1))
    base = base_of(now)
    e = tl.exp(s - base[:, None])
    shrunk = tl.exp(largest - base)
    return now, total * shrunk + tl.sum(e, axis=1), e, shrunk


@triton.jit
def absorbed_both(largest, total, s):
    """The same for rows; for columns the log-sum-exps of this tile alone. Rows out of range must hold −inf.

    One exponential serves both where no row or column lies far below the tile's largest score.
    """
    of_rows, of_cols = tl.max(s, axis=1), tl.max(s, axis=0)
    now = tl.maximum(largest, of_rows)
    base = base_of(now)
    total *= tl.exp(largest - base)
    most = tl.max(of_rows)
    row_gap = tl.max(tl.where(of_rows == float("-inf"), 0.0, most - of_rows))
    col_gap = tl.max(tl.where(of_cols == float("-inf"), 0.0, most - of_cols))
    if (tl.maximum(row_gap, col_gap) <= APART) & (tl.abs(most) < float("inf")):
        e = tl.exp(s - most)
        total += tl.sum(e, axis=1) * tl.where(of_rows == float("-inf"), 0.0, tl.exp(most - base))
        cols = log_of(most, tl.sum(e, axis=0))
    else:
        total += tl.sum(tl.exp(s - base[:, None]), axis=1)
        cols = log_of(of_cols, tl.sum(tl.exp(s - base_of(of_cols)[None, :]), axis=0))
    return now, total, cols


@triton.jit
def softplus(s):
    """log(1 + e^s); log(1 + e) = 2 atanh(e / (2 + e)) keeps its digits where e is tiny. A series, for |z| ≤ 1/3."""
    e = tl.exp(-tl.abs(s))
    z = e / (2.0 + e)
    square = z * z
    TERMS: tl.constexpr = 16 if s.dtype == tl.float64 else 8
    series = tl.zeros_like(s)
    for k in tl.static_range(1, TERMS + 1):
        series = series * square + 1.0 / (2 * (TERMS - k) + 1)
    return tl.where(s > 0, s, tl.zeros_like(s)) + 2.0 * z * series


@triton.jit
def sigmoid(s):
    e = tl.exp(-tl.abs(s))
    return tl.where(s >= 0, 1.0, e) / (1.0 + e)


@triton.jit
def weights(s, row, col, i, j, N, M, SHIFT: tl.constexpr, LSE: tl.constexpr):
    """P of a tile, given row = (g, L) and col = (h, C); a sum of ψ reads neither L nor C. Either side may be None.

    For the log-sum-exps of rows alone P stands over 2^−SHIFT, and g may be None: then the caller multiplies rows by it. One
    exponential serves rows and columns whose log-sum-exps are not far apart.
    """
    if not LSE:
        upstream = tl.zeros_like(s)
        if row is not None:
            upstream += vector(row.gradient, i, N)[:, None]
        if col is not None:
            upstream += vector(col.gradient, j, M)[None, :]
        p = sigmoid(s) * upstream
    elif col is None:
        p = tl.exp(s - exponent(row.lse, i, N)[:, None]) * 2.0**SHIFT
        if row.gradient is not None:
            p *= vector(row.gradient, i, N)[:, None]
    elif row is None:
        h = vector(col.gradient, j, M)
        p = h[None, :] * tl.exp(s - exponent(col.lse, j, M)[None, :])
    else:
        g, r = vector(row.gradient, i, N), exponent(row.lse, i, N)
        h, c = vector(col.gradient, j, M), exponent(col.lse, j, M)
        least = tl.minimum(tl.min(r), tl.min(c))
        if tl.maximum(tl.max(r), tl.max(c)) - least <= APART:
            # s is at most L_i and C_j: no factor overflows, and where e^{s−least} underflows so does the weight.
            p = tl.exp(s - least) * ((g * tl.exp(least - r))[:, None] + (h * tl.exp(least - c))[None, :])
        else:
            p = g[:, None] * tl.exp(s - r[:, None]) + h[None, :] * tl.exp(s - c[None, :])
    return p


@triton.jit
def exponent(lse, i, count):
    """Log-sum-exps as what a tile's exponents are measured from: 0 for a row without pairs."""
    found = vector(lse, i, count)
    return tl.where(found == float("-inf"), tl.zeros_like(found), found)
