"""The plan for a loss: who, by which route, at what cost."""

import dataclasses
import functools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import jessl_kernels as jk
from jessl_kernels.backends import BACKENDS
from tests import cases, data

N, D = 300, 24
X, Y = (z.requires_grad_() for z in data.normals(2 * N, D, seed=3).float().split(N))
IDS = torch.arange(N) % 40
# What is explained, and how many sums over pairs it takes.
LOSSES = {
    "info_nce": (functools.partial(jk.info_nce, X, Y), 1),
    "info_nce-symmetric": (functools.partial(jk.info_nce, X, Y, X[:50], symmetric=True), 2),
    "clip_loss": (functools.partial(jk.clip_loss, X, Y, 10.0), 1),
    "clip_loss-rows": (functools.partial(jk.clip_loss, X, Y, 10.0, reduction="none"), 1),
    "nt_xent": (functools.partial(jk.nt_xent, X, Y), 1),
    "dcl": (functools.partial(jk.dcl, X, Y), 1),
    "siglip_loss": (functools.partial(jk.siglip_loss, X, Y, 10.0, -10.0), 1),
    "kde_entropy": (functools.partial(jk.kde_entropy, X, concentration=3.0, kernel="vmf"), 1),
    "pairwise_logsumexp-both": (functools.partial(jk.pairwise_logsumexp, X, Y, dim="both", reduction="sum"), 1),
    "hard": (
        functools.partial(jk.row_loss, X, Y, join="tilt_difference", tilts=(1.5, 0.5), positives=0, scale=0.1),
        1,
    ),
    "NTXent": (functools.partial(jk.nn.NTXent(learnable=True), X, Y), 1),
}
OTHERS = {
    "sup_con": (functools.partial(jk.sup_con, X, IDS), 1),
    "uniformity": (functools.partial(jk.uniformity, X), 1),
    "alignment": (functools.partial(jk.alignment, X, Y), 0),
    "retrieval_metrics": (functools.partial(jk.retrieval_metrics, X, Y, ids=(IDS, IDS)), 5),
    "pairwise_topk": (functools.partial(jk.pairwise_topk, X, k=3, dim="both"), 2),
    "attend": (functools.partial(jk.attend, X, Y, Y), 1),
    "soft_cross_entropy": (functools.partial(jk.soft_cross_entropy, X, Y, Y, X), 2),
    "row_sums": (functools.partial(jk.row_sums, X, Y, positives=0), 1),
    "compiled": (functools.partial(torch.compile(jk.nt_xent, backend="aot_eager"), X, Y), 1),
}


@pytest.mark.parametrize("name", {**LOSSES, **OTHERS})
@pytest.mark.parametrize("backend", ["cpu", "chunked", "reference"])
def test_explain_computes_no_sum_over_pairs_and_plans_each(name, backend, monkeypatch):
    for function in ("row_sums", "row_grads", "row_loss", "total", "top_k", "attend"):
        monkeypatch.delattr(BACKENDS[backend], function)
    loss, steps = {**LOSSES, **OTHERS}[name]
    with jk.use_backend(backend):
        explanation = jk.explain(loss)
    assert [step.backend for step in explanation.steps] == [backend] * steps
    assert str(explanation).count("products") == steps


class Products(TorchDispatchMode):
    """Multiplications and additions in matrix products, also in those that add to a matrix in place."""

    flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in ("mm", "addmm", "addmm_"):
            a, b = args[-2:]
            self.flops += 2 * a.numel() * b.shape[1]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", LOSSES)
def test_the_products_of_a_plan_are_those_that_are_computed(name):
    loss, _ = LOSSES[name]
    with jk.use_backend("chunked"):
        planned = sum(step.gemms * step.matrix for step in jk.explain(loss).steps) / X.element_size()
        with Products() as products:
            loss().sum().backward()
    assert products.flops == 2 * D * planned


def test_a_plan_is_for_the_value_alone_without_grad_mode_or_need():
    assert jk.explain(jk.nt_xent, X, Y).steps[0].with_gradient
    assert not jk.explain(jk.nt_xent, X.detach(), Y.detach()).steps[0].with_gradient
    with torch.no_grad():
        assert not jk.explain(jk.nt_xent, X, Y, reduction="none").steps[0].with_gradient
    assert jk.explain(jk.nt_xent, X, Y, reduction="none").steps[0].with_gradient


def test_on_the_cpu_the_largest_take_a_whole_product_and_several_tilts_a_second_pass():
    assert jk.explain(jk.pairwise_topk, X, k=3).steps[0].gemms == 1
    one, two = (
        jk.explain(jk.row_loss, X, Y, join=join, tilts=tilts, positives=0).steps[0]
        for join, tilts in (("softplus", (1.0,)), ("tilt_difference", (1.5, 0.5)))
    )
    assert (one.gemms, two.gemms) == (3, 4) and "two passes" in two.path


def test_what_was_explained_is_computed_afterwards_and_the_same_as_before():
    before = jk.nt_xent(X, Y)
    jk.explain(jk.nt_xent, X, Y)
    assert torch.equal(jk.nt_xent(X, Y), before) and before > 0


def test_an_explanation_prints_itself_and_names_workspace_where_there_is_some():
    with jk.use_backend("chunked", workspace=1 << 20):
        explanation = jk.explain(jk.clip_loss, X, Y, 10.0)
    assert repr(explanation) == str(explanation)
    assert str(explanation).startswith(
        "clip_loss: value and gradient\n  pairs      300×300 dot scores, D = 24, float32 on cpu"
    )
    assert "MiB of workspace at most" in str(explanation)
    (step,) = explanation.steps
    assert "workspace" not in str(dataclasses.replace(step, workspace=0))
    assert str(jk.explain(jk.alignment, X, Y)) == "alignment: no sums over pairs, O(N·D) work and memory"
    told = str(jk.explain(torch.nn.functional.mse_loss, X, Y))
    assert told == "mse_loss: calls nothing of jessl_kernels that sums over pairs"


def test_errors_of_what_is_explained_are_its_own():
    with pytest.raises(ValueError, match=r"^explain: loss is cached_backward, must be the loss alone"):
        jk.explain(jk.cached_backward, jk.nt_xent, (torch.nn.Identity(), X), chunk_size=8)
    with pytest.raises(TypeError, match=r"^explain: loss is a tensor .*, must be a loss, a function or a module"):
        jk.explain(X)
    with pytest.raises(ValueError, match=r"^nt_xent: temperature is 0, must be > 0"):
        jk.explain(jk.nt_xent, X, Y, temperature=0)
    with pytest.raises(NotImplementedError, match=r"^explain: gradients apart from their sums are not planned"):
        jk.explain(lambda: jk.row_grads(jk.row_sums(X, Y, positives=0), N=torch.ones(N)))
    assert jk.nt_xent(X, Y) > 0  # nobody listens any more


@pytest.mark.parametrize(
    ("reduction", "dim", "grad", "chunked", "cpu", "symmetric"),
    [
        ("mean", "row", True, 3, 3, 2),
        ("mean", "both", True, 4, 4, 2),
        ("none", "row", True, 4, 4, 2),
        ("mean", "row", False, 1, 1, 0.5),
    ],
)
def test_explain_counts_products(reduction, dim, grad, chunked, cpu, symmetric):
    z = torch.zeros(8, 4, requires_grad=grad)
    with jk.use_backend("chunked"):
        assert cases.planned(z, reduction=reduction, dim=dim).gemms == chunked
    assert cases.planned(z, z + 1, reduction=reduction, dim=dim).gemms == cpu
    assert cases.planned(z, reduction=reduction, dim=dim).gemms == symmetric


def test_explain_says_what_a_join_of_ones_own_costs():
    z = torch.randn(64, 8, requires_grad=True)

    def own(N, P, spread, n_pos, n_neg):
        return N[0] - P

    named, other, counted = (
        cases.planned(z, z + 1, join=join, positives=0, reduction=reduction)
        for join, reduction in (("softplus", "mean"), (own, "mean"), ("softplus", "mean_counted"))
    )
    assert (named.gemms, other.gemms, counted.gemms) == (3, 4, 3)


def test_explain_counts_products_of_a_total():
    z = torch.ones(500, 64, requires_grad=True)
    bounded = cases.planned(z, scale=0.1, reduction="logsumexp")
    assert "one pass" in bounded.path and bounded.gemms == 1.5
    assert cases.planned(z, z + 1, scale=0.1, reduction="logsumexp").gemms == 3
    with jk.use_backend(workspace=1000):
        assert cases.planned(z, scale=100.0, reduction="logsumexp").gemms == 2
    with jk.use_backend("chunked"):
        assert cases.planned(z, scale=0.1, reduction="logsumexp").gemms == 4


def test_explain_tells_whether_the_workspace_holds_a_strip():
    x = torch.zeros(500, 4, requires_grad=True)
    assert "scores of 96 rows kept" in cases.planned(x, x + 1, reduction="mean").path
    with jk.use_backend(workspace=1000):
        explanation = cases.planned(x, x + 1, reduction="mean")
    assert "two passes" in explanation.path
    assert explanation.gemms == 4


def test_explain_tells_whether_the_workspace_holds_all_scores():
    z, alone = torch.zeros(500, 64, requires_grad=True), torch.ones((), requires_grad=True)
    kept = cases.planned(z, reduction="mean")
    assert "scores kept" in kept.path and kept.gemms == 1.5
    assert cases.planned(z, z + 1, dim="both", reduction="mean").gemms == 3
    with jk.use_backend(workspace=1000):
        assert cases.planned(z, reduction="mean").gemms == 2
    assert cases.planned(z, scale=alone, reduction="mean").gemms == 1.5
    # The gradient of a bandwidth needs distances too.
    assert cases.planned(z, scale=alone, kind="sqdist", reduction="mean").gemms == 2


def test_explain_counts_products_of_sums():
    z = torch.zeros(8, 4, requires_grad=True)
    assert cases.planned(z, psi="softplus", reduction="mean").gemms == 1.5
    assert cases.planned(z, z + 1, psi="softplus", reduction="mean").gemms == 3


SQUARES = {
    "chunked": (
        "one matrix product: ",
        "one matrix product, in fp64 for strips with close pairs",
        "differences: scale",
    ),
    "cpu": (
        "matrix products: scale",
        "differences for tiles with close pairs",
        "differences for tiles with close pairs",
    ),
}


@pytest.mark.parametrize("backend", SQUARES)
def test_explain_says_how_squares_are_taken(backend):
    z = torch.randn(64, 24, generator=torch.Generator().manual_seed(0))
    with jk.use_backend(backend):
        for scale, way in zip((0.01, 10.0, 1e12), SQUARES[backend], strict=True):
            assert way in cases.planned(z, kind="sqdist", scale=scale).path
        assert "differences: only 2 dimensions" in cases.planned(z[:, :2], kind="sqdist").path
