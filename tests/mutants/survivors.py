"""Mutants that no check tells from the original, and why none can."""

_UNREAD = "rows beyond the end are not stored, and columns beyond it have the score −inf and the weight 0"
_BRANCH = "it decides whether one exponential is taken or two, which sum to the same"
_AT_BOUND = "at the bound itself both are the bound"

EXPLAINED: dict[str, str] = {
    "column_of: tl.load(source + i.to(tl.int64) * D + d, mask=i < count, other=0.0) → "
    "tl.load(source + i.to(tl.int64) * D + d, mask=i < count, other=7.0)": _UNREAD,
    "column_of: 0.0 → 1.0": _UNREAD,
    "vector: tl.load(source + i, mask=i < count, other=0.0) → tl.load(source + i, mask=i < count, other=7.0)": _UNREAD,
    "vector: 0.0 → 1.0": _UNREAD,
    "ids: tl.load(source + i, mask=i < count, other=-1) → tl.load(source + i, mask=i < count, other=0)": _UNREAD,
    "absorb: 0.0 → 1.0": _UNREAD,
    "load: ld → M": "it loads less of what is not used",
    "differences: column_of(x, i, N, d, D, DTYPE)[:, None] - column_of(y, j, M, d, D, DTYPE)[None, :] → "
    "column_of(y, j, M, d, D, DTYPE)[None, :] - column_of(x, i, N, d, D, DTYPE)[:, None]": (
        "the difference is squared, and a − b is −(b − a) to the last bit"
    ),
    "phi_of: u < low → u <= low": _AT_BOUND,
    "phi_of: u > high → u >= high": _AT_BOUND,
    "sigmoid: s >= 0 → s > 0": "at 0 both numerators are 1",
    "absorbed_both: tl.where(of_rows == float('-inf'), 0.0, most - of_rows) → most - of_rows": _BRANCH,
    "absorbed_both: tl.maximum(row_gap, col_gap) <= APART → tl.maximum(row_gap, col_gap) < APART": _BRANCH,
    "finish: tl.load(scale).to(strip.dtype.element_ty) → tl.load(scale)": (
        "the product is rounded once instead of twice, at the cost of arithmetic in fp64"
    ),
    "row_sums: tl.zeros([BM, BD], tl.float32) → tl.zeros([BM, BD], tl.float32) + 1": (
        "what was there before the first tile is multiplied by e^{−inf}"
    ),
    "log_of: base_of(largest) → largest": "where there is no base, largest is infinite, and is the log-sum-exp itself",
}
