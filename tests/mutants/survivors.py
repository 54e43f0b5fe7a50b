"""Mutants that no check tells from the original, and why none can."""

_UNREAD = "rows beyond the end are not stored, and columns beyond it have the score −inf and the weight 0"
_UNSTORED = "what is beyond the end is not stored"
_AT_BOUND = "at the bound itself both are the bound"
_BRANCH = "it decides whether one exponential is taken or two, which make the same"
_WIDE = "64 bits hold the same number"
_ORIGIN = (
    "exponents may be measured from any number: rows far from it take two exponentials, which make the same as one"
)
_NOT_A_NUMBER = "of a NaN in the first row every column's log-sum-exp is one, and so everything"
_ALONE = "a row without partners has none to weigh"
_EMPTY = "a row without pairs then lies far from the others: two exponentials are taken, which make the same as one"
_FALLBACK = "where it differs the sums of all columns are 0, infinite or NaN, and are made anew, each from its own largest score"

EXPLAINED: dict[str, str] = {
    "exp: x.dtype == tl.float64 → x.dtype != tl.float64": "both are e^x, but for the last bits; in fp32 one costs more",
    "column_of: tl.load(source + i.to(tl.int64) * D + d, mask=i < count, other=0.0) → "
    "tl.load(source + i.to(tl.int64) * D + d, mask=i < count, other=7.0)": _UNREAD,
    "vector: tl.load(source + i, mask=i < count, other=0.0) → tl.load(source + i, mask=i < count, other=7.0)": _UNREAD,
    "ids: tl.load(source + i, mask=i < count, other=-1) → tl.load(source + i, mask=i < count, other=0)": _UNREAD,
    "differences: column_of(x, i, N, d, D, DTYPE)[:, None] - column_of(y, j, M, d, D, DTYPE)[None, :] → "
    "column_of(y, j, M, d, D, DTYPE)[None, :] - column_of(x, i, N, d, D, DTYPE)[:, None]": (
        "the difference is squared, and a − b is −(b − a) to the last bit"
    ),
    "phi_of: u < low → u <= low": _AT_BOUND,
    "phi_of: u > high → u >= high": _AT_BOUND,
    "scores_of: BN - 1 → BN": "one diagonal more is looked for in the tile, and not found",
    "log_of: base_of(largest) → largest": "where there is no base, largest is infinite, and is the log-sum-exp itself",
    "absorbed_both: base_of(tl.max(now)) → tl.max(now)": _FALLBACK,
    "absorbed_both: tl.min(sums) >= MIN_SUM → tl.min(sums) > MIN_SUM": _BRANCH,
    "absorbed_both: tl.max(now) < float('inf') → tl.max(now) > float('inf')": _BRANCH,
    "absorbed_both: tl.where(now == float('-inf'), 0.0, exp(base - most)) → exp(base - most)": _FALLBACK,
    "absorbed_both: now == float('-inf') → now != float('-inf')": _FALLBACK,
    "absorbed_both: 0.0 → 1.0": "it is multiplied by e^{−inf}",
    "normalize_and_score: u.to(a.dtype.element_ty).to(DTYPE) → u.to(a.dtype.element_ty)": (
        "the other factor is wide, and so the product is"
    ),
    "normalize_and_score: tl.load(row_bias + i, mask=i < rows, other=0.0) → "
    "tl.load(row_bias + i, mask=i < rows, other=7.0)": _UNSTORED,
    "column_range: tl.load(pairs.last + tl.minimum(first_i + BM, N) - 1).to(tl.int32) → "
    "tl.load(pairs.last + tl.minimum(first_i + BM, N) - 1)": _WIDE,
    "column_range: tl.load(pairs.first + first_i).to(tl.int32) → tl.load(pairs.first + first_i)": _WIDE,
    "column_range: pairs.first + first_i → pairs.first": "tiles are looked at whose pairs are all left out",
    "first_of: tl.zeros([BLOCK], tl.int32) → tl.zeros([BLOCK], tl.int32) + 1": _ORIGIN,
    "first_of: tl.max(merge_parts(parts, none, count, stride, none == 0, BLOCK, PARTS_PER_LOAD, True)) → "
    "tl.min(merge_parts(parts, none, count, stride, none == 0, BLOCK, PARTS_PER_LOAD, True))": "all of them are the first row",
    "first_of: tl.where(least != least, 0.0, base_of(least)) → tl.where(least != least, base_of(least), 0.0)": _ORIGIN,
    "first_of: tl.where(least != least, 0.0, base_of(least)) → base_of(least)": _NOT_A_NUMBER,
    "first_of: least != least → least == least": _ORIGIN,
    "first_of: 0.0 → 1.0": _ORIGIN,
    "first_of: base_of(least) → least": "an infinite one is far from all others: " + _BRANCH,
    "first_of: none == 0 → none != 0": _ORIGIN,
    "lse_offsets: 0.0 → 1.0": "all scores of a row without pairs are −inf, and their exponentials 0, times anything",
    "lse_offsets: 0.0 → 1.0 (2)": "1 is near too",
    "lse_offsets: tl.where(inside & ~empty, tl.abs(found - least), 0.0) → tl.abs(found - least)": _EMPTY,
    "lse_offsets: inside & ~empty → inside": _EMPTY,
    "lse_offsets: inside & ~empty → ~empty": "a row beyond the end has no parts, and so is empty",
    "lse_offsets: found - least → least - found": "of both the size is taken",
    "finalize_rows_of_many: tl.where(count > 0, at_partners, 0.0) → at_partners": _ALONE,
    "finalize_rows_of_many: count > 0 → count >= 0 (3)": _ALONE,
    "pull: N → M (11)": "what is taken off weights is given for symmetric problems",
    "finalize_rows: tl.load(before + i, mask=inside, other=0.0) → tl.load(before + i, mask=inside, other=7.0)": _UNSTORED,
    "gradient_of_rows: tl.load(pair + k, mask=k < N, other=0.0) → tl.load(pair + k, mask=k < N, other=7.0)": (
        "a row of x beyond the end, by which it is multiplied, is 0"
    ),
    "load: ld → M": "it loads less of what is not used",
    "add: tl.load(target + at, mask=mask, other=0.0) → tl.load(target + at, mask=mask, other=7.0)": _UNSTORED,
    "absorb: tl.load(col_largest + col_at, mask=j < M, other=float('-inf')) → "
    "tl.load(col_largest + col_at, mask=j < M, other=7.0)": _UNSTORED,
    "absorb: tl.load(col_total + col_at, mask=j < M, other=0.0) → "
    "tl.load(col_total + col_at, mask=j < M, other=7.0)": _UNSTORED,
    "absorb: 0.0 → 1.0": _UNREAD,
    "close: tl.load(flags + where, mask=k < count, other=0) > 0 → tl.load(flags + where, mask=k < count, other=0) >= 0": (
        "tiles without close pairs are looked at too, and add nothing"
    ),
    "close: tl.load(flags + where, mask=k < count, other=0) → tl.load(flags + where, mask=k < count, other=7.0)": (
        "a tile beyond the last ends the loop, flagged or not"
    ),
    "close: row → col (2)": "it asks whether there are rows' gradients, which strips always have, unlike fused sweeps",
    "sigmoid: s >= 0 → s > 0": "at 0 both numerators are 1",
    "shared_exp_of: 0.0 → 1.0": "it stands where there is no range, and so one side, which has no use for it",
    "shared_exp_of: tl.max(tl.load(lse_range + tl.arange(0, 2 * MAX_PROGRAMS))) <= MAX_LSE_GAP → "
    "tl.max(tl.load(lse_range + tl.arange(0, 2 * MAX_PROGRAMS))) < MAX_LSE_GAP": _BRANCH,
    "scores_from_products: tl.load(scale).to(strip.dtype.element_ty) → tl.load(scale)": (
        "the product is rounded once instead of twice, at the cost of arithmetic in fp64"
    ),
    "row_sums: tl.zeros([BM, BD], tl.float32) → tl.zeros([BM, BD], tl.float32) + 1": (
        "what was there before the first tile is multiplied by e^{−inf}"
    ),
}
