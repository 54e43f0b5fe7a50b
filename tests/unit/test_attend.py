"""jk.attend and the cross entropy of two softmaxes made of it, on every backend, judged by the yardstick."""

import pytest
import torch

import jessl_kernels as jk
from tests import cases, data
from tests.oracles import contrastive
from tests.oracles import reductions as oracle
from tests.unit.test_reductions import EXCLUSIONS, FLUSHED, HALVES, exclusions, scores
from tests.yardstick import judge


def attend_of(kind, phi, exclude):
    def run(x, values, y=None, scale=1.0, row_bias=None, col_bias=None):
        return jk.attend(
            x, y, values, kind=kind, phi=phi, scale=scale, row_bias=row_bias, col_bias=col_bias,
            exclude=jk.Exclude(**exclude),
        )  # fmt: skip

    return run


def attend_oracle(kind, phi, exclude):
    def run(x, values, y=None, scale=1.0, row_bias=None, col_bias=None):
        s = oracle.score(x, y, kind=kind, phi=phi, scale=scale, row_bias=row_bias, col_bias=col_bias)
        return oracle.attend(s, values, oracle.excluded(*s.shape, **exclude))

    return run


def given(shape, dtype, *, width=3, symmetric=False, seed=0):
    N, M, D = shape
    x, y = data.pairs("random", max(N, M), D, seed=seed, dtype=dtype)
    wide = dtype if dtype == torch.float64 else torch.float32
    (c,) = cases.columns(M, seed=seed + 2, dtype=wide)
    values = torch.randn(M, width, generator=torch.Generator().manual_seed(seed + 3)).to(dtype)
    inputs = {"x": x[:N], "values": values, "scale": torch.tensor(2.0 / D, dtype=wide), "col_bias": c}
    return inputs if symmetric else inputs | {"y": y[:M]}


def judge_on(backend, case, ours, truth, inputs, floors=FLUSHED, **options):
    with jk.use_backend(backend, workspace=2 * cases.SMALL_WORKSPACE):
        judge(case, ours, truth, inputs, seed=0, floors=floors, **options)


# A gradient of the softmax is a difference from the mean value of its row, and judged by its terms where little of them is left.
CANCELS = FLUSHED | HALVES | {"x": 0.1, "y": 0.1, "scale": 1.0, "col_bias": 1.0}


@cases.backends
@cases.dtypes
@cases.shapes
@pytest.mark.parametrize("kind", ["dot", "sqdist"])
def test_attend_in_every_dtype_and_shape(backend, dtype, shape, kind):
    ours, truth = attend_of(kind, None, {}), attend_oracle(kind, None, {})
    few = shape[1] <= 2  # with one column nothing is left
    floors = CANCELS | dict.fromkeys(("x", "y"), 4.0 if few else 0.1)
    judge_on(backend, f"{kind} {shape}", ours, truth, given(shape, dtype), floors=floors)


@cases.backends
@scores
@exclusions
@pytest.mark.parametrize("symmetric", [False, True], ids=["", "symmetric"])
def test_attend_with_every_exclusion(backend, score, exclusion, symmetric):
    kind, phi, oracle_phi = score
    shape = (20, 20, 5) if symmetric else (21, 18, 5)
    exclude = exclusion(*shape[:2])
    inputs = given(shape, torch.float32, symmetric=symmetric)
    floors = CANCELS | {"x": 1.0, "y": 1.0}  # some rows have a single pair, and no gradient
    judge_on(
        backend, "exclusion", attend_of(kind, phi, exclude), attend_oracle(kind, oracle_phi, exclude), inputs, floors
    )


@cases.backends
@pytest.mark.parametrize("width", [1, 16, 33, 200])
def test_values_of_any_width(backend, width):
    inputs = given((130, 140, 24), torch.float32, width=width)
    judge_on(backend, f"{width} wide", attend_of("dot", None, {}), attend_oracle("dot", None, {}), inputs, CANCELS)


@pytest.mark.kernels
@cases.backends
def test_several_strips_of_several_tiles(backend):
    """Columns end with a tile of fewer, and rows with a strip of fewer; the strips are as long as their rows of memory."""
    ours, truth = attend_of("dot", None, {}), attend_oracle("dot", None, {})
    inputs = given((70, 144, 5), torch.float32) | {"row_bias": torch.linspace(-1, 1, 70)}
    with jk.use_backend(backend, workspace=2 * 32 * 144 * 4):
        judge("strips", ours, truth, inputs, seed=0, floors=CANCELS | {"row_bias": 1.0})


@cases.backends
@pytest.mark.parametrize("wanted", ["x", "y", "values", "scale", "row_bias", "col_bias"])
def test_each_gradient_alone_has_the_bits_of_all_together(backend, wanted):
    inputs = given((40, 37, 8), torch.float32) | {"row_bias": torch.randn(40)}
    run = attend_of("dot", None, EXCLUSIONS["diagonal"](40, 37))

    def gradient(*names):
        leaves = {name: t.detach().clone().requires_grad_(name in names) for name, t in inputs.items()}
        run(**leaves).square().sum().backward()
        return leaves[wanted].grad

    with jk.use_backend(backend):
        assert torch.equal(gradient(wanted), gradient(*inputs))


@pytest.mark.kernels
@cases.backends
def test_a_row_without_pairs_gives_0_and_no_gradient(backend):
    ids = torch.tensor([0, 1, 1])
    x, values = torch.randn(3, 2, requires_grad=True), torch.ones(3, 4, requires_grad=True)
    with jk.use_backend(backend):
        made = jk.attend(x, None, values, exclude=jk.Exclude(different=(ids, ids), diagonals=(0,)))
        assert made[0].abs().sum() == 0
        torch.testing.assert_close(made[1:], torch.ones(2, 4))
        made.sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad[0].abs().sum() == 0
    assert values.grad[0].abs().sum() == 0


@cases.backends
@pytest.mark.parametrize("level", [0.0, 3e4, -3e4])
def test_scores_far_from_zero_and_thousands_apart(backend, level):
    """References rise from tile to tile, and sums made from earlier ones shrink."""
    inputs = given((10, 600, 4), torch.float32) | {"col_bias": torch.linspace(-2000, 2000, 600) + level}
    judge_on(backend, "far", attend_of("dot", None, {}), attend_oracle("dot", None, {}), inputs, CANCELS)


@pytest.mark.kernels
@cases.backends
def test_a_nan_stays_in_its_row(backend):
    x = torch.randn(5, 3)
    x[2] = torch.nan
    with jk.use_backend(backend):
        made = jk.attend(x, torch.randn(7, 3), torch.randn(7, 2))
    assert made.isnan().any(dim=1).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
def test_attend_is_attention(dtype):
    x, y, v = (torch.randn(n, 16, dtype=dtype) for n in (200, 300, 300))
    theirs = torch.nn.functional.scaled_dot_product_attention(x[None], y[None], v[None])[0]
    torch.testing.assert_close(jk.attend(x, y, v, scale=16**-0.5), theirs)


@pytest.mark.parametrize("backend", ["cpu", "chunked"])
def test_gradcheck_in_fp64(backend):
    inputs = given((9, 7, 3), torch.float64) | {"row_bias": torch.randn(9, dtype=torch.float64)}
    leaves = [t.requires_grad_() for t in inputs.values()]
    run = attend_of("sqdist", "laplace", {"diagonals": (0,)})
    with jk.use_backend(backend, workspace=4000):
        assert torch.autograd.gradcheck(lambda *args: run(**dict(zip(inputs, args, strict=True))), leaves)


@pytest.mark.parametrize("backend", ["cpu", "chunked"])
def test_attend_compiles_into_one_graph_with_its_gradients(backend):
    inputs = given((40, 37, 8), torch.float32)
    run = attend_of("dot", None, {"diagonals": (0,)})

    def gradients(function):
        leaves = {name: t.detach().clone().requires_grad_() for name, t in inputs.items()}
        made = function(**leaves)
        made.square().sum().backward()
        return made.detach(), [t.grad for t in leaves.values()]

    with jk.use_backend(backend):
        plain, compiled = gradients(run), gradients(torch.compile(run, fullgraph=True))
    torch.testing.assert_close(compiled, plain)


def test_attend_under_torch_func():
    x, y, v = torch.randn(5, 3), torch.randn(6, 3), torch.randn(6, 2)
    made = torch.func.grad(lambda x: jk.attend(x, y, v).square().sum())(x)
    x.requires_grad_()
    jk.attend(x, y, v).square().sum().backward()
    torch.testing.assert_close(made, x.grad)


def test_a_second_derivative_is_refused():
    x, v = torch.randn(4, 3, requires_grad=True), torch.randn(4, 2)
    (first,) = torch.autograd.grad(jk.attend(x, None, v).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        first.sum().backward()


def test_explain_counts_the_products_with_the_values():
    x, v = torch.randn(64, 16, requires_grad=True), torch.randn(64, 32)
    (step,) = jk.explain(jk.attend, x, None, v).steps
    assert step.gemms == (1 + 2) + (3 + 4)
    assert "softmax-weighted sums of values of 32 columns" in step.pairs
    with torch.no_grad():
        assert jk.explain(jk.attend, x, None, v).steps[0].gemms == 3


def soft_given(dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, y, tx, ty = (torch.randn(n, D, generator=generator) for n, D in ((30, 8), (27, 8), (30, 5), (27, 5)))
    wide = dtype if dtype == torch.float64 else torch.float32
    c, tc = cases.columns(27, 27, seed=seed, dtype=wide)
    tau = {name: torch.tensor(t, dtype=wide) for name, t in (("temperature", 0.1), ("target_temperature", 0.2))}
    batches = {"x": x, "y": y, "target_x": tx, "target_y": ty}
    return {name: t.to(dtype) for name, t in batches.items()} | tau | {"col_bias": c, "target_col_bias": tc}


@cases.backends
@cases.dtypes
@pytest.mark.parametrize("normalize", [True, False], ids=["unit", "plain"])
def test_soft_cross_entropy_and_its_gradients_to_both_streams(backend, dtype, normalize):
    inputs = soft_given(dtype)
    if not normalize:
        inputs |= {"x": inputs["x"] / 4, "target_x": inputs["target_x"] / 4}

    def ours(**given):
        return jk.soft_cross_entropy(**given, normalize=normalize, reduction="none", exclude="diagonal")

    def truth(**given):
        return contrastive.soft_cross_entropy(**given, normalize=normalize, out=oracle.excluded(30, 27, diagonals=(0,)))

    floors = dict.fromkeys(inputs, 0.05) | {"temperature": 1.0, "target_temperature": 1.0}
    judge_on(backend, "soft", ours, truth, inputs, floors=floors)


def test_soft_cross_entropy_of_a_stream_with_itself_is_its_entropy_with_no_gradient_through_the_student():
    x, y = torch.randn(20, 4, dtype=torch.float64), torch.randn(30, 4, dtype=torch.float64)
    student = x.clone().requires_grad_()
    loss = jk.soft_cross_entropy(student, y, x, y, temperature=0.3, target_temperature=0.3, reduction="none")
    unit = torch.nn.functional.normalize
    p = (unit(x) @ unit(y).T / 0.3).softmax(dim=1)
    torch.testing.assert_close(loss.detach(), torch.special.entr(p).sum(dim=1))
    loss.sum().backward()
    assert student.grad.abs().max() < 1e-13


def test_soft_cross_entropy_without_a_column_that_both_biases_leave_out():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (20, 7))
    bias, target_bias = (torch.randn(7, generator=generator, dtype=torch.float64) for _ in range(2))
    results = []
    for columns in (7, 6):
        leaf, b, c = (t.clone().requires_grad_() for t in (y[:columns], *(t[:columns] for t in (bias, target_bias))))
        left_out = torch.arange(columns) == 6
        biases = {
            "col_bias": b.masked_fill(left_out, -torch.inf),
            "target_col_bias": c.masked_fill(left_out, -torch.inf),
        }
        loss = jk.soft_cross_entropy(x, leaf, x.flip(1), leaf.flip(1), temperature=0.3, **biases, reduction="none")
        loss.sum().backward()
        results.append((loss.detach(), *(t.grad[:6] for t in (leaf, b, c))))
    torch.testing.assert_close(*results)


def test_soft_cross_entropy_of_a_row_without_pairs_is_0():
    x = torch.randn(3, 4, requires_grad=True)
    ids = torch.tensor([0, 1, 1])
    made = jk.soft_cross_entropy(x, x, x, x, exclude=jk.Exclude(different=(ids, ids), diagonals=(0,)), reduction="none")
    assert made[0] == 0
    made.sum().backward()
    assert x.grad.isfinite().all()


X = torch.randn(6, 4)
WRONG = {
    "one value": (jk.attend, {"values": X[0]}, ValueError, r"of shape \(4,\), must be \(6, V\), a row for each column"),
    "few values": (jk.attend, {"values": X[:5]}, ValueError, r"of shape \(5, 4\), must be \(6, V\)"),
    "fp64": (
        jk.attend,
        {"values": X.double()},
        TypeError,
        ".*, must be float32, bfloat16 or float16 with x of float32",
    ),
    "device": (jk.attend, {"values": X.to("meta")}, ValueError, "on meta, must be on cpu"),
    "ints": (jk.attend, {"values": torch.arange(6)}, TypeError, ".*, must be a float tensor"),
    "rows": (jk.soft_cross_entropy, {"target_x": X[:5]}, ValueError, "of 5 rows, must have 6 like x"),
    "columns": (jk.soft_cross_entropy, {"target_y": X[:5]}, ValueError, "of 5 rows, must have 6 like y"),
    "bias": (jk.soft_cross_entropy, {"target_col_bias": X[0]}, ValueError, r"of shape \(4,\), must be \(6,\)"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_bad_values_and_targets(wrong):
    function, changed, error, message = WRONG[wrong]
    others = {"values": X} if function is jk.attend else {"target_x": X, "target_y": X}
    (name,) = changed
    with pytest.raises(error, match=f"^{function.__name__}: {name} is {message}"):
        function(**({"x": X, "y": X} | others | changed))
