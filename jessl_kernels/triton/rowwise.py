"""What a loss does to rows before, between and after its sweeps, each in one launch; O(N·D) work, of no weight but in launches.

normalize_and_score    rows of two batches that belong together: divided by their norms, and the scores of the pairs
finalize_rows          L_i from its parts, the loss of row i, and its gradient at L_i, as a share of its weight
finalize_rows_of_many  the same of a row with several partners: at the log-sum-exp of the others, and at that of the partners
rows_backward          the gradient of the rows as they were given, from the parts that a sweep left
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tile import MAX_PROGRAMS, base_of, exp, log_of, sigmoid, softplus

EPS = tl.constexpr(1e-12)  # the least norm that torch.nn.functional.normalize divides by


@triton.jit
def load_rows(source, i, count, first, D: tl.constexpr, BD: tl.constexpr, DTYPE: tl.constexpr):
    """BD dimensions of rows i, zeros beyond the ends, in the dtype to compute in."""
    d = first + tl.arange(0, BD)
    inside = (i < count)[:, None] & (d < D)[None, :]
    return tl.load(source + i.to(tl.int64)[:, None] * D + d[None, :], mask=inside, other=0.0).to(DTYPE)


@triton.jit
def store_rows(target, i, count, first, rows, D: tl.constexpr, BD: tl.constexpr):
    d = first + tl.arange(0, BD)
    tl.store(target + i.to(tl.int64)[:, None] * D + d[None, :], rows, mask=(i < count)[:, None] & (d < D)[None, :])


@triton.jit
def norms(source, i, count, D: tl.constexpr, BD: tl.constexpr, DTYPE: tl.constexpr):
    squares = tl.zeros(i.shape, DTYPE)
    for first in range(0, D, BD):
        z = load_rows(source, i, count, first, D, BD, DTYPE)
        squares += tl.sum(z * z, axis=1)
    return tl.sqrt(squares)


@triton.jit
def divide_by_norm(z, norm):
    return z / tl.maximum(norm, EPS)[:, None]


@triton.jit(do_not_specialize=["a_first", "b_first", "rows"])
def normalize_and_score(
    a, b, a_unit, b_unit, a_norm, b_norm, raw, positive, scale, row_bias, a_first, b_first, rows,
    D: tl.constexpr, BD: tl.constexpr, BM: tl.constexpr, NORMALIZE: tl.constexpr, TWICE: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """a, b (rows, D), rows a_first … and b_first … of the units, which are None where nobody wants a copy. b and all that is for
    it may be None.

    raw, positive (rows,)  ⟨a_i, b_i⟩ and α times it plus the row's bias, of rows as their scores will see them, which is rounded
                           to the dtype of a; with TWICE b's rows follow a's, and have the same
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
        u = load_rows(a, i, rows, first, D, BD, DTYPE)
        if NORMALIZE:
            u = divide_by_norm(u, of_a)
        if a_unit is not None:
            store_rows(a_unit, a_first + i, a_first + rows, first, u, D, BD)
        if b is not None:
            v = load_rows(b, i, rows, first, D, BD, DTYPE)
            if NORMALIZE:
                v = divide_by_norm(v, of_b)
            if b_unit is not None:
                store_rows(b_unit, b_first + i, b_first + rows, first, v, D, BD)
            rounded = u.to(a.dtype.element_ty).to(DTYPE) * v.to(a.dtype.element_ty).to(DTYPE)
            product += tl.sum(rounded, axis=1)
    if positive is not None:
        score = (product.to(tl.float64) * tl.load(scale)).to(DTYPE)
        if row_bias is not None:
            score += tl.load(row_bias + i, mask=i < rows, other=0.0)
        tl.store(raw + i, product, mask=i < rows)
        tl.store(positive + i, score, mask=i < rows)
        if TWICE:
            tl.store(raw + rows + i, product, mask=i < rows)
            tl.store(positive + rows + i, score, mask=i < rows)


@triton.jit
def merge_parts(parts, i, count, stride, inside, BLOCK: tl.constexpr, PARTS_PER_LOAD: tl.constexpr, LSE: tl.constexpr):
    """Rows i of parts (count, stride), merged."""
    DTYPE: tl.constexpr = parts.dtype.element_ty
    most = tl.full([BLOCK], float("-inf"), DTYPE)
    total = tl.zeros([BLOCK], DTYPE)
    for start in range(0, count, PARTS_PER_LOAD):
        k = start + tl.arange(0, PARTS_PER_LOAD)
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


@triton.jit
def first_of(parts, count, stride, BLOCK: tl.constexpr, PARTS_PER_LOAD: tl.constexpr):
    """L_0, as what log-sum-exps are measured from: that of the first row of parts (count, stride)."""
    none = tl.zeros([BLOCK], tl.int32)
    least = tl.max(merge_parts(parts, none, count, stride, none == 0, BLOCK, PARTS_PER_LOAD, True))
    return tl.where(least != least, 0.0, base_of(least))


@triton.jit
def lse_offsets(found, share, least, inside):
    """share over e^{L − L_0}, and how far L lies from L_0; zeros for rows without pairs."""
    empty = found == float("-inf")
    rescaled = tl.where(empty, 0.0, share * exp(least - found))
    return rescaled, tl.where(inside & ~empty, tl.abs(found - least), 0.0)


@triton.jit
def zero(target, programs):
    """All places of a range of log-sum-exps, or of losses, but those that the programs write."""
    k = tl.arange(0, 2 * MAX_PROGRAMS)
    tl.store(target + k, 0.0, mask=k >= programs)


@triton.jit(do_not_specialize=["count", "origins", "origin_stride", "N"])
def finalize_rows(
    parts, positive, weight, before, lse, share, pair, losses, rescaled, lse_range, origin, count, origins, origin_stride, N,
    SECOND: tl.constexpr, LSE: tl.constexpr, JOIN: tl.constexpr, BLOCK: tl.constexpr, PARTS_PER_LOAD: tl.constexpr,
):  # fmt: skip
    """parts (count, N) of L; positive (N,) or None; weight 0-d, of each row. Rows come before columns, which are SECOND. Written
    are, pair and rescaled unless they are None:

    lse, share (N,)  L_i, and ∂loss/∂L_i as a share of the weight
    pair (N,)        ∂loss/∂positive_i as a share of the weight, on top of what is `before`
    losses           (2 MAX_PROGRAMS,), the sum of the losses of each program's rows, and zeros
    rescaled (N,)    share over e^{L − L_0}
    lse_range        for `tile.shared_exp_of`: how far the rows of each program lie from L_0, and zeros, and L_0, which is that of
                     the first row of origin (origins, origin_stride); without an origin it is there already
    """
    DTYPE: tl.constexpr = parts.dtype.element_ty
    program, programs = tl.program_id(0), tl.num_programs(0)
    slot = program
    if SECOND:
        slot += MAX_PROGRAMS
    elif program == 0:
        zero(losses, programs)
        if rescaled is not None:
            zero(lse_range, programs)
    loss = tl.zeros([BLOCK], DTYPE)
    far = tl.zeros([BLOCK], DTYPE)
    if origin is not None:
        least = first_of(origin, origins, origin_stride, BLOCK, PARTS_PER_LOAD)
        if program == 0:
            tl.store(lse_range + 2 * MAX_PROGRAMS, least)
    elif rescaled is not None:
        least = tl.load(lse_range + 2 * MAX_PROGRAMS)
    for start in range(program * BLOCK, N, programs * BLOCK):
        i = start + tl.arange(0, BLOCK)
        inside = i < N
        found = merge_parts(parts, i, count, N, inside, BLOCK, PARTS_PER_LOAD, LSE)
        if positive is not None:
            score = tl.load(positive + i, mask=inside, other=0.0)
        upstream = tl.full([BLOCK], 1.0, DTYPE)
        if JOIN == "anchor":
            upstream = sigmoid(found - score)
            each = softplus(found - score)
        elif JOIN == "minus":
            each = found - score
        elif JOIN == "softplus":
            each = found + softplus(-score)
        else:
            each = found
        loss += tl.where(inside, each, 0.0)
        tl.store(lse + i, found, mask=inside)
        tl.store(share + i, upstream, mask=inside)
        if pair is not None:
            taken = -sigmoid(-score) if JOIN == "softplus" else -upstream
            if before is not None:
                taken += tl.load(before + i, mask=inside, other=0.0)
            tl.store(pair + i, taken, mask=inside)
        if rescaled is not None:
            rescaled_share, distance = lse_offsets(found, upstream, least, inside)
            tl.store(rescaled + i, rescaled_share, mask=inside)
            far = tl.maximum(far, distance)
    tl.store(losses + slot, tl.sum(loss) * tl.load(weight).to(DTYPE))
    if rescaled is not None:
        tl.store(lse_range + slot, tl.max(far))


@triton.jit(do_not_specialize=["others_count", "partners_count", "N"])
def finalize_rows_of_many(
    others, partners, linear, positives, weight, of_others, of_partners, linear_grad, losses, others_lse_range,
    partners_lse_range, others_count, partners_count, N, OUT: tl.constexpr, BLOCK: tl.constexpr, PARTS_PER_LOAD: tl.constexpr,
):  # fmt: skip
    """SupCon, from parts of log-sum-exps, (…_count, N): of each row over the rows of other labels, O_i, and over its positives,
    P_i; linear, likewise, of Σ_p s_ip. positives (N,) how many those are; weight 0-d, of each row. Written are

    of_others, of_partners  `Side`s of O_i and P_i as `finalize_rows` makes them; gradients, as shares of the weight, may be
                            negative
    linear_grad (N,)        with OUT, what is taken off ∂loss/∂s_ip
    losses, …_lse_range     as in `finalize_rows`

    The loss is log(1 + e^{O − P}) + P − mean_p s_ip, with OUT; else log(1 + e^{O − P}) + log |positives|. Of one positive both
    are the first term.
    """
    DTYPE: tl.constexpr = others.dtype.element_ty
    program, programs = tl.program_id(0), tl.num_programs(0)
    loss = tl.zeros([BLOCK], DTYPE)
    others_far = tl.zeros([BLOCK], DTYPE)
    partners_far = tl.zeros([BLOCK], DTYPE)
    others_least = first_of(others, others_count, N, BLOCK, PARTS_PER_LOAD)
    partners_least = first_of(partners, partners_count, N, BLOCK, PARTS_PER_LOAD)
    if program == 0:
        zero(losses, programs)
        zero(others_lse_range, programs)
        zero(partners_lse_range, programs)
        tl.store(others_lse_range + 2 * MAX_PROGRAMS, others_least)
        tl.store(partners_lse_range + 2 * MAX_PROGRAMS, partners_least)
    for start in range(program * BLOCK, N, programs * BLOCK):
        i = start + tl.arange(0, BLOCK)
        inside = i < N
        count = tl.load(positives + i, mask=inside, other=0).to(DTYPE)
        o = merge_parts(others, i, others_count, N, inside, BLOCK, PARTS_PER_LOAD, True)
        p = merge_parts(partners, i, partners_count, N, inside, BLOCK, PARTS_PER_LOAD, True)
        at_others = sigmoid(o - p)
        at_partners = -at_others
        each = softplus(o - p)
        if OUT:
            several = count > 1
            mean = merge_parts(linear, i, partners_count, N, inside, BLOCK, PARTS_PER_LOAD, False) / count
            at_partners += tl.where(several, 1.0, 0.0)
            each += tl.where(several, p - mean, 0.0)
            tl.store(linear_grad + i, tl.where(several, 1.0 / count, 0.0), mask=inside)
        else:
            each += tl.log(count)
        loss += tl.where(count > 0, each, 0.0)
        at_others = tl.where(count > 0, at_others, 0.0)
        at_partners = tl.where(count > 0, at_partners, 0.0)
        others_rescaled, others_distance = lse_offsets(o, at_others, others_least, inside)
        partners_rescaled, partners_distance = lse_offsets(p, at_partners, partners_least, inside)
        tl.store(of_others.gradient + i, at_others, mask=inside)
        tl.store(of_others.lse + i, o, mask=inside)
        tl.store(of_others.rescaled + i, others_rescaled, mask=inside)
        tl.store(of_partners.gradient + i, at_partners, mask=inside)
        tl.store(of_partners.lse + i, p, mask=inside)
        tl.store(of_partners.rescaled + i, partners_rescaled, mask=inside)
        others_far = tl.maximum(others_far, others_distance)
        partners_far = tl.maximum(partners_far, partners_distance)
    tl.store(losses + program, tl.sum(loss) * tl.load(weight).to(DTYPE))
    tl.store(others_lse_range + program, tl.max(others_far))
    tl.store(partners_lse_range + program, tl.max(partners_far))


@triton.jit
def gradient_of_rows(
    parts, of_parts, lse, factor, scale, ahead, behind, pair, i, first, rows, count, N, M, shift,
    D: tl.constexpr, BD: tl.constexpr, SHARES: tl.constexpr, DTYPE: tl.constexpr,
):  # fmt: skip
    """BD dimensions of the gradient of rows i as their scores saw them."""
    total = tl.zeros([i.shape[0], BD], DTYPE)
    for k in range(count):
        found = load_rows(parts + k.to(tl.int64) * rows * D, i, rows, first, D, BD, DTYPE)
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
        at_partner = tl.load(pair + i, mask=i < rows, other=0.0) * scale
        total += at_partner[:, None] * load_rows(ahead, k, M, first, D, BD, DTYPE)
    if behind is not None:
        k = (i + M - shift) % M
        at_partner = tl.load(pair + k, mask=k < N, other=0.0) * scale
        total += at_partner[:, None] * load_rows(behind, k, N, first, D, BD, DTYPE)
    return total


@triton.jit(do_not_specialize=["begin", "end", "rows", "count", "N", "M", "shift"])
def rows_backward(
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
            g = gradient_of_rows(
                parts, of_parts, lse, factor, factors, ahead, behind, pair, i, first, rows, count, N, M, shift, D, BD, SHARES,
                DTYPE,
            )  # fmt: skip
            along += tl.sum(g * divide_by_norm(load_rows(given, here, end - begin, first, D, BD, DTYPE), n), axis=1)
        along = tl.where(n > EPS, along, 0.0)
    for first in range(0, D, BD):
        g = gradient_of_rows(
            parts, of_parts, lse, factor, factors, ahead, behind, pair, i, first, rows, count, N, M, shift, D, BD, SHARES,
            DTYPE,
        )  # fmt: skip
        if NORMALIZE:
            unit = divide_by_norm(load_rows(given, here, end - begin, first, D, BD, DTYPE), n)
            g = divide_by_norm(g - along[:, None] * unit, n)
        store_rows(out, i, end, first, g, D, BD)
