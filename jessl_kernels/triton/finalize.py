"""The O(N) work between the sweeps, in one launch each, because only the launches cost time. Parts are merged in a fixed order.

merge_sums     sums over all pairs, from sums over parts of them
finalize_rows  the same; then the loss of each row, f(N, P, spread, n), and the gradients of the sums, as shares of the weight
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tile import MAX_PROGRAMS, base_of
from .words import exp, join_slopes, join_value, psi_of, psi_slope


@triton.jit
def merge_linear(parts, i, count, stride, inside, BLOCK: tl.constexpr, PARTS_PER_LOAD: tl.constexpr):
    """Rows i of parts (count, stride), added up."""
    total = tl.zeros([BLOCK], parts.dtype.element_ty)
    for start in range(0, count, PARTS_PER_LOAD):
        k = start + tl.arange(0, PARTS_PER_LOAD)
        at = k.to(tl.int64)[:, None] * stride + i[None, :]
        total += tl.sum(tl.load(parts + at, mask=(k < count)[:, None] & inside[None, :], other=0.0), axis=0)
    return total


@triton.jit
def level_of_part(reference, total):
    """The reference of a part for merging: −∞ for a part without pairs, so that it is not the largest; +∞ for an infinite part,
    which might otherwise be multiplied by 0."""
    return tl.where(total == 0, float("-inf"), tl.where(total == float("inf"), total, reference))


@triton.jit
def merge_exponentials(
    reference, total, also, i, count, stride, inside, BLOCK: tl.constexpr, PARTS_PER_LOAD: tl.constexpr
):
    """Reference and total of rows i over parts (count, stride) and, unless None, the log-sum-exps `also` (stride,)."""
    DTYPE: tl.constexpr = total.dtype.element_ty
    most = tl.full([BLOCK], float("-inf"), DTYPE)
    sums = tl.zeros([BLOCK], DTYPE)
    if also is not None:
        most = tl.load(also + i, mask=inside, other=float("-inf"))
        sums = tl.where(most == float("-inf"), 0.0, 1.0).to(DTYPE)
    for start in range(0, count, PARTS_PER_LOAD):
        k = start + tl.arange(0, PARTS_PER_LOAD)
        at = k.to(tl.int64)[:, None] * stride + i[None, :]
        there = (k < count)[:, None] & inside[None, :]
        found = tl.load(total + at, mask=there, other=0.0)
        level = level_of_part(tl.load(reference + at, mask=there, other=float("-inf")), found)
        now = tl.maximum(most, tl.max(level, axis=0))
        base = base_of(now)
        sums = sums * exp(most - base) + tl.sum(found * exp(level - base[None, :]), axis=0)
        most = now
    # A column that lies far below its tile's largest score, from which it was measured, gets a nearer reference.
    low = (sums > 0) & (sums < 1)
    base = base_of(most)
    nearer = base + tl.log(tl.where(low, sums, 1.0))
    return nearer, sums * exp(base - nearer)


@triton.jit
def merged(parts, k, also, i, count, n, inside, BLOCK: tl.constexpr, PARTS_PER_LOAD: tl.constexpr):
    """Reference and total of tilt k of rows i, of n rows. A ψ has no reference: the total is returned in its place."""
    skip = k * count.to(tl.int64) * n
    if parts.reference is None:
        total = merge_linear(parts.total + skip, i, count, n, inside, BLOCK, PARTS_PER_LOAD)
        reference = total
    else:
        reference, total = merge_exponentials(
            parts.reference + skip, parts.total + skip, also, i, count, n, inside, BLOCK, PARTS_PER_LOAD
        )
    return reference, total


@triton.jit(do_not_specialize=["count", "N", "stride"])
def merge_sums(
    first, parts, made, count, N, stride, TILTS: tl.constexpr, ADD: tl.constexpr, BLOCK: tl.constexpr,
    PARTS_PER_LOAD: tl.constexpr,
):  # fmt: skip
    """Merge `count` parts into sums, where each tilt lies a stride after the one before; ADD: add to the sums that are there.
    first is any tensor of the parts."""
    for start in range(tl.program_id(0) * BLOCK, N, tl.num_programs(0) * BLOCK):
        i = start + tl.arange(0, BLOCK)
        inside = i < N
        for k in tl.static_range(TILTS):
            at = k * stride.to(tl.int64) + i
            level, total = merged(parts, k, None, i, count, N, inside, BLOCK, PARTS_PER_LOAD)
            if ADD:
                before = tl.load(made.total + at, mask=inside, other=0.0)
            if parts.reference is None:
                if ADD:
                    total += before
            else:
                if ADD:
                    other = level_of_part(tl.load(made.reference + at, mask=inside, other=0.0), before)
                    level = level_of_part(level, total)
                    base = base_of(tl.maximum(level, other))
                    total = total * exp(level - base) + before * exp(other - base)
                    level = base
                tl.store(made.reference + at, level, mask=inside)
            tl.store(made.total + at, total, mask=inside)
        if parts.linear is not None:
            linear = merge_linear(parts.linear, i, count, N, inside, BLOCK, PARTS_PER_LOAD)
            pairs = merge_linear(parts.count, i, count, N, inside, BLOCK, PARTS_PER_LOAD)
            if ADD:
                linear += tl.load(made.linear + i, mask=inside, other=0.0)
                pairs += tl.load(made.count + i, mask=inside, other=0.0)
            tl.store(made.linear + i, linear, mask=inside)
            tl.store(made.count + i, pairs, mask=inside)


@triton.jit
def first_reference(parts, k, count, N, BLOCK: tl.constexpr, PARTS_PER_LOAD: tl.constexpr):
    """The reference of the first row for tilt k: the common reference of all rows."""
    row = tl.zeros([BLOCK], tl.int32)
    reference, _ = merged(parts, k, None, row, count, N, row == 0, BLOCK, PARTS_PER_LOAD)
    least = tl.max(reference)
    return tl.where(least != least, 0.0, base_of(least))


@triton.jit
def zero(target, programs):
    """Write 0 to all places of a range of references, or of losses, that no program writes."""
    k = tl.arange(0, 2 * MAX_PROGRAMS)
    tl.store(target + k, 0.0, mask=k >= programs)


@triton.jit
def weighted(slope, weight):
    """slope · weight; 0 for a weight of 0, even if the slope is NaN because its row has an infinite score."""
    return tl.where(weight == 0, 0.0, slope * weight)


@triton.jit(do_not_specialize=["count", "positives_count", "origins", "origin_rows", "N", "first", "rows", "roll"])
def finalize_rows(
    like, negatives, positives, positive, index, also, weights, weight, before, to_negatives, to_positives, pair, of_also, losses,
    counted, lse_range, origin, count, positives_count, origins, origin_rows, N, first, rows, roll,
    SECOND: tl.constexpr, OP: tl.constexpr, TILTS: tl.constexpr, POSITIVE_OP: tl.constexpr, POSITIVE_TILT: tl.constexpr,
    JOIN: tl.constexpr, BLOCK: tl.constexpr, PARTS_PER_LOAD: tl.constexpr,
):  # fmt: skip
    """The loss of rows first … first + rows − 1 of N, from the parts of their sums. SECOND: these are columns, after the rows.

    negatives             `Sums` of `count` parts
    positives             the same of several positives a row, of one tilt; or positive (N,), the score of one positive a row, of
                          row i at i − roll; rows with a negative index (N,) have none. All are None without positives
    also (N,)             log-sum-exps that are added to the negatives; or None
    weights (N,), weight  of each row, None for 1; of the whole loss, 0-d

    Results, each of which may be None; all but the losses are shares of the weight:

    to_negatives, to_positives   `launch.Side`s (…, N): the weights of each sum, and their rescaled factors
    pair (N,)        ∂loss/∂positive_i in the place of positive_i, plus `before`
    of_also (N,)     ∂loss/∂also_i
    losses, counted  (2 MAX_PROGRAMS,), the sum of the losses of each program's rows, and how many have positives; else 0
    lse_range        for `tile.bases_of`: how far the references of each program's rows lie from the common reference, and that
                     reference. It is the first row's of origin, `origins` parts of sums of origin_rows rows; without an origin
                     it is in lse_range already
    """
    DTYPE: tl.constexpr = negatives.total.dtype.element_ty
    program, programs = tl.program_id(0), tl.num_programs(0)
    slot = program
    if SECOND:
        slot += MAX_PROGRAMS
    elif program == 0:
        if losses is not None:
            zero(losses, programs)
        if counted is not None:
            zero(counted, programs)
        if lse_range is not None:
            zero(lse_range, programs)
    bases = ()
    for k in tl.static_range(len(TILTS)):
        base = 0.0
        if origin.total is not None:
            base = first_reference(origin, k, origins, origin_rows, BLOCK, PARTS_PER_LOAD)
            if program == 0:
                tl.store(lse_range + 2 * MAX_PROGRAMS + k, base)
        elif lse_range is not None:
            base = tl.load(lse_range + 2 * MAX_PROGRAMS + k)
        bases = bases + (base,)
    loss = tl.zeros([BLOCK], DTYPE)
    with_positives = tl.zeros([BLOCK], DTYPE)
    far = tl.zeros([BLOCK], DTYPE)
    for start in range(program * BLOCK, rows, programs * BLOCK):
        here = start + tl.arange(0, BLOCK)
        inside = here < rows
        i = first + here
        logs, references, totals = (), (), ()
        for k in tl.static_range(len(TILTS)):
            reference, total = merged(
                negatives, k, None if also is None else also + first, here, count, rows, inside, BLOCK, PARTS_PER_LOAD
            )
            logs = logs + (reference + tl.log(total) if OP == "logsumexp" else total,)
            references, totals = references + (reference,), totals + (total,)
        P = tl.zeros([BLOCK], DTYPE)
        spread, n = P, P + 1.0
        many = n
        if positives.total is not None:
            many = merge_linear(positives.count, here, positives_count, rows, inside, BLOCK, PARTS_PER_LOAD)
            n = tl.maximum(many, 1.0)
            level, of_level = merged(positives, 0, None, here, positives_count, rows, inside, BLOCK, PARTS_PER_LOAD)
            P = of_level
            if POSITIVE_OP == "logsumexp":
                P = tl.where(many > 0, level + tl.log(of_level), 0.0)
                linear = merge_linear(positives.linear, here, positives_count, rows, inside, BLOCK, PARTS_PER_LOAD)
                spread = tl.where(many > 1, P - linear / n, 0.0)  # a single score is its own mean to the last digit
        at_pair = tl.where(i < roll, i - roll + N, i - roll)
        if positive is not None:
            score = tl.load(positive + at_pair, mask=inside, other=0.0)
            if index is not None:
                many = (tl.load(index + i, mask=inside, other=-1) >= 0).to(DTYPE)
                score = tl.where(many > 0, score, 0.0)
            P = score if POSITIVE_OP == "logsumexp" else psi_of(score, POSITIVE_OP, POSITIVE_TILT)
        each = (
            tl.full([BLOCK], 1.0, DTYPE) if weights is None else tl.load(weights + i, mask=inside, other=0.0).to(DTYPE)
        )
        if JOIN != "none":
            each = tl.where(many > 0, each, 0.0)
        of_n, of_p, of_spread = join_slopes(logs, P, spread, n, JOIN)
        loss += tl.where(inside, weighted(join_value(logs, P, spread, n, JOIN), each), 0.0)
        with_positives += tl.where(inside & (many > 0), 1.0, 0.0)
        for k in tl.static_range(len(TILTS)):
            at = k * N.to(tl.int64) + i
            slope = weighted(of_n[k], each)
            factor = slope * TILTS[k]
            if OP == "logsumexp":
                empty = totals[k] == 0
                factor = tl.where(empty, 0.0, factor / totals[k])
                if of_also is not None:
                    share = exp(tl.load(also + i, mask=inside, other=float("-inf")) - references[k])
                    tl.store(of_also + i, factor * share, mask=inside)
                if to_negatives.reference is not None:
                    tl.store(to_negatives.reference + at, references[k], mask=inside)
                if to_negatives.rescaled is not None:
                    rescaled = tl.where(empty, 0.0, factor * exp(bases[k] - references[k]))
                    tl.store(to_negatives.rescaled + at, rescaled, mask=inside)
                    far = tl.maximum(far, tl.where(inside & ~empty, tl.abs(references[k] - bases[k]), 0.0))
            if to_negatives.factor is not None:
                tl.store(to_negatives.factor + at, factor, mask=inside)
        at_p = weighted(of_p, each)
        if to_positives.factor is not None:
            factor = at_p * POSITIVE_TILT
            if POSITIVE_OP == "logsumexp":
                factor = tl.where(many > 0, factor / of_level, 0.0)
                tl.store(to_positives.reference + i, level, mask=inside)
                if to_positives.spread is not None:
                    at_spread = tl.where(many > 1, weighted(of_spread, each), 0.0)
                    tl.store(to_positives.spread + i, tl.where(many > 1, at_spread / of_level, 0.0), mask=inside)
                    tl.store(to_positives.mean + i, at_spread / n, mask=inside)
            tl.store(to_positives.factor + i, factor, mask=inside)
        if pair is not None:
            if POSITIVE_OP != "logsumexp":
                at_p *= POSITIVE_TILT * psi_slope(score, POSITIVE_OP, POSITIVE_TILT)
            if before is not None:
                at_p += tl.load(before + at_pair, mask=inside, other=0.0)
            tl.store(pair + at_pair, at_p, mask=inside)
    if losses is not None:
        tl.store(losses + slot, tl.sum(loss) * tl.load(weight).to(DTYPE))
    if counted is not None:
        tl.store(counted + slot, tl.sum(with_positives))
    if lse_range is not None:
        tl.store(lse_range + slot, tl.max(far))
