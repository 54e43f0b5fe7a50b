"""pairwise_logsumexp, pairwise_sum and pairwise_topk with every option on every backend, judged by the yardstick."""

import pytest
import torch

import jessl_kernels as jk
from tests import cases, data
from tests.oracles import reductions as oracle
from tests.yardstick import judge

PHIS = {"identity": (None, None), "clamp": (jk.phi.clamp(-1.0, 2.0), ("clamp", -1.0, 2.0))}
SCORES = {
    "dot": ("dot", *PHIS["identity"]),
    "dot-clamp": ("dot", *PHIS["clamp"]),
    "sqdist": ("sqdist", *PHIS["identity"]),
    "sqdist-clamp": ("sqdist", *PHIS["clamp"]),
    "laplace": ("sqdist", "laplace", "laplace"),
}
scores = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
dims = pytest.mark.parametrize("dim", ["row", "col", "both"])
reductions = pytest.mark.parametrize("reduction", ["none", "sum", "mean", "logsumexp"])


def ids(n: int, classes: int, seed: int) -> torch.Tensor:
    """Class ids, a few of them negative."""
    return torch.randint(-1, classes, (n,), generator=torch.Generator().manual_seed(seed))


EXCLUSIONS = {
    "nothing": lambda N, M: {},
    "diagonal": lambda N, M: {"diagonals": (0,)},
    "views": lambda N, M: {"diagonals": (0, N // 2, -(N // 2))},
    "same": lambda N, M: {"same": (ids(N, 5, 1), ids(M, 5, 2)), "keep": (1,)},
    "different": lambda N, M: {"different": (ids(N, 5, 1), ids(M, 5, 2)), "diagonals": (1,), "keep": (-1, 2)},
    "sorted": lambda N, M: {"different": (ids(N, 9, 1).sort()[0], ids(M, 9, 2).sort()[0]), "diagonals": (0,)},
    "everything": lambda N, M: {"diagonals": tuple(range(-N, M + 1))},
}
exclusions = pytest.mark.parametrize("exclusion", EXCLUSIONS.values(), ids=EXCLUSIONS)


def lse_of(kind, phi, *, dim, reduction, exclude):
    def run(
        x, y=None, scale=1.0, row_bias=None, col_bias=None, anchor=None, col_anchor=None, weights=None, col_weights=None
    ):
        return jk.pairwise_logsumexp(
            x, y, kind=kind, phi=phi, scale=scale, row_bias=row_bias, col_bias=col_bias, anchor=anchor,
            col_anchor=col_anchor, exclude=jk.Exclude(**exclude), dim=dim, reduction=reduction, weights=weights,
            col_weights=col_weights,
        )  # fmt: skip

    return run


def lse_oracle(kind, phi, *, dim, reduction, exclude):
    def run(
        x, y=None, scale=1.0, row_bias=None, col_bias=None, anchor=None, col_anchor=None, weights=None, col_weights=None
    ):
        s = oracle.score(x, y, kind=kind, phi=phi, scale=scale, row_bias=row_bias, col_bias=col_bias)
        out = oracle.excluded(*s.shape, **exclude)
        row, col = oracle.logsumexp(s, out, dim=1, anchor=anchor), oracle.logsumexp(s, out, dim=0, anchor=col_anchor)
        sides = [oracle.reduce(row, reduction, weights), oracle.reduce(col, reduction, col_weights)]
        sides = {"row": sides[:1], "col": sides[1:], "both": sides}[dim]
        return sum(sides) if reduction in ("sum", "mean") else sides if len(sides) > 1 else sides[0]

    return run


def sum_of(kind, phi, *, dim, reduction, exclude):
    def run(x, y=None, scale=1.0, row_bias=None, col_bias=None, weights=None, col_weights=None):
        return jk.pairwise_sum(
            x, y, kind=kind, phi=phi, scale=scale, row_bias=row_bias, col_bias=col_bias, exclude=jk.Exclude(**exclude),
            dim=dim, reduction=reduction, weights=weights, col_weights=col_weights,
        )  # fmt: skip

    return run


def sum_oracle(kind, phi, *, dim, reduction, exclude):
    def run(x, y=None, scale=1.0, row_bias=None, col_bias=None, weights=None, col_weights=None):
        s = oracle.score(x, y, kind=kind, phi=phi, scale=scale, row_bias=row_bias, col_bias=col_bias)
        out = oracle.excluded(*s.shape, **exclude)
        sides = [
            oracle.reduce(oracle.softplus_sum(s, out, dim=1), reduction, weights),
            oracle.reduce(oracle.softplus_sum(s, out, dim=0), reduction, col_weights),
        ]
        sides = {"row": sides[:1], "col": sides[1:], "both": sides}[dim]
        return sum(sides) if reduction in ("sum", "mean") else sides if len(sides) > 1 else sides[0]

    return run


def given(shape, dtype, *, dim="row", anchored=False, weighted=False, symmetric=False, biased=True, seed=0) -> dict:
    """Inputs by name; vectors come in fp32 for half embeddings, as users hold them."""
    N, M, D = shape
    (x, _), (y, _) = (
        data.pairs("random", N, D, seed=seed, dtype=dtype),
        data.pairs("random", M, D, seed=seed + 1, dtype=dtype),
    )
    M = N if symmetric else M
    wide = dtype if dtype == torch.float64 else torch.float32
    r, c, a, b, w, v = cases.columns(N, M, N, M, N, M, seed=seed + 2, dtype=wide)
    inputs = {"x": x, "scale": torch.tensor(1.0 / D, dtype=wide)}
    if not symmetric:
        inputs["y"] = y
    if biased:
        inputs |= {"row_bias": r, "col_bias": c}
    for wanted, side in (
        (dim != "col", {"anchor": a, "weights": w.abs()}),
        (dim != "row", {"col_anchor": b, "col_weights": v.abs()}),
    ):
        for (name, value), on in zip(side.items(), (anchored, weighted), strict=True):
            if wanted and on:
                inputs[name] = value
    return inputs


# Weights below 2⁻¹²⁶ are flushed to 0, so gradients that consist of nothing else are 0.
FLUSHED = {"x": 1e-30, "y": 1e-30}


# In a symmetric problem a row's two gradients, as x_i and as y_i, may cancel: then errors are judged by a median row's size.
HALVES = {"x": 0.05}


def judge_on(backend, case, ours, truth, inputs, seed=0, floors=FLUSHED):
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge(case, ours, truth, inputs, seed=seed, constants=("weights", "col_weights"), floors=floors)


@cases.backends
@cases.dtypes
@cases.shapes
@scores
def test_row_lse_in_every_dtype_and_shape(backend, dtype, shape, score):
    kind, phi, oracle_phi = score
    options = {"dim": "row", "reduction": "none", "exclude": {}}
    ours, truth = lse_of(kind, phi, **options), lse_oracle(kind, oracle_phi, **options)
    # The gradient of a column's bias, Σ_i g_i p_ij, is a sum of N numbers of both signs and of about 1/M each.
    floors = FLUSHED | {"col_bias": shape[0] / shape[1]}
    if dtype == torch.float16:
        # Below 6e-5 fp16 has only multiples of 6e-8: gradients of such short rows cannot be right to a few ulp.
        info = torch.finfo(dtype)
        floors |= dict.fromkeys(("x", "y"), info.smallest_normal * info.eps * shape[2] ** 0.5 / 2 / (2 * info.eps))
    judge_on(backend, f"{kind} {oracle_phi} {shape}", ours, truth, given(shape, dtype), floors=floors)


@cases.backends
@scores
@dims
@reductions
@exclusions
@pytest.mark.parametrize("anchored", [False, True], ids=["", "anchored"])
def test_every_option_of_logsumexp(backend, score, dim, reduction, exclusion, anchored):
    if reduction == "logsumexp" and (anchored or dim == "both"):
        with pytest.raises(ValueError, match='with reduction="logsumexp"'):
            x = torch.ones(2, 2)
            jk.pairwise_logsumexp(x, dim=dim, reduction=reduction, anchor=x[0] if anchored and dim != "col" else None,
                                  col_anchor=x[0] if anchored and dim == "col" else None)  # fmt: skip
        return
    kind, phi, oracle_phi = score
    shape = (21, 18, 5)
    options = {"dim": dim, "reduction": reduction, "exclude": exclusion(*shape[:2])}
    weighted = reduction in ("sum", "mean")
    if weighted and not anchored and set(options["exclude"].get("diagonals", ())) >= set(range(-20, 18)):
        weighted = False  # the sum of empty rows is −inf whatever the weights
    inputs = given(shape, torch.float32, dim=dim, anchored=anchored, weighted=weighted)
    judge_on(backend, "options", lse_of(kind, phi, **options), lse_oracle(kind, oracle_phi, **options), inputs)


@cases.backends
@pytest.mark.parametrize("exclusion", [name for name in EXCLUSIONS if name != "everything"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize("dim", ["row", "both"])
def test_every_exclusion_in_half_precision(backend, dtype, dim, exclusion):
    """On a GPU half precision has kernels of its own."""
    shape = (70, 66, 24)
    options = {"dim": dim, "reduction": "mean", "exclude": EXCLUSIONS[exclusion](*shape[:2])}
    inputs = given(shape, dtype, dim=dim, anchored=True)
    floors = FLUSHED | {"col_bias": 1.0}
    judge_on(backend, "half", lse_of("dot", None, **options), lse_oracle("dot", None, **options), inputs, floors=floors)


@cases.backends
@scores
@dims
@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("exclusion", ["nothing", "views", "same"])
def test_symmetric_problems(backend, score, dim, reduction, exclusion):
    kind, phi, oracle_phi = score
    options = {"dim": dim, "reduction": reduction, "exclude": EXCLUSIONS[exclusion](20, 20)}
    inputs = given((20, 20, 5), torch.float32, dim=dim, anchored=True, symmetric=True)
    ours, truth = lse_of(kind, phi, **options), lse_oracle(kind, oracle_phi, **options)
    judge_on(backend, "symmetric", ours, truth, inputs, floors=HALVES)


@cases.backends
@scores
@dims
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("symmetric", [False, True], ids=["", "symmetric"])
def test_every_option_of_sum(backend, score, dim, reduction, symmetric):
    kind, phi, oracle_phi = score
    shape = (21, 21, 5) if symmetric else (21, 18, 5)
    options = {"dim": dim, "reduction": reduction, "exclude": EXCLUSIONS["same"](*shape[:2])}
    inputs = given(shape, torch.float32, dim=dim, weighted=reduction != "none", symmetric=symmetric)
    judge_on(backend, "sum", sum_of(kind, phi, **options), sum_oracle(kind, oracle_phi, **options), inputs)


@cases.backends
@cases.dtypes
@pytest.mark.parametrize("op", ["lse", "sum"])
@pytest.mark.parametrize("biased", [False, True], ids=["", "biased"])
@pytest.mark.parametrize("symmetric", [False, True], ids=["", "symmetric"])
def test_rows_that_count_alike(backend, dtype, op, biased, symmetric):
    """Without weights and anchors a backend may have a call of its own; every gradient is requested."""
    ours, truth = (lse_of, lse_oracle) if op == "lse" else (sum_of, sum_oracle)
    options = {"dim": "row", "reduction": "mean", "exclude": {"diagonals": (0,)}}
    inputs = given((40, 40 if symmetric else 37, 24), dtype, symmetric=symmetric, biased=biased)
    floors = FLUSHED | HALVES | {"col_bias": 1.0}
    judge_on(backend, "alike", ours("dot", None, **options), truth("dot", None, **options), inputs, floors=floors)


@cases.backends
@cases.dtypes
@dims
@pytest.mark.parametrize("score", ["dot", "sqdist", "laplace"])
def test_top_k_values_places_and_gradients(backend, dtype, dim, score):
    kind, phi, oracle_phi = SCORES[score]
    exclude = {"diagonals": tuple(range(15))}  # the first row keeps a few candidates only

    def sides(s, out):
        return [oracle.topk(s, out, k=4, dim=d) for d, on in ((1, dim != "col"), (0, dim != "row")) if on]

    def ours(x, y, scale, row_bias, col_bias):
        found = jk.pairwise_topk(
            x, y, k=4, kind=kind, phi=phi, scale=scale, row_bias=row_bias, col_bias=col_bias, dim=dim,
            exclude=jk.Exclude(**exclude),
        )  # fmt: skip
        found = found if dim == "both" else [found]
        for (_, places), (_, expected) in zip(found, places_in(x, y, scale, row_bias, col_bias), strict=True):
            assert torch.equal(places, expected)
        return [values for values, _ in found]

    def places_in(x, y, scale, row_bias, col_bias):
        wide = [t.detach().double() for t in (x, y, scale, row_bias, col_bias)]
        s = oracle.score(*wide[:2], kind=kind, phi=oracle_phi, scale=wide[2], row_bias=wide[3], col_bias=wide[4])
        return sides(s, oracle.excluded(*s.shape, **exclude))

    def truth(x, y, scale, row_bias, col_bias):
        s = oracle.score(x, y, kind=kind, phi=oracle_phi, scale=scale, row_bias=row_bias, col_bias=col_bias)
        return [values for values, _ in sides(s, oracle.excluded(*s.shape, **exclude))]

    judge_on(backend, "top-k", ours, truth, given((17, 16, 5), dtype), seed=1)


@pytest.mark.kernels
@cases.backends
def test_minus_inf_in_a_bias_excludes_and_a_nan_stays_in_its_row(backend):
    with jk.use_backend(backend):
        x = torch.eye(3, requires_grad=True)
        col_bias = torch.tensor([0.0, -torch.inf, 0.0])
        row = jk.pairwise_logsumexp(x, col_bias=col_bias)
        expected = torch.logsumexp((torch.eye(3) + col_bias), dim=1)
        torch.testing.assert_close(row, expected)
        row_bias = torch.tensor([0.0, -torch.inf, 0.0])
        row = jk.pairwise_logsumexp(x, row_bias=row_bias)
        row.masked_fill(row == -torch.inf, 0.0).sum().backward()
        assert row[1] == -torch.inf
        assert x.grad.isfinite().all()
        row = jk.pairwise_logsumexp(x, row_bias=torch.tensor([0.0, torch.nan, 0.0]))
        assert row.isnan().tolist() == [False, True, False]


@pytest.mark.kernels
@cases.backends
@pytest.mark.parametrize("place", [0, 599])
def test_a_score_of_plus_inf_makes_its_row_inf_however_large_the_others_are(backend, place):
    bias = torch.full((600,), 2000.0)
    bias[place] = torch.inf
    x, y = torch.zeros(2, 3), torch.zeros(600, 3)
    with jk.use_backend(backend):
        assert (jk.pairwise_logsumexp(x, y, col_bias=bias) == torch.inf).all()
        assert (jk.pairwise_logsumexp(y, x, row_bias=bias, dim="col") == torch.inf).all()


@pytest.mark.kernels
@cases.backends
@pytest.mark.parametrize("kind", ["dot", "sqdist"])
def test_row_lse_of_fully_excluded_row_is_minus_inf_and_with_an_anchor_0_and_has_no_gradient(backend, kind):
    ids = torch.tensor([0, 1, 1])
    exclude = jk.Exclude(different=(ids, ids), diagonals=(0,))  # row 0 has no pair
    with jk.use_backend(backend):
        for anchor, empty in ((None, -torch.inf), (torch.zeros(3), 0.0)):
            for reduction in ("none", "sum"):
                x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
                weights = None if reduction == "none" else torch.tensor([0.0, 1.0, 1.0])
                row = jk.pairwise_logsumexp(
                    x, kind=kind, exclude=exclude, anchor=anchor, reduction=reduction, weights=weights
                )
                if reduction == "none":
                    assert row[0] == empty
                row[1:].sum().backward() if reduction == "none" else row.backward()
                assert x.grad[0].abs().sum() == 0
                assert x.grad[1:].isfinite().all()
                assert x.grad[1:].abs().sum() > 0


@cases.backends
@pytest.mark.parametrize("dim", ["row", "col", "both"])
def test_log_sum_exps_hundreds_of_powers_of_two_apart(backend, dim):
    """One exponential serves several rows if their sums are close. Here sums are far apart, in a tile and between tiles."""
    x, y = data.pairs("random", 150, 8, seed=0)
    inputs = {"x": x, "y": y[:140], "scale": torch.tensor(1.0)}
    for name, n in (("row_bias", 150), ("col_bias", 140)):
        inputs[name] = torch.linspace(-100, 100, n)[torch.randperm(n, generator=torch.Generator().manual_seed(n))]
    options = {"dim": dim, "reduction": "mean", "exclude": {"diagonals": (0,)}}
    judge_on(backend, f"far apart, {dim}", lse_of("dot", None, **options), lse_oracle("dot", None, **options), inputs)


@cases.backends
def test_points_in_512_dimensions_whose_densities_lie_2_to_the_130_apart(backend):
    """A row's sum may be measured from a power far above it, of another row or tile; its weights must not be."""
    x = torch.randn(256, 512, generator=torch.Generator().manual_seed(0))
    inputs = {"x": x, "scale": torch.tensor(0.52)}  # about Silverman's bandwidth
    options = {"dim": "row", "reduction": "mean", "exclude": {"diagonals": (0,)}}
    ours, truth = lse_of("sqdist", None, **options), lse_oracle("sqdist", None, **options)
    with jk.use_backend(backend):
        judge("512 dimensions", ours, truth, inputs, seed=0)


@cases.backends
@scores
@dims
@pytest.mark.parametrize("symmetric", [False, True], ids=["", "symmetric"])
def test_where_the_workspace_holds_everything(backend, score, dim, symmetric):
    kind, phi, oracle_phi = score
    options = {"dim": dim, "reduction": "mean", "exclude": {"diagonals": (0,)}}
    inputs = given(
        (150, 150 if symmetric else 140, 40), torch.float32, dim=dim, symmetric=symmetric, biased=not symmetric
    )
    ours, truth = lse_of(kind, phi, **options), lse_oracle(kind, oracle_phi, **options)
    with jk.use_backend(backend):
        judge("all at once", ours, truth, inputs, seed=0, floors=HALVES if symmetric else FLUSHED)


@pytest.mark.kernels
@cases.backends
def test_alpha_0_is_legal_and_has_a_gradient(backend):
    for kind in ("dot", "sqdist"):
        x, y = data.pairs("random", 7, 3, seed=0)
        inputs = {"x": x, "y": y, "scale": torch.zeros(())}
        options = {"dim": "both", "reduction": "none", "exclude": {}}
        judge_on(backend, f"α = 0, {kind}", lse_of(kind, None, **options), lse_oracle(kind, None, **options), inputs)


@cases.backends
@pytest.mark.parametrize("layout", data.LAYOUTS.values(), ids=data.LAYOUTS)
@pytest.mark.parametrize("kind", ["dot", "sqdist"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_layout_does_not_matter(backend, layout, kind, dtype):
    x, y = data.pairs("random", 50, 6, seed=0, dtype=dtype)
    bias = x[:, 0].float()

    def answers(moved):
        leaves = [moved(t).requires_grad_() for t in (x, y)]
        biases = {"row_bias": moved(bias[None])[0], "col_bias": moved(bias[None])[0]}
        with jk.use_backend(backend):
            value = jk.pairwise_logsumexp(*leaves, kind=kind, dim="both", reduction="mean", **biases)
        return [value.detach(), *torch.autograd.grad(value, leaves)]

    for moved, plain in zip(answers(layout), answers(torch.clone), strict=True):
        torch.testing.assert_close(moved, plain, rtol=1e-6, atol=1e-7)


@cases.backends
@cases.dtypes
@pytest.mark.parametrize("log_scale", [-6, 0, 4, 8])
@pytest.mark.parametrize("score", ["sqdist", "laplace"])
@pytest.mark.parametrize("kind", ["random", "clustered", "duplicates"])
def test_squared_distances_are_exact_from_wide_to_tiny_bandwidths(backend, dtype, log_scale, score, kind):
    """Expanding the square would lose 10² to 10⁴ times here, in value and gradient."""
    x, y = data.pairs(kind, 40, 3, seed=0, dtype=dtype)
    wide = dtype if dtype == torch.float64 else torch.float32
    inputs = {"x": x, "y": y, "scale": torch.tensor(10.0**log_scale, dtype=torch.float32).to(wide)}
    _, phi, oracle_phi = SCORES[score]
    options = {"dim": "row", "reduction": "none", "exclude": {"diagonals": (0,)}}
    judge_on(
        backend,
        f"α = 1e{log_scale}",
        lse_of("sqdist", phi, **options),
        lse_oracle("sqdist", oracle_phi, **options),
        inputs,
    )
