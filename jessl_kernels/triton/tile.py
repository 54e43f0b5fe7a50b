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
MAX_LSE_GAP = tl.constexpr(22.0)
MIN_SUM = tl.constexpr(2.0**-32)  # e^−22
LOG2_E = tl.constexpr(1.4426950408889634)
MAX_PROGRAMS = tl.constexpr(256)
# log(1 + e) / e on [0, 1] with the least relative error, from the highest power down.
LOG_RATIO = tl.constexpr(
    (
        -0.003243904560804367, 0.019850919023156166, -0.05695851147174835, 0.106035515666008, -0.1530553102493286,
        0.1967591792345047, -0.2495412975549698, 0.3332996070384979, -0.4999990165233612, 1.0,
    )
)  # fmt: skip


@triton.jit
def exp(x):
    """As `tl.exp`, which in fp32 spends three more instructions on subnormal results; here they are 0."""
    if x.dtype == tl.float64:
        e = tl.exp(x)
    else:
        e = tl.exp2(x * LOG2_E)
    return e


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
def scores_of(t, alpha, first_i, first_j, N, M, pairs, PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr):
    """The scores of the tile whose first row and column these are.

    What only some tiles need stands in a branch of its own, on the scores: a mask that passes through one costs more.
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
    if pairs.same_rows is not None:
        row, col = ids(pairs.same_rows, i, N), ids(pairs.same_cols, j, M)
        s = tl.where((row[:, None] == col[None, :]) & (row >= 0)[:, None], float("-inf"), s)
    if pairs.different_rows is not None:
        row, col = ids(pairs.different_rows, i, N), ids(pairs.different_cols, j, M)
        s = tl.where((row[:, None] != col[None, :]) | (row < 0)[:, None], float("-inf"), s)
    for k in tl.static_range(len(pairs.keep)):
        d = pairs.keep[k] >> 2
        if (least <= d) & (d <= most):
            s = tl.where(offset == d, every, s)
    if first_j + BN > M:
        s = tl.where((j >= M)[None, :], float("-inf"), s)
    return s


@triton.jit
def column_range(pairs, first_i, begin, end, N, BM: tl.constexpr, BN: tl.constexpr):
    """Of the columns begin … end − 1 those that the tile of rows from first_i on may meet, whole tiles."""
    if pairs.first is not None:
        begin = tl.maximum(begin, tl.load(pairs.first + first_i).to(tl.int32) // BN * BN)
        end = tl.minimum(end, tl.load(pairs.last + tl.minimum(first_i + BM, N) - 1).to(tl.int32))
    return begin, end


@triton.jit
def ids(source, i, count):
    return tl.load(source + i, mask=i < count, other=-1)


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
    e = exp(s - base[:, None])
    shrunk = exp(largest - base)
    return now, total * shrunk + tl.sum(e, axis=1), e, shrunk


@triton.jit
def absorbed_both(largest, total, s):
    """The same for rows; for columns the log-sum-exps of this tile alone. Rows out of range must hold −inf.

    e^{s − base} of the rows serves columns too, times e^{base − most}, unless a column lies far below the largest row, or
    that is infinite, where base is 0 and e may overflow.
    """
    now, total, e, _ = absorbed(largest, total, s)
    base = base_of(now)
    most = base_of(tl.max(now))
    sums = tl.sum(e * tl.where(now == float("-inf"), 0.0, exp(base - most))[:, None], axis=0)
    if (tl.min(sums) >= MIN_SUM) & (tl.max(now) < float("inf")):
        cols = most + tl.log(sums)
    else:
        of_cols = tl.max(s, axis=0)
        cols = log_of(of_cols, tl.sum(exp(s - base_of(of_cols)[None, :]), axis=0))
    return now, total, cols


@triton.jit
def softplus(s):
    """log(1 + e^s), which keeps its digits where that is tiny: log(1 + e) / e is a polynomial in fp32, to 1 ulp."""
    e = exp(-tl.abs(s))
    ratio = tl.zeros_like(s)
    if s.dtype == tl.float64:
        # 2 atanh(z) / e for z = e / (2 + e) ≤ 1/3
        square = (e / (2.0 + e)) * (e / (2.0 + e))
        for k in tl.static_range(1, 17):
            ratio = ratio * square + 1.0 / (2 * (16 - k) + 1)
        ratio = 2.0 * ratio / (2.0 + e)
    else:
        for k in tl.static_range(len(LOG_RATIO)):
            ratio = ratio * e + LOG_RATIO[k]
    return tl.where(s > 0, s, tl.zeros_like(s)) + e * ratio


@triton.jit
def sigmoid(s):
    e = exp(-tl.abs(s))
    return tl.where(s >= 0, 1.0, e) / (1.0 + e)


@triton.jit
def upstream_of(side, i, count, lse_range, LSE: tl.constexpr):
    """What `weights` wants of rows i: their gradients, log-sum-exps, and gradients over e^{L − base}. Zeros for no side."""
    g = tl.zeros(i.shape, tl.float32)
    r = g
    rescaled = g
    if side is not None:
        g = vector(side.gradient, i, count)
        if LSE:
            r = exponent(side.lse, i, count)
        if lse_range is not None:
            rescaled = vector(side.rescaled, i, count)
    return g, r, rescaled


@triton.jit
def shared_exp_of(lse_range):
    """One log-sum-exp, and whether all others lie near it; of one side alone nobody asks. The range holds how far some
    rows, and some columns, lie from it, MAX_PROGRAMS times each, and then it."""
    least = 0.0
    shared_exp_ok = True
    if lse_range is not None:
        least = tl.load(lse_range + 2 * MAX_PROGRAMS)
        shared_exp_ok = tl.max(tl.load(lse_range + tl.arange(0, 2 * MAX_PROGRAMS))) <= MAX_LSE_GAP
    return least, shared_exp_ok


@triton.jit
def weights(s, row, col, rows, cols, shared_exp, SHIFT: tl.constexpr, LSE: tl.constexpr, UNIT_UPSTREAM: tl.constexpr):
    """P of a tile, given what `upstream_of` says of its rows and columns. Either side may be None.

    For the log-sum-exps of rows alone P stands over 2^−SHIFT, and with UNIT_UPSTREAM lacks their gradients, by which the caller
    multiplies. One exponential serves rows and columns where all log-sum-exps lie near each other.
    """
    g, r, g_rescaled = rows
    h, c, h_rescaled = cols
    base, shared_exp_ok = shared_exp
    if not LSE:
        p = sigmoid(s) * (g[:, None] + h[None, :])
    elif col is None:
        p = exp(s - r[:, None]) * 2.0**SHIFT
        if not UNIT_UPSTREAM:
            p *= g[:, None]
    elif row is None:
        p = h[None, :] * exp(s - c[None, :])
    elif shared_exp_ok:
        # s is at most L_i and C_j: no factor overflows, and where e^{s − base} underflows so does the weight.
        p = exp(s - base) * (g_rescaled[:, None] + h_rescaled[None, :])
    else:
        p = g[:, None] * exp(s - r[:, None]) + h[None, :] * exp(s - c[None, :])
    return p


@triton.jit
def exponent(lse, i, count):
    """Log-sum-exps as what a tile's exponents are measured from: 0 for a row without pairs."""
    found = vector(lse, i, count)
    return tl.where(found == float("-inf"), tl.zeros_like(found), found)
