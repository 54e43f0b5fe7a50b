"""The O(N·D) work of a loss before and after its sweeps, in one launch each, because only the launches cost time.

normalize_and_score  divides rows of two batches by their norms, and scores each row with its partner
rows_backward        the gradient of the rows as they were given, from the parts that a sweep left
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tile import MAX_PROGRAMS, rows_of, store_rows, vector
from .words import exp, phi_of, phi_slope

EPS = tl.constexpr(1e-12)  # the least norm that torch.nn.functional.normalize divides by


@triton.jit
def norms(source, i, count, D: tl.constexpr, BD: tl.constexpr, DTYPE: tl.constexpr):
    squares = tl.zeros(i.shape, DTYPE)
    for first in range(0, D, BD):
        z = rows_of(source, i, i < count, first, D, BD).to(DTYPE)
        squares += tl.sum(z * z, axis=1)
    return tl.sqrt(squares)


@triton.jit
def divide_by_norm(z, norm):
    return z / tl.maximum(norm, EPS)[:, None]


@triton.jit
def partner_of(index, i, count, shift, M):
    """The column of row i's partner; −1 for none, and beyond the end."""
    if index is None:
        k = i - (M - shift)
        k = tl.where(k < 0, k + M, k)
    else:
        k = tl.load(index + i, mask=i < count, other=-1)
    return tl.where(i < count, k, -1)


@triton.jit(do_not_specialize=["a_first", "b_first", "rows", "shift", "M"])
def normalize_and_score(
    a, b, a_unit, b_unit, a_norm, b_norm, raw, positive, scale, row_bias, col_bias, index, a_first, b_first, rows, shift, M,
    D: tl.constexpr, BD: tl.constexpr, BM: tl.constexpr, NORMALIZE: tl.constexpr, BESIDE: tl.constexpr, TWICE: tl.constexpr,
    KIND: tl.constexpr, PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """a (rows, D) becomes rows a_first … of a_unit, which is None if no copy is wanted. b and its other arguments may be None.
    With BESIDE, b is (rows, D) like a; otherwise it is (M, D) and normalised already, and `partner_of` names its rows.

    raw, positive (rows,)  t of each row and its partner, and the score φ(α t) plus biases, from rows rounded to the dtype of a,
                           as the sweeps see them; with TWICE b's rows follow a's in raw and positive, with the same numbers
    """
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    k = partner_of(index, i, rows, shift, M)
    if NORMALIZE:
        of_a = norms(a, i, rows, D, BD, DTYPE)
        tl.store(a_norm + i, of_a, mask=i < rows)
        if BESIDE:
            of_b = norms(b, i, rows, D, BD, DTYPE)
            tl.store(b_norm + i, of_b, mask=i < rows)
    t = tl.zeros([BM], DTYPE)
    for first in range(0, D, BD):
        u = rows_of(a, i, i < rows, first, D, BD).to(DTYPE)
        if NORMALIZE:
            u = divide_by_norm(u, of_a)
        if a_unit is not None:
            store_rows(a_unit, (a_first + i).to(tl.int64), i < rows, first, u, D, BD)
        if b is not None:
            other = i if BESIDE else k
            v = rows_of(b, other, (i < rows) & (other >= 0), first, D, BD).to(DTYPE)
            if NORMALIZE and BESIDE:
                v = divide_by_norm(v, of_b)
            if b_unit is not None:
                store_rows(b_unit, (b_first + i).to(tl.int64), i < rows, first, v, D, BD)
            u, v = u.to(a.dtype.element_ty).to(DTYPE), v.to(a.dtype.element_ty).to(DTYPE)
            t += tl.sum(u * v, axis=1) if KIND == "dot" else -tl.sum((u - v) * (u - v), axis=1)
    if positive is not None:
        score = phi_of((t.to(tl.float64) * tl.load(scale)).to(DTYPE), PHI, LOW, HIGH)
        if row_bias is not None:
            score += tl.load(row_bias + i, mask=i < rows, other=0.0)
        if col_bias is not None:
            score += tl.load(col_bias + k, mask=k >= 0, other=0.0)
        tl.store(raw + i, t, mask=i < rows)
        tl.store(positive + i, score, mask=i < rows)
        if TWICE:
            tl.store(raw + rows + i, t, mask=i < rows)
            tl.store(positive + rows + i, score, mask=i < rows)


@triton.jit
def of_partner(
    other, unit, k, i, pair, raw, at, N, first, alpha, D: tl.constexpr, BD: tl.constexpr, KIND: tl.constexpr, PHI: tl.constexpr,
    LOW: tl.constexpr, HIGH: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """The gradient of rows i through their partners k; 0 for a negative k. pair and raw hold all N pairs, those of i `at`."""
    weight = vector(pair, at, N)
    if PHI != "identity":
        weight *= phi_slope(vector(raw, at, N) * alpha, PHI, LOW, HIGH)
    apart = rows_of(other, k, k >= 0, first, D, BD).to(DTYPE)
    if KIND != "dot":
        weight *= 2.0
        apart -= rows_of(unit, i, k >= 0, first, D, BD).to(DTYPE)
    return tl.where(k >= 0, weight * alpha, 0.0)[:, None] * apart


@triton.jit(do_not_specialize=["first_row", "begin", "end", "rows", "count", "N", "M", "shift"])
def rows_backward(
    parts, of_parts, to_rows, scale, weight, counted, ahead, behind, pair, raw, index, unit, given, norm, out, first_row, begin,
    end, rows, count, N, M, shift, D: tl.constexpr, BD: tl.constexpr, BM: tl.constexpr, NORMALIZE: tl.constexpr,
    SCALED: tl.constexpr, KIND: tl.constexpr, PHI: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """Write the gradient of rows begin … end − 1 of X, or of Y, to out, which begins with row first_row, as do the parts.

    parts (count, rows, D)       sums of a sweep; unless SCALED they lack the factor α (2α for distances). With of_parts
                                 (count, rows) each part is multiplied by e^{of_part − reference} and by the factor of to_rows,
                                 a Side
    weight, counted              0-d, the weight of the loss; divided by the sum of `counted`, (2 MAX_PROGRAMS,), unless None
    ahead (M, D), behind (N, D)  Y, whose row `partner_of` i pairs with x_i; and X, whose row i − shift pairs with y_i; times the
                                 gradients pair (N,); raw (N,) holds their t
    unit, given, norm            all rows as the sweeps saw them; rows begin … end − 1 before normalisation, and their norms
    """
    i = begin + (tl.program_id(0) * BM + tl.arange(0, BM)).to(tl.int64)
    given_at, here, inside = i - begin, i - first_row, i < end
    alpha = tl.load(scale).to(DTYPE)
    factors = tl.full([], 1.0, DTYPE)
    if not SCALED:
        factors = alpha * (1.0 if KIND == "dot" else 2.0)
    of_all = tl.load(weight).to(DTYPE)
    if counted is not None:
        of_all /= tl.maximum(tl.sum(tl.load(counted + tl.arange(0, 2 * MAX_PROGRAMS))), 1.0)
    if NORMALIZE:
        n = tl.load(norm + given_at, mask=inside, other=1.0)
        along = tl.zeros([BM], DTYPE)
    for last in tl.static_range(
        0 if NORMALIZE else 1, 2
    ):  # how far the gradient points along the rows; then what is left
        for first in range(0, D, BD):
            g = tl.zeros([BM, BD], DTYPE)
            for k in range(count):
                found = rows_of(parts + k.to(tl.int64) * rows * D, here, here < rows, first, D, BD).to(DTYPE)
                if of_parts is not None:
                    level = tl.load(of_parts + k.to(tl.int64) * rows + here, mask=here < rows, other=float("-inf"))
                    found *= exp(level - vector(to_rows.reference, here, rows))[:, None]
                g += found
            if of_parts is not None:
                g *= vector(to_rows.factor, here, rows)[:, None]
            g *= factors
            if ahead is not None:
                k = partner_of(index, i, N, shift, M)
                g += of_partner(ahead, unit, k, i, pair, raw, i, N, first, alpha, D, BD, KIND, PHI, LOW, HIGH, DTYPE)
            if behind is not None:
                at = (i + M - shift) % M
                k = tl.where(inside & (at < N), at, -1)
                g += of_partner(behind, unit, k, i, pair, raw, at, N, first, alpha, D, BD, KIND, PHI, LOW, HIGH, DTYPE)
            if NORMALIZE:
                unit_rows = divide_by_norm(rows_of(given, given_at, inside, first, D, BD).to(DTYPE), n)
            if last == 0:
                along += tl.sum(g * unit_rows, axis=1)
            else:
                if NORMALIZE:
                    g = divide_by_norm(g - tl.where(n > EPS, along, 0.0)[:, None] * unit_rows, n)
                store_rows(out, here, inside, first, g * of_all, D, BD)
