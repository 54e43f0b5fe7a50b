"""What a loss does to rows before, between and after its sweeps, each in one launch; O(N·D) work, of no weight but in launches.

meet     rows of two batches that belong together: divided by their norms, and their scores t_i
arrive   L_i from its parts, the loss of row i, and what share of its weight arrives at L_i as a gradient
deliver  the gradient of the rows as they were given, from the parts that a sweep left
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tile import SPREAD, base_of, exp, log_of, sigmoid, softplus

EPS = tl.constexpr(1e-12)  # the least norm that torch.nn.functional.normalize divides by


@triton.jit
def some(source, i, count, first, D: tl.constexpr, BD: tl.constexpr, DTYPE: tl.constexpr):
    """BD dimensions of rows i, zeros beyond the ends, in the dtype to compute in."""
    d = first + tl.arange(0, BD)
    inside = (i < count)[:, None] & (d < D)[None, :]
    return tl.load(source + i.to(tl.int64)[:, None] * D + d[None, :], mask=inside, other=0.0).to(DTYPE)


@triton.jit
def put(target, i, count, first, rows, D: tl.constexpr, BD: tl.constexpr):
    d = first + tl.arange(0, BD)
    tl.store(target + i.to(tl.int64)[:, None] * D + d[None, :], rows, mask=(i < count)[:, None] & (d < D)[None, :])


@triton.jit
def norms(source, i, count, D: tl.constexpr, BD: tl.constexpr, DTYPE: tl.constexpr):
    squares = tl.zeros(i.shape, DTYPE)
    for first in range(0, D, BD):
        z = some(source, i, count, first, D, BD, DTYPE)
        squares += tl.sum(z * z, axis=1)
    return tl.sqrt(squares)


@triton.jit
def over(z, norm):
    return z / tl.maximum(norm, EPS)[:, None]


@triton.jit(do_not_specialize=["a_first", "b_first", "rows"])
def meet(
    a, b, a_unit, b_unit, a_norm, b_norm, raw, t, scale, row_bias, a_first, b_first, rows,
    D: tl.constexpr, BD: tl.constexpr, BM: tl.constexpr, NORMALIZE: tl.constexpr, TWICE: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """a, b (rows, D), rows a_first … and b_first … of the units, which are None where nobody wants a copy. b and all that is for
    it may be None.

    raw, t (rows,)  ⟨a_i, b_i⟩ and α times it plus the row's bias, of rows as their scores will see them, which is rounded to
                    the dtype of a; with TWICE b's rows follow a's, and have the same
    """
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    if NORMALIZE:
        of_a = norms(a, i, rows, D, BD, DTYPE)
        tl.store(a_norm + i, of_a, mask=i < rows)
        if b is not None:
            of_b = norms(b, i, rows, D, BD, DTYPE)
            tl.store(b_norm + i, of_b, mask=i < rows)
    product = tl.zeros([BM], DTYPE)
    for first in range(0, D, BD):
        u = some(a, i, rows, first, D, BD, DTYPE)
        if NORMALIZE:
            u = over(u, of_a)
        if a_unit is not None:
            put(a_unit, a_first + i, a_first + rows, first, u, D, BD)
        if b is not None:
            v = some(b, i, rows, first, D, BD, DTYPE)
            if NORMALIZE:
                v = over(v, of_b)
            if b_unit is not None:
                put(b_unit, b_first + i, b_first + rows, first, v, D, BD)
            rounded = u.to(a.dtype.element_ty).to(DTYPE) * v.to(a.dtype.element_ty).to(DTYPE)
            product += tl.sum(rounded, axis=1)
    if t is not None:
        score = (product.to(tl.float64) * tl.load(scale)).to(DTYPE)
        if row_bias is not None:
            score += tl.load(row_bias + i, mask=i < rows, other=0.0)
        tl.store(raw + i, product, mask=i < rows)
        tl.store(t + i, score, mask=i < rows)
        if TWICE:
            tl.store(raw + rows + i, product, mask=i < rows)
            tl.store(t + rows + i, score, mask=i < rows)


@triton.jit
def whole(parts, i, count, stride, inside, BLOCK: tl.constexpr, TOGETHER: tl.constexpr, LSE: tl.constexpr):
    """Rows i of parts (count, stride), merged."""
    DTYPE: tl.constexpr = parts.dtype.element_ty
    most = tl.full([BLOCK], float("-inf"), DTYPE)
    total = tl.zeros([BLOCK], DTYPE)
    for start in range(0, count, TOGETHER):
        k = start + tl.arange(0, TOGETHER)
        at = k.to(tl.int64)[:, None] * stride + i[None, :]
        there = (k < count)[:, None] & inside[None, :]
        if LSE:
            found = tl.load(parts + at, mask=there, other=float("-inf"))
            now = tl.maximum(most, tl.max(found, axis=0))
            base = base_of(now)
            total = total * exp(most - base) + tl.sum(exp(found - base[None, :]), axis=0)
            most = now
        else:
            total += tl.sum(tl.load(parts + at, mask=there, other=0.0), axis=0)
    return log_of(most, total) if LSE else total


@triton.jit(do_not_specialize=["count", "origins", "origin_stride", "N"])
def arrive(
    parts, t, weight, before, lse, share, pair, losses, near, extent, origin, count, origins, origin_stride, N,
    SECOND: tl.constexpr, LSE: tl.constexpr, JOIN: tl.constexpr, BLOCK: tl.constexpr, TOGETHER: tl.constexpr,
):  # fmt: skip
    """parts (count, N) of L; t (N,) or None; weight 0-d, of each row. Rows come before columns, which are SECOND. Written are,
    pair and near unless they are None:

    lse, share (N,)  L_i, and ∂loss/∂L_i as a share of the weight
    pair (N,)        ∂loss/∂t_i as a share of the weight, on top of what is `before`
    losses (2 SPREAD,)  the sum of the losses of each program's rows, and zeros
    near (N,)        share over e^{L − L_0}
    extent           for `tile.nearness`: how far the rows of each program lie from L_0, and zeros, and L_0, which is that of the
                     first row of origin (origins, origin_stride); without an origin it is there already
    """
    DTYPE: tl.constexpr = parts.dtype.element_ty
    program, programs = tl.program_id(0), tl.num_programs(0)
    slot = program
    if SECOND:
        slot += SPREAD
    elif program == 0:
        k = tl.arange(0, 2 * SPREAD)
        tl.store(losses + k, 0.0, mask=k >= programs)
        if near is not None:
            tl.store(extent + k, 0.0, mask=k >= programs)
    loss = tl.zeros([BLOCK], DTYPE)
    far = tl.zeros([BLOCK], DTYPE)
    if origin is not None:
        none = tl.zeros([BLOCK], tl.int32)
        least = tl.max(whole(origin, none, origins, origin_stride, none == 0, BLOCK, TOGETHER, True))
        least = tl.where(least != least, 0.0, base_of(least))
        if program == 0:
            tl.store(extent + 2 * SPREAD, least)
    elif near is not None:
        least = tl.load(extent + 2 * SPREAD)
    for start in range(program * BLOCK, N, programs * BLOCK):
        i = start + tl.arange(0, BLOCK)
        inside = i < N
        found = whole(parts, i, count, N, inside, BLOCK, TOGETHER, LSE)
        if t is not None:
            score = tl.load(t + i, mask=inside, other=0.0)
        arriving = tl.full([BLOCK], 1.0, DTYPE)
        if JOIN == "anchor":
            arriving = sigmoid(found - score)
            each = softplus(found - score)
        elif JOIN == "minus":
            each = found - score
        elif JOIN == "softplus":
            each = found + softplus(-score)
        else:
            each = found
        loss += tl.where(inside, each, 0.0)
        tl.store(lse + i, found, mask=inside)
        tl.store(share + i, arriving, mask=inside)
        if pair is not None:
            taken = -sigmoid(-score) if JOIN == "softplus" else -arriving
            if before is not None:
                taken += tl.load(before + i, mask=inside, other=0.0)
            tl.store(pair + i, taken, mask=inside)
        if near is not None:
            empty = found == float("-inf")
            tl.store(near + i, tl.where(empty, 0.0, arriving * exp(least - found)), mask=inside)
            far = tl.maximum(far, tl.where(inside & ~empty, tl.abs(found - least), 0.0))
    tl.store(losses + slot, tl.sum(loss) * tl.load(weight).to(DTYPE))
    if near is not None:
        tl.store(extent + slot, tl.max(far))


@triton.jit
def arrived(
    parts, of_parts, lse, factor, scale, ahead, behind, pair, i, first, rows, count, N, M, shift,
    D: tl.constexpr, BD: tl.constexpr, SHARES: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """BD dimensions of the gradient of rows i as their scores saw them."""
    total = tl.zeros([i.shape[0], BD], DTYPE)
    for k in range(count):
        found = some(parts + k.to(tl.int64) * rows * D, i, rows, first, D, BD, DTYPE)
        if of_parts is not None:
            share = tl.load(of_parts + k.to(tl.int64) * rows + i, mask=i < rows, other=0.0)
            level = tl.load(lse + i, mask=i < rows, other=0.0)
            found *= exp(share - base_of(level))[:, None]
        total += found
    if factor is not None:
        total *= tl.load(factor + i, mask=i < rows, other=0.0)[:, None]
    if SHARES:
        total *= scale
    if ahead is not None:
        k = (i + shift) % M
        total += (tl.load(pair + i, mask=i < rows, other=0.0) * scale)[:, None] * some(ahead, k, M, first, D, BD, DTYPE)
    if behind is not None:
        k = (i + M - shift) % M
        total += (tl.load(pair + k, mask=k < N, other=0.0) * scale)[:, None] * some(behind, k, N, first, D, BD, DTYPE)
    return total


@triton.jit(do_not_specialize=["begin", "end", "rows", "count", "N", "M", "shift"])
def deliver(
    parts, of_parts, lse, factor, scale, weight, ahead, behind, pair, given, norm, out, begin, end, rows, count, N, M,
    shift, D: tl.constexpr, BD: tl.constexpr, BM: tl.constexpr, NORMALIZE: tl.constexpr, SHARES: tl.constexpr,
    DTYPE: tl.constexpr,
):  # fmt: skip
    """The gradient of rows begin … end − 1 of all `rows`, into the same rows of out.

    parts (count, rows, D)      what a sweep summed; with SHARES it lacks α and the weight. Where there are of_parts
                                (count, rows) each is a mean over its pairs, and counts e^{of_part − lse}; then times factor
    ahead (M, D), behind (N, D) rows of Y with which x_i pairs, in i + shift, and of X with which y_i does, in i − shift, times
                                pair (N,)
    given, norm (end − begin, …)  these rows and their norms before they were divided by them
    """
    i = begin + (tl.program_id(0) * BM + tl.arange(0, BM)).to(tl.int64)
    here, inside = i - begin, i < end
    factors = (tl.load(scale) * tl.load(weight)).to(DTYPE)
    if NORMALIZE:
        n = tl.load(norm + here, mask=inside, other=1.0)
        along = tl.zeros([BM], DTYPE)
        for first in range(0, D, BD):
            g = arrived(
                parts, of_parts, lse, factor, factors, ahead, behind, pair, i, first, rows, count, N, M, shift, D, BD, SHARES,
                DTYPE,
            )  # fmt: skip
            along += tl.sum(g * over(some(given, here, end - begin, first, D, BD, DTYPE), n), axis=1)
        along = tl.where(n > EPS, along, 0.0)
    for first in range(0, D, BD):
        g = arrived(
            parts, of_parts, lse, factor, factors, ahead, behind, pair, i, first, rows, count, N, M, shift, D, BD, SHARES,
            DTYPE,
        )  # fmt: skip
        if NORMALIZE:
            g = over(g - along[:, None] * over(some(given, here, end - begin, first, D, BD, DTYPE), n), n)
        put(out, i, end, first, g, D, BD)
