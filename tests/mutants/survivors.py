"""Mutants that no check tells from the original, and why none can."""

EXPLAINED: dict[str, str] = {
    "column_of: tl.load(source + i.to(tl.int64) * D + d, mask=i < count, other=0.0) → "
    "tl.load(source + i.to(tl.int64) * D + d, mask=i < count, other=7.0)": (
        "rows beyond the end are not stored, and columns beyond it have the score −inf and the weight 0"
    ),
    "differences: column_of(x, i, N, d, D, DTYPE)[:, None] - column_of(y, j, M, d, D, DTYPE)[None, :] → "
    "column_of(y, j, M, d, D, DTYPE)[None, :] - column_of(x, i, N, d, D, DTYPE)[:, None]": (
        "the difference is squared, and a − b is −(b − a) to the last bit"
    ),
}
