"""Every loss on every backend: the oracle's value and gradient, judged by the yardstick, on every kind of batch."""

import pytest
import torch

import jessl_kernels as jk
from tests import cases, data
from tests.oracles import contrastive as oracle
from tests.oracles.reductions import reduce
from tests.oracles.row_losses import excluded_by, positives_of
from tests.oracles.row_losses import row_loss as rows_of
from tests.yardstick import judge

N, D = 33, 16
LOSS_SCALE = 2.0**12  # as a GradScaler scales for fp16, whose smallest number is 6e-8
TEMPERATURES = pytest.mark.parametrize("temperature", [0.5, 0.07, 0.01])
reductions = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])


def number(value: float, dtype: torch.dtype) -> torch.Tensor:
    """A learnable scalar, fp32 with half embeddings as users hold it, and a number fp32 holds exactly."""
    return torch.tensor(value, dtype=torch.float32).to(torch.float64 if dtype == torch.float64 else torch.float32)


def reduced(function, reduction):
    return lambda **inputs: reduce(function(**inputs), reduction)


BETA = 1.0


def hard_negatives(z1, z2, temperature, reduction):
    """A loss that is no function of the package: two log-sum-exps of one score, decoupled from the positive."""
    views = {"positives": len(z1), "exclude": "diagonal", "scale": 1 / temperature, "normalize": True}
    return jk.row_loss([z1, z2], join="tilt_difference", tilts=(1 + BETA, BETA), reduction=reduction, **views)


def hard_negative_rows(z1, z2, temperature):
    """(2N,) log Σ_j e^{(1 + β) s_ij} − log Σ_j e^{β s_ij} − s_{i, other view}."""
    n = 2 * len(z1)
    views = {"positive": positives_of(n, n, shift=len(z1)), "out": excluded_by(n, n, (0,))}
    z = torch.cat([z1, z2])
    return rows_of(z, join="tilt_difference", tilts=(1 + BETA, BETA), scale=1 / temperature, normalize=True, **views)


# name: (ours, the oracle's rows, names of the two batches, the scalars it learns at temperature τ)
LOSSES = {
    "info_nce": (jk.info_nce, oracle.info_nce, ("query", "positive"), lambda t: {"temperature": t}),
    "info_nce-symmetric": (
        lambda **k: jk.info_nce(symmetric=True, **k),
        lambda **k: oracle.info_nce(symmetric=True, **k),
        ("query", "positive"),
        lambda t: {"temperature": t},
    ),
    "clip_loss": (
        lambda **k: jk.clip_loss(normalize=True, **k),
        lambda **k: oracle.clip_loss(normalize=True, **k),
        ("image", "text"),
        lambda t: {"logit_scale": 1 / t},
    ),
    "nt_xent": (jk.nt_xent, oracle.nt_xent, ("z1", "z2"), lambda t: {"temperature": t}),
    "dcl": (jk.dcl, oracle.dcl, ("z1", "z2"), lambda t: {"temperature": t}),
    "siglip_loss": (
        lambda **k: jk.siglip_loss(normalize=True, **k),
        lambda **k: oracle.siglip_loss(normalize=True, **k),
        ("image", "text"),
        lambda t: {"logit_scale": 1 / t, "logit_bias": -10.0},
    ),
    "hard_negatives": (hard_negatives, hard_negative_rows, ("z1", "z2"), lambda t: {"temperature": t}),
}
losses = pytest.mark.parametrize("loss", LOSSES)


def judge_loss(
    backend, loss, x, y, temperature, reduction="mean", floors=None, workspace: int | None = cases.SMALL_WORKSPACE
):
    ours, rows, names, scalars = LOSSES[loss]
    inputs = dict(zip(names, (x, y), strict=True))
    inputs |= {name: number(value, x.dtype) for name, value in scalars(temperature).items()}
    with jk.use_backend(backend, workspace=workspace):
        judge(loss, lambda **k: ours(reduction=reduction, **k), reduced(rows, reduction), inputs, seed=0, floors=floors)


@cases.backends
@cases.dtypes
@losses
@TEMPERATURES
@pytest.mark.parametrize("batch", ["random", "clustered"])
def test_losses_and_gradients(backend, dtype, loss, temperature, batch):
    judge_loss(backend, loss, *data.pairs(batch, N, D, seed=0, dtype=dtype), temperature)


@cases.dtypes
@losses
@TEMPERATURES
@pytest.mark.parametrize("batch", ["random", "clustered"])
def test_losses_on_cpu_where_the_workspace_holds_a_strip(dtype, loss, temperature, batch):
    """With a smaller workspace, as above, one-sided losses take two passes; here the scores of a strip are kept."""
    judge_loss("cpu", loss, *data.pairs(batch, N, D, seed=0, dtype=dtype), temperature, workspace=None)


@cases.backends
@losses
@reductions
@pytest.mark.parametrize("n", [2, 7, 129])
def test_reductions_and_odd_sizes(backend, loss, reduction, n):
    judge_loss(backend, loss, *data.pairs("random", n, 5, seed=1), 0.2, reduction)


@cases.backends
@cases.dtypes
@pytest.mark.parametrize("loss", ["info_nce", "info_nce-symmetric", "clip_loss", "nt_xent", "hard_negatives"])
@pytest.mark.parametrize(("temperature", "level"), [(0.07, 0.2), (0.07, 0.01), (0.03, 1e-4)])
def test_converged_batches_where_training_spends_its_time(backend, dtype, loss, temperature, level):
    x, y = data.converged(N, 64, temperature=temperature, loss=level, seed=0, dtype=dtype)
    judge_loss(backend, loss, x, y, temperature)


@pytest.mark.kernels
@cases.backends
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize(("temperature", "level"), [(0.07, 0.2), (0.07, 0.01), (0.03, 1e-4)])
def test_converged_half_batches_of_unit_rows(backend, dtype, temperature, level):
    """There is no normalisation, whose rounding to half precision would hide the errors of the reduction."""
    x, y = data.converged(N, 64, temperature=temperature, loss=level, seed=0, dtype=dtype)
    inputs = {"z1": x, "z2": y, "temperature": number(temperature, dtype)}
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge(
            "unit rows",
            lambda **k: LOSS_SCALE * jk.nt_xent(normalize=False, **k),
            lambda **k: LOSS_SCALE * oracle.nt_xent(normalize=False, **k).mean(),
            inputs,
            seed=0,
        )


@cases.backends
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_four_thousand_dimensions(backend, dtype):
    judge_loss(backend, "info_nce", *data.pairs("random", 20, 4096, seed=0, dtype=dtype), 0.07)


@cases.backends
@losses
@pytest.mark.parametrize("batch", ["duplicates", "all_equal", "huge"])
@pytest.mark.parametrize("temperature", [10.0, 0.005])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_hostile_batches_and_extreme_temperatures(backend, loss, batch, temperature, dtype):
    # If all rows are equal, every gradient is a sum of terms that cancel to 0, so errors are judged by the size of the terms. A
    # scalar sums the terms of all rows, each times an upstream gradient of 0.8 in the mean; equal rows are rounded equally, so
    # their errors do not average out.
    n = 20
    of_rows = 0.8 * n
    terms = {"logit_scale": of_rows, "logit_bias": of_rows, "temperature": of_rows * temperature**-2}
    floors = (
        {name: terms.get(name, 0.3 / temperature) for name in (*LOSSES[loss][2], *terms)}
        if batch == "all_equal"
        else None
    )
    pair = data.pairs(batch, n, 6, seed=0, dtype=dtype)
    judge_loss(backend, loss, *pair, temperature, reduction="none", floors=floors)


def test_lse_minus_the_positive_is_what_the_anchor_avoids():
    """The counter-example: on a converged bf16 batch the difference of two terms with bf16 scores ruins the gradient."""
    x, y = data.converged(256, 64, temperature=0.05, loss=1e-3, seed=0, dtype=torch.bfloat16)
    names = {"x": x, "y": y}

    def gradient(function, dtype):
        leaves = [t.detach().clone().to(dtype).detach().requires_grad_() for t in names.values()]
        function(*leaves).backward()
        return leaves[0].grad.double()

    def naive(x, y):  # the matrix form under autocast: scores in bf16, lse minus the positive
        s = x @ y.T / 0.05
        return (torch.logsumexp(s, dim=1) - s.diagonal()).mean()

    def ours(x, y):
        return jk.info_nce(x, y, temperature=0.05, normalize=False)

    truth = gradient(lambda x, y: oracle.info_nce(x, y, temperature=0.05, normalize=False).mean(), torch.float64)
    naive_error = (gradient(naive, torch.bfloat16) - truth).norm() / truth.norm()
    our_error = (gradient(ours, torch.bfloat16) - truth).norm() / truth.norm()
    assert naive_error > 0.1
    assert our_error < 0.01
    naive_value = float(naive(*(t.float() for t in names.values())))
    our_value, true_value = (
        float(f(*(t.to(d) for t in names.values())))
        for f, d in (
            (ours, torch.float32),
            (lambda x, y: oracle.info_nce(x, y, temperature=0.05, normalize=False).mean(), torch.float64),
        )
    )
    assert abs(our_value - true_value) < 0.1 * abs(naive_value - true_value)


NEGATIVES = {"shared": (11, D), "paired": (N, 5, D)}


@cases.backends
@cases.dtypes
@pytest.mark.parametrize("shape", NEGATIVES.values(), ids=NEGATIVES)
@pytest.mark.parametrize(
    "options", [{}, {"symmetric": True}, {"in_batch": False}], ids=["", "symmetric", "not-in-batch"]
)
@reductions
def test_info_nce_with_further_negatives(backend, dtype, shape, options, reduction):
    query, positive = data.pairs("random", N, D, seed=0, dtype=dtype)
    negatives = data.given(data.normals(*shape, seed=3), dtype)
    inputs = {"query": query, "positive": positive, "negatives": negatives, "temperature": number(0.1, dtype)}
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge(
            "negatives",
            lambda **k: jk.info_nce(reduction=reduction, **options, **k),
            reduced(lambda **k: oracle.info_nce(**options, **k), reduction),
            inputs,
            seed=0,
        )


def sup_con_truth(reduction, form, no_positive):
    def run(features, labels, temperature):
        rows = oracle.sup_con(features, labels, temperature=temperature, form=form)
        return oracle.sup_con_mean(rows, labels, no_positive) if reduction == "mean" else reduce(rows, reduction)

    return run


@cases.backends
@cases.dtypes
@pytest.mark.parametrize("form", ["out", "in"])
@pytest.mark.parametrize("no_positive", ["skip", "zero"])
@reductions
def test_sup_con_with_rows_alone_with_their_label(backend, dtype, form, no_positive, reduction):
    features, labels = data.clusters_with_labels(40, D, labels=19, seed=0, dtype=dtype)
    assert (torch.bincount(labels) == 1).any()
    inputs = {"features": features, "labels": labels, "temperature": number(0.1, dtype)}
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge(
            "sup_con",
            lambda **k: jk.sup_con(form=form, no_positive=no_positive, reduction=reduction, **k),
            sup_con_truth(reduction, form, no_positive),
            inputs,
            seed=0,
            floors={
                "features": 0.5 / len(labels) if reduction == "mean" else 0.5
            },  # what pulls and what pushes a row may cancel
        )


@cases.backends
@pytest.mark.parametrize("form", ["out", "in"])
@reductions
@pytest.mark.parametrize("classes", [1, 3, 12])
def test_sup_con_with_several_views(backend, form, reduction, classes):
    features = data.given(data.normals(12, 3, D, seed=0), torch.float32)
    inputs = {"features": features, "labels": torch.arange(12) % classes, "temperature": number(0.2, torch.float32)}
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge(
            "views",
            lambda **k: jk.sup_con(form=form, reduction=reduction, **k),
            sup_con_truth(reduction, form, "skip"),
            inputs,
            seed=0,
        )


@cases.backends
@cases.dtypes
@pytest.mark.parametrize("form", ["out", "in"])
@pytest.mark.parametrize(("temperature", "level"), [(0.07, 0.2), (0.07, 0.01), (0.03, 1e-4)])
@pytest.mark.parametrize("normalize", [True, False], ids=["", "unit-rows"])
def test_sup_con_of_two_views_on_converged_batches(backend, dtype, form, temperature, level, normalize):
    x, y = data.converged(N, 64, temperature=temperature, loss=level, seed=0, dtype=dtype)
    inputs = {
        "features": torch.stack([x, y], dim=1),
        "labels": torch.arange(N),
        "temperature": number(temperature, dtype),
    }
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge(
            "converged",
            lambda **k: LOSS_SCALE * jk.sup_con(form=form, normalize=normalize, **k),
            lambda **k: LOSS_SCALE * oracle.sup_con(form=form, normalize=normalize, **k).mean(),
            inputs,
            seed=0,
        )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_sup_con_without_any_positive_is_0_with_gradient_0(reduction):
    features = torch.eye(4, requires_grad=True)
    value = jk.sup_con(features, torch.arange(4), reduction=reduction)
    value.sum().backward()
    assert value.abs().sum() == 0
    assert features.grad.abs().sum() == 0


def test_one_pair_alone_has_nothing_to_be_confused_with():
    x = torch.randn(1, 3, requires_grad=True)
    for value in (jk.info_nce(x, x + 1), jk.nt_xent(x, x + 1), jk.clip_loss(x, x + 1, 3.0)):
        assert value == 0
        value.backward()
    assert x.grad.abs().sum() == 0


def test_supervised_loss_of_one_label_per_pair_is_nt_xent():
    z1, z2 = data.pairs("random", 12, 5, seed=0)
    labels = torch.arange(12)
    pairs = jk.sup_con(torch.stack([z1, z2], dim=1), labels, temperature=0.5)
    torch.testing.assert_close(pairs, jk.nt_xent(z1, z2, temperature=0.5), rtol=1e-6, atol=0)


def test_permuted_items_permute_the_losses():
    z1, z2 = data.pairs("random", 50, 8, seed=0)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    rows = jk.nt_xent(z1, z2, reduction="none")
    permuted = jk.nt_xent(z1[order], z2[order], reduction="none")
    torch.testing.assert_close(permuted, rows[torch.cat([order, 50 + order])], rtol=1e-6, atol=0)
