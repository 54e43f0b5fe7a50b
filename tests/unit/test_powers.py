"""Scores far from each other, and from 0: the powers of 2 from which the cpu backend measures sums and weights."""

import pytest
import torch

import jessl_kernels as jk
from jessl_kernels.native import native_status
from tests import cases, data
from tests.yardstick import judge

if not native_status().available:
    pytest.skip(native_status().reason, allow_module_level=True)
pytestmark = pytest.mark.usefixtures("cpu_backend")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", ["both sides", "symmetric", "kept strips"])
def test_a_row_first_seen_beside_scores_beyond_the_powers_keeps_its_weight(case, dtype):
    # In the first tile one row has scores below −1000, so every row is measured from its maximum. Later that row has near
    # columns, so that in the end all maxima are small and gradients are measured from powers of 2.
    gen = torch.Generator().manual_seed(0)
    near, far = (torch.randn(n, 2, generator=gen, dtype=dtype) * 0.5 for n in (288, 200))  # whole tiles of 96
    far[:, 0] += 50.0
    if case == "symmetric":
        x, y, kind = torch.cat([near[:63], far]), None, "sqdist"  # one far row in the first strip of 64
    elif case == "both sides":
        x, y, kind = torch.tensor([[0.0, 0.0], [50.0, 1.0], [0.3, 0.2]], dtype=dtype), torch.cat([near, far]), "sqdist"
    else:
        x, y, kind = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=dtype), torch.cat([near, far]), "dot"
        y[:288, 0] -= 3000.0
        y[288:] -= torch.tensor([50.0, 60.0], dtype=dtype)
    for t in (x, y):
        if t is not None:
            t.requires_grad_()
    leaves = [t for t in (x, y) if t is not None]
    dim = "row" if case == "kept strips" else "both"

    def gradients(backend, reduction):
        with jk.use_backend(backend):
            value = jk.pairwise_logsumexp(x, y, kind=kind, dim=dim, exclude="diagonal", reduction=reduction)
        total = value if isinstance(value, torch.Tensor) else torch.cat(value)
        return torch.autograd.grad(total.sum(), leaves)

    for reduction in ("sum", "none"):
        for made, due in zip(gradients("cpu", reduction), gradients("reference", "none"), strict=True):
            tolerance = 64 * torch.finfo(dtype).eps * 50  # scores of a few thousand, coordinates of 50
            assert (made - due).abs().max() <= tolerance * due.abs().max(), reduction


def test_the_log_sum_exp_of_one_enormous_score_is_that_score():
    # An m that is no power of 2 must not count as one, although every double of this size is a multiple of log 2.
    scores = torch.logspace(3, 200, 400, dtype=torch.float64)
    x, y = torch.stack([scores, -scores]).flatten()[:, None], torch.ones(1, 1, dtype=torch.float64)
    assert torch.equal(jk.pairwise_logsumexp(x, y), x.flatten())
    x.requires_grad_()
    assert torch.equal(torch.autograd.grad(jk.pairwise_logsumexp(x, y).sum(), x)[0], torch.ones_like(x))


@pytest.mark.parametrize("infinite", [1, 3], ids=["one", "all"])
def test_an_infinite_log_sum_exp_gives_weights_where_the_matrix_form_does(infinite):
    x, y = data.pairs("random", 3, 2, seed=0)
    bias = torch.zeros(3)
    bias[:infinite] = torch.inf
    found = []
    for backend in ("cpu", "reference"):
        leaves = [t.clone().requires_grad_() for t in (x, y, bias)]
        with jk.use_backend(backend):
            jk.pairwise_logsumexp(leaves[0], leaves[1], col_bias=leaves[2], dim="col").sum().backward()
        found.append([leaf.grad for leaf in leaves])
    for ours, matrix in zip(*found, strict=True):
        torch.testing.assert_close(ours, matrix, equal_nan=True)


@pytest.mark.parametrize("bias", [-2000.0, -1200.0, 1500.0, 0.0])
def test_scores_beyond_1000_that_lie_close_together_keep_their_gradients(bias):
    """Bounded scores are measured from one power of 2, but here their product with log2 e has no exact whole part."""
    x, y = data.pairs("random", 70, 32, seed=0)
    inputs = {"x": x, "y": y[:66], "scale": torch.tensor(0.02), "row_bias": torch.full((70,), bias)}
    for dim in ("row", "both"):

        def ours(dim=dim, **given):
            return jk.pairwise_logsumexp(dim=dim, reduction="sum", **given)

        def truth(x, y, scale, row_bias, dim=dim):
            s = scale * x @ y.T + row_bias[:, None]
            return s.logsumexp(1).sum() + (s.logsumexp(0).sum() if dim == "both" else 0)

        with jk.use_backend("cpu"):
            judge(f"bias {bias}, {dim}", ours, truth, inputs, seed=0)


@pytest.mark.parametrize("N", [1, 7, 193])
@pytest.mark.parametrize("excluded", [False, True], ids=["", "a row without pairs"])
def test_gradients_where_a_log_sum_exp_is_near_the_128th_power_of_2(N, excluded):
    """0 · 2^128 must not become NaN in lanes beyond the last row, or in rows without a pair."""
    for L in (-89.0, -88.7, -88.4, 88.4, 88.7, 89.0):
        row_bias = torch.full((N,), L)
        if excluded:
            row_bias[-1] = -torch.inf
        x = (0.01 * data.pairs("random", N, 2, seed=0)[0]).requires_grad_()
        y = (0.01 * data.pairs("random", 5, 2, seed=1)[0]).requires_grad_()
        bias = torch.zeros(5, requires_grad=True)
        with jk.use_backend("cpu"):
            row = jk.pairwise_logsumexp(x, y, row_bias=row_bias, col_bias=bias, kind="sqdist", reduction="none")
            total = row[row.isfinite()].sum() if excluded else row.sum()
            gradients = torch.autograd.grad(total, (x, y, bias))
        assert all(g.isfinite().all() for g in gradients)
        assert float(gradients[2].sum()) == pytest.approx(N - excluded, rel=1e-5)


@pytest.mark.parametrize("first", [-3000.0, -700.0, -150.0, 70.0, 150.0, 700.0])
def test_the_first_columns_of_a_tile_may_lie_anywhere(first):
    """A tile's power of 2 is guessed from two of its columns; if sums turn out too small or too large, a better one is found."""
    x, y = data.pairs("random", 300, 2, seed=0)
    col_bias = torch.zeros(300)
    col_bias[::192], col_bias[1::192] = first, first

    def ours(**given):
        return jk.pairwise_logsumexp(dim="both", kind="sqdist", reduction="sum", **given)

    def truth(x, y, scale, col_bias):
        s = col_bias - scale * (x[:, None] - y).square().sum(dim=2)
        return s.logsumexp(1).sum() + s.logsumexp(0).sum()

    inputs = {"x": x, "y": y, "scale": torch.tensor(2.0), "col_bias": col_bias}
    with jk.use_backend("cpu"):
        judge(f"first columns at {first}", ours, truth, inputs, seed=0)


@cases.levels
@pytest.mark.usefixtures("at_level")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dim", ["row", "both"])
def test_single_rows_and_columns_far_from_the_others_of_their_tile(level, dim, dtype):
    """These rows and columns have powers of their own, in sums and in weights; the others share one exponential."""
    x, y = (0.5 * z.to(dtype) for z in data.pairs("random", 210, 2, seed=0))
    row_bias, col_bias = torch.zeros(210, dtype=dtype), torch.zeros(210, dtype=dtype)
    row_bias[[2, 40, 41, 100, 209]] = torch.tensor([-70.0, -150.0, -500.0, 20.0, -60.0], dtype=dtype)
    col_bias[[5, 44, 191, 209]] = torch.tensor([-65.0, -450.0, 20.0, -900.0], dtype=dtype)

    def ours(x, y):
        biases = {"row_bias": row_bias, "col_bias": col_bias}
        return jk.pairwise_logsumexp(x, y, dim=dim, kind="sqdist", reduction="sum", **biases)

    def truth(x, y):
        s = row_bias[:, None] + col_bias - (x[:, None] - y).square().sum(dim=2)
        return s.logsumexp(1).sum() + (s.logsumexp(0).sum() if dim == "both" else 0)

    if dtype == torch.float32:
        judge("far rows", ours, truth, {"x": x, "y": y}, seed=0)
    else:  # a score of −500 rounds by 1e-13
        found = (torch.autograd.functional.jacobian(f, (x, y)) for f in (ours, truth))
        for a, t in zip(*found, strict=True):
            assert ((a - t).norm(dim=1) <= 2e-13 * t.norm(dim=1)).all()
