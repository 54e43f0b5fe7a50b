"""A guide: the scores of another model leave out pairs that lie above a threshold of their row."""

import pytest
import torch

import jessl_kernels as jk
from tests import cases, data
from tests.oracles.precision import inner_products
from tests.oracles.reductions import logsumexp, softplus
from tests.yardstick import judge

N, M, D, G = 33, 40, 8, 5
backends = pytest.mark.parametrize("backend", ["reference", "chunked"])


def guided(n: int = N, m: int = M):
    g, h = data.normals(n, G, seed=5), data.normals(m, G, seed=6)
    threshold = data.normals(n, seed=7) + 1.0
    return g, h, threshold


def left_out(guide) -> torch.Tensor:
    g, h, threshold = guide
    return g.float() @ h.float().T > threshold.float()[:, None]


def problem(dtype=torch.float32):
    x, y = (data.given(data.normals(n, D, seed=n), dtype) for n in (N, M))
    guide = tuple(t.float() for t in guided())
    assert 0.1 < left_out(guide).float().mean() < 0.5
    return {"x": x, "y": y}, guide


@backends
@cases.dtypes
@pytest.mark.parametrize("dim", ["row", "col"])
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_log_sum_exps(backend, dtype, dim, reduction):
    inputs, guide = problem(dtype)
    out = left_out(guide)

    def truth(x, y):
        s = 0.5 * inner_products(x, y)
        rows = logsumexp(s, out) if dim == "row" else logsumexp(s.T, out.T)
        return rows if reduction == "none" else rows.mean()

    exclude = jk.Exclude(guide=guide)
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge(
            "guide",
            lambda x, y: jk.pairwise_logsumexp(x, y, scale=0.5, exclude=exclude, dim=dim, reduction=reduction),
            truth,
            inputs,
            seed=0,
        )


@backends
@pytest.mark.parametrize("join", ["softplus", "softplus_spread"])
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_a_loss_whose_positives_are_kept(backend, join, reduction):
    """Positives by shift, and by ids, which reorder rows: a guide must follow its rows."""
    inputs, guide = problem()
    out = left_out(guide)
    ids, col_ids = torch.arange(N) % 7, torch.arange(M) % 7
    positive = torch.eye(N, M, dtype=torch.bool) if join == "softplus" else ids[:, None] == col_ids
    # A pair of equal ids is a positive only if `exclude` includes it.
    positive = positive if join == "softplus" else positive & ~out
    partners = 0 if join == "softplus" else (ids, col_ids)

    def truth(x, y):
        s = inner_products(x, y)
        of_positives = logsumexp(s, ~positive)
        there = positive.any(dim=1)
        of_positives = of_positives.masked_fill(~there, 0.0)
        mean = torch.where(positive, s, 0.0).sum(dim=1) / positive.sum(dim=1).clamp_min(1)
        rows = softplus(logsumexp(s, positive | out) - of_positives)
        rows = rows + (of_positives - mean) if join == "softplus_spread" else rows
        rows = torch.where(there, rows, 0.0)
        return rows if reduction == "none" else rows.mean()

    exclude = jk.Exclude(guide=guide)
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge(
            "guide",
            lambda x, y: jk.row_loss(x, y, join=join, positives=partners, exclude=exclude, reduction=reduction),
            truth,
            inputs,
            seed=0,
        )


@backends
def test_counts_sums_of_steps_and_top_k(backend):
    inputs, guide = problem()
    out, exclude = left_out(guide), jk.Exclude(guide=guide, keep=(1,))
    kept = torch.zeros(N, M, dtype=torch.bool)
    kept[torch.arange(N), torch.arange(N) + 1] = True
    out = out & ~kept
    s = (inputs["x"] @ inputs["y"].T).masked_fill(out, -torch.inf)
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        sums = jk.row_sums(**inputs, exclude=exclude, positives=0)
        own = torch.eye(N, M, dtype=torch.bool)
        assert torch.equal(sums.n_neg, (~(out | own)).sum(dim=1).float())
        steps = jk.pairwise_sum(**inputs, psi="step", exclude=exclude)
        assert torch.equal(steps, (s > 0).sum(dim=1).float())
        values, places = jk.pairwise_topk(**inputs, k=3, exclude=exclude)
        assert torch.equal(places, s.topk(3, dim=1).indices)
        torch.testing.assert_close(values, s.topk(3, dim=1).values)


@backends
def test_counts_are_those_of_the_sums_under_autocast_too(backend):
    x, y = torch.randn(200, 4), torch.randn(300, 4)
    g, h = data.normals(200, 3, seed=1).float(), data.normals(300, 3, seed=2).float()
    guide = g, h, (g * h[:200]).sum(dim=1) + 1e-3  # bf16 would decide otherwise
    sums = jk.row_sums(x, y, exclude=jk.Exclude(guide=guide))
    with jk.use_backend(backend), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(jk.row_sums(x, y, exclude=jk.Exclude(guide=guide)).n_neg, sums.n_neg)
    assert torch.equal(sums.n_neg, (~left_out(guide)).sum(dim=1).float())


def test_others_decline_by_name_and_chunked_computes():
    inputs, guide = problem()
    exclude = jk.Exclude(guide=guide)
    chosen = cases.planned(**inputs, exclude=exclude, reduction="mean")
    assert chosen.backend == "chunked" and chosen.declined["cpu"] == ["a guide is not compiled into it"]
    assert chosen.gemms == 2  # one of them is the guide's
    with jk.use_backend("cpu"), pytest.raises(NotImplementedError, match=r"cannot run .* a guide is not"):
        jk.pairwise_logsumexp(**inputs, exclude=exclude)


def test_compiled_code_takes_a_guide():
    inputs, guide = problem()

    def loss(x, y, g, h, threshold):
        return jk.row_loss(x, y, join="softplus", positives=0, exclude=jk.Exclude(guide=(g, h, threshold)))

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs.values(), *guide), loss(*inputs.values(), *guide))


X, T = torch.eye(4), torch.zeros(4)
WRONG = {
    "tuple": (lambda: jk.Exclude(guide=X), TypeError, r"Exclude: guide is a tensor .*, must be \(g, h"),
    "ints": (lambda: jk.Exclude(guide=(X, X, T.long())), TypeError, "Exclude: guide is a tuple"),
    "two": (lambda: jk.Exclude(guide=(X, X)), ValueError, r"guide is of shapes \(4, 4\), \(4, 4\), must be"),
    "widths": (lambda: jk.Exclude(guide=(X, X[:, :3], T)), ValueError, "guide is of shapes"),
    "thresholds": (lambda: jk.Exclude(guide=(X, X, T[:3])), ValueError, "guide is of shapes"),
    "rows": (
        lambda: jk.pairwise_logsumexp(X[:3], X, exclude=jk.Exclude(guide=(X, X, T))),
        ValueError,
        "pairwise_logsumexp: exclude.guide is of 4 rows, must be of 3",
    ),
    "columns": (
        lambda: jk.pairwise_logsumexp(X, X[:3], exclude=jk.Exclude(guide=(X, X, T))),
        ValueError,
        "pairwise_logsumexp: exclude.guide is of 4 columns, must be of 3",
    ),
    "device": (
        lambda: jk.pairwise_logsumexp(X, exclude=jk.Exclude(guide=(X.to("meta"), X, T))),
        ValueError,
        "exclude.guide is on meta, must be on cpu",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_argument(name):
    run, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        run()
