"""Mutants that no check tells from the original, and why none can."""

_UNREAD = "rows beyond the end are not stored, and columns beyond it have the score −inf and the weight 0"
_UNSTORED = "what is beyond the end is not stored"
_AT_BOUND = "at the bound itself both are the bound"
_NO_TILT = "no tilt is 0"
_WIDE = "64 bits hold the same number"

_ROWS_ALONE = "softmax-weighted sums have weights of rows alone, and none of columns"

_BAND = "a tile that no diagonal crosses is compared too, and nothing is left out of it"

EXPLAINED: dict[str, str] = {
    "scores_of: (least <= d) & (d <= most) → least <= d": _BAND,
    "scores_of: (least <= d) & (d <= most) → d <= most": _BAND,
    "scores_of: first_j + BN > M → first_j + BN >= M": "a tile that ends with the last column has none beyond it",
    "exp: x.dtype == tl.float64 → x.dtype != tl.float64": "both are e^x, but for the last bits; in fp32 one costs more",
    "column_of: tl.load(source + i.to(tl.int64) * D + d, mask=i < count, other=0.0) → "
    "tl.load(source + i.to(tl.int64) * D + d, mask=i < count, other=7.0)": _UNREAD,
    "vector: tl.load(source + i, mask=i < count, other=0.0) → tl.load(source + i, mask=i < count, other=7.0)": _UNREAD,
    "ids: tl.load(source + i, mask=i < count, other=-1) → tl.load(source + i, mask=i < count, other=0)": _UNREAD,
    "differences: column_of(x, i, N, d, D, DTYPE)[:, None] - column_of(y, j, M, d, D, DTYPE)[None, :] → "
    "column_of(y, j, M, d, D, DTYPE)[None, :] - column_of(x, i, N, d, D, DTYPE)[:, None]": (
        "the difference is squared, and a − b is −(b − a) to the last bit"
    ),
    "phi_of: u > high → u >= high": _AT_BOUND,
    "column_range: tl.load(pairs.last + tl.minimum(first_i + BM, N) - 1).to(tl.int32) → "
    "tl.load(pairs.last + tl.minimum(first_i + BM, N) - 1)": _WIDE,
    "column_range: tl.load(pairs.first + first_i).to(tl.int32) → tl.load(pairs.first + first_i)": _WIDE,
    "column_range: pairs.first + first_i → pairs.first": "tiles are looked at whose pairs are all left out",
    "add: tl.load(target + at, mask=mask, other=0.0) → tl.load(target + at, mask=mask, other=7.0)": _UNSTORED,
    "close: tl.load(flags + where, mask=k < count, other=0) > 0 → tl.load(flags + where, mask=k < count, other=0) >= 0": (
        "tiles without close pairs are looked at too, and add nothing"
    ),
    "close: tl.load(flags + where, mask=k < count, other=0) → tl.load(flags + where, mask=k < count, other=7.0)": (
        "a tile beyond the last ends the loop, flagged or not"
    ),
    "close: row → col (2)": "it asks whether there are rows' gradients, which strips always have, unlike fused sweeps",
    "psi_of: TILT < 0 → TILT <= 0": _NO_TILT,
    "psi_slope: TILT < 0 → TILT <= 0": _NO_TILT,
    "softplus: s > 0 → s >= 0": _AT_BOUND,
    "sigmoid: s >= 0 → s > 0": "at 0 both numerators are 1",
    "scored: tl.load(scale).to(strip.dtype.element_ty) → tl.load(scale)": "a product in fp64 differs in its last bits",
    "weights: row → col": _ROWS_ALONE,
    "weights: col → row (2)": _ROWS_ALONE,
}
