"""Ids instead of a diagonal: several partners, keys with labels, and sets of negatives with padding."""

import pytest
import torch

import jessl_kernels as jk
from tests import cases, data
from tests.oracles import contrastive
from tests.oracles import ids as oracle
from tests.oracles.reductions import reduce
from tests.unit.test_losses import number
from tests.yardstick import judge

N, M, D = 33, 14, 16
SAME_ID = ("mean", "sum", "ignore")


def some_ids(n: int, seed: int) -> torch.Tensor:
    """Ids of which some are unique, some are shared, and some are negative (no id)."""
    return torch.randint(-2, 12, (n,), generator=torch.Generator().manual_seed(seed))


# name: (ours, the oracle's rows, the scalars it learns)
LOSSES = {
    "info_nce": (jk.info_nce, oracle.info_nce, {"temperature": 0.1}),
    "info_nce-symmetric": (
        lambda **k: jk.info_nce(symmetric=True, **k),
        lambda **k: oracle.info_nce(symmetric=True, **k),
        {"temperature": 0.1},
    ),
    "clip_loss": (
        lambda query, positive, **k: jk.clip_loss(query, positive, normalize=True, **k),
        lambda query, positive, **k: oracle.clip_loss(query, positive, **k),
        {"logit_scale": 10.0},
    ),
    "siglip_loss": (
        lambda query, positive, **k: jk.siglip_loss(query, positive, normalize=True, **k),
        lambda query, positive, **k: oracle.siglip_loss(query, positive, **k),
        {"logit_scale": 10.0, "logit_bias": -5.0},
    ),
}


def judge_ids(backend, ours, truth, inputs, reduction="mean", **options):
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge(
            "ids",
            lambda **k: ours(reduction=reduction, **options, **k),
            lambda **k: reduce(truth(**options, **k), reduction),
            inputs,
            seed=0,
        )


@cases.backends
@cases.dtypes
@pytest.mark.parametrize("same_id", SAME_ID)
@pytest.mark.parametrize("loss", LOSSES)
def test_rows_of_one_id_are_positives_or_ignored(backend, dtype, loss, same_id):
    ours, truth, scalars = LOSSES[loss]
    if loss == "siglip_loss" and same_id == "mean":
        with pytest.raises(ValueError, match="siglip_loss: same_id is 'mean', must be one of 'sum', 'ignore'"):
            jk.siglip_loss(torch.eye(2), torch.eye(2), 1.0, 0.0, ids=torch.arange(2), same_id="mean")
        return
    query, positive = data.pairs("random", N, D, seed=0, dtype=dtype)
    inputs = {"query": query, "positive": positive, "ids": some_ids(N, seed=1)}
    inputs |= {name: number(value, dtype) for name, value in scalars.items()}
    judge_ids(backend, ours, truth, inputs, same_id=same_id)


@cases.backends
@pytest.mark.parametrize("symmetric", [False, True], ids=["", "symmetric"])
@pytest.mark.parametrize("with_ids", [False, True], ids=["ids of negatives", "no ids of negatives"])
@pytest.mark.parametrize("same_id", SAME_ID)
def test_shared_negatives_have_ids_too(backend, same_id, with_ids, symmetric):
    query, positive = data.pairs("random", N, D, seed=0)
    inputs = {"query": query, "positive": positive, "negatives": data.given(data.normals(M, D, seed=3), query.dtype)}
    inputs |= {"ids": some_ids(N, seed=1), "negative_ids": some_ids(M, seed=2) if with_ids else None}
    inputs |= {"temperature": number(0.1, query.dtype)}
    judge_ids(backend, jk.info_nce, oracle.info_nce, inputs, "none", same_id=same_id, symmetric=symmetric)


@pytest.mark.parametrize("same_id", SAME_ID)
@pytest.mark.parametrize("loss", LOSSES)
def test_ids_that_are_all_different_change_nothing(loss, same_id):
    ours, _, scalars = LOSSES[loss]
    query, positive = data.pairs("random", N, D, seed=0)
    without = ours(query=query, positive=positive, reduction="none", **scalars)
    if loss == "siglip_loss" and same_id == "mean":
        same_id = "sum"
    for ids in (torch.arange(N).flip(0), torch.full((N,), -1)):
        value = ours(query=query, positive=positive, ids=ids, same_id=same_id, reduction="none", **scalars)
        torch.testing.assert_close(value, without, rtol=1e-5, atol=1e-6)


@cases.backends
def test_without_the_batch_negatives_of_a_querys_id_are_ignored(backend):
    query, positive = data.pairs("random", N, D, seed=0)
    negatives = data.given(data.normals(M, D, seed=3), query.dtype)
    inputs = {"query": query, "positive": positive, "negatives": negatives, "temperature": number(0.1, query.dtype)}
    inputs |= {"ids": some_ids(N, seed=1), "negative_ids": some_ids(M, seed=2)}

    def truth(query, positive, negatives, temperature, ids, negative_ids):
        query, positive, negatives = (oracle.unit_embeddings(z) for z in (query, positive, negatives))
        own = (query * positive).sum(dim=1, keepdim=True)
        s = torch.cat([own, oracle.inner_products(query, negatives)], dim=1) / temperature
        first = torch.zeros(N, 1, dtype=torch.bool)
        alike = torch.cat([first, oracle.same(ids, negative_ids)], dim=1)
        return oracle.found(s, alike, torch.cat([~first, torch.zeros(N, M, dtype=torch.bool)], dim=1), "ignore")

    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge(
            "without the batch",
            lambda **k: jk.info_nce(in_batch=False, same_id="ignore", reduction="none", **k),
            truth,
            inputs,
            seed=0,
        )


@cases.backends
@cases.dtypes
@pytest.mark.parametrize("in_batch", [True, False], ids=["", "keys alone"])
def test_sup_con_finds_keys(backend, dtype, in_batch):
    features, keys = (data.given(data.normals(n, D, seed=n), dtype) for n in (N, M))
    inputs = {"features": features, "keys": keys, "temperature": number(0.1, dtype)}
    inputs |= {"labels": some_ids(N, seed=1), "key_labels": some_ids(M, seed=2)}
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge(
            "keys",
            lambda **k: jk.sup_con(in_batch=in_batch, **k),
            lambda **k: oracle.sup_con(in_batch=in_batch, **k),
            inputs,
            seed=0,
            floors={"features": 0.5 / N, "keys": 0.5 / N},  # pulling and pushing terms may cancel
        )


@cases.backends
@pytest.mark.parametrize("in_batch", [True, False], ids=["", "not-in-batch"])
@pytest.mark.parametrize("padding", [0.0, torch.nan], ids=["zeros", "NaN"])
def test_padding_of_a_set_of_negatives_counts_for_nothing(backend, in_batch, padding):
    query, positive = data.pairs("random", N, D, seed=0)
    given = data.given(data.normals(N, 5, D, seed=3), query.dtype)
    mask = torch.arange(5)[None, :] < (torch.arange(N) % 6)[:, None]  # none at all for some
    inputs = {"query": query, "positive": positive, "negatives": given, "temperature": number(0.1, query.dtype)}

    def ours(negatives, **k):
        padded = torch.where(mask.unsqueeze(2), negatives, padding)
        return jk.info_nce(negatives=padded, negatives_mask=mask, in_batch=in_batch, reduction="none", **k)

    def truth(query, positive, negatives, temperature):
        rows = []
        for i in range(N):  # a loss of each query's own, with the negatives that are there
            q, n = query[i : i + 1], negatives[i][mask[i]]
            own = oracle.inner_products(oracle.unit_embeddings(q), oracle.unit_embeddings(n)) / temperature
            batch = oracle.inner_products(oracle.unit_embeddings(q), oracle.unit_embeddings(positive)) / temperature
            s = torch.cat([batch if in_batch else batch[:, i : i + 1], own], dim=1)
            rows.append(contrastive.cross_entropy(s, torch.tensor([i if in_batch else 0])))
        return torch.cat(rows)

    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge("padding", ours, truth, inputs, seed=0)


def test_an_anchor_whose_own_pair_is_kept_is_refused():
    """The pair would count twice: as the anchor, and in the sum."""
    x, ids = torch.eye(4), torch.arange(4)
    exclude, anchor = jk.Exclude(same=(ids, ids), keep=(0,)), torch.ones(4)
    for options in ({"anchor": anchor}, {"col_anchor": anchor, "dim": "col"}):
        with pytest.raises(ValueError, match=r"exclude.keep is \(0,\), must not hold 0 with an anchor"):
            jk.pairwise_logsumexp(x, x, exclude=exclude, **options)
    assert jk.pairwise_logsumexp(x, x, exclude=exclude).shape == (4,)


@cases.backends
def test_a_positive_that_is_excluded_and_kept_counts_once(backend):
    """Equal captions are no negatives. The row's own pair, which `keep` names too, is only its positive."""
    x, y = data.pairs("random", N, D, seed=0)
    ids = some_ids(N, seed=1)
    s = 5.0 * x.double() @ y.double().T
    truth = oracle.found(s, oracle.same(ids, ids), oracle.own_pairs(N, N), "ignore")
    with jk.use_backend(backend):
        for exclude in (jk.Exclude(same=(ids, ids)), jk.Exclude(same=(ids, ids), keep=(0,))):
            rows = jk.row_loss(x, y, join="softplus", positives=0, scale=5.0, exclude=exclude, reduction="none")
            torch.testing.assert_close(rows.double(), truth, rtol=1e-5, atol=1e-5)
        unlabelled = torch.where(ids < 0, 100 + torch.arange(N), ids)  # so that every row's own pair is excluded
        anchored = jk.pairwise_logsumexp(
            x, y, scale=5.0, anchor=5.0 * (x * y).sum(dim=1), exclude=jk.Exclude(same=(unlabelled, unlabelled))
        )
        torch.testing.assert_close(anchored.double(), truth, rtol=1e-5, atol=1e-5)


X, IDS, MASK = torch.eye(4), torch.arange(4), torch.ones(4, 2, dtype=torch.bool)
SETS = torch.ones(4, 2, 4)
WRONG = {
    "ids": (lambda: jk.info_nce(X, X, ids=[0, 1, 2, 3]), TypeError, "info_nce: ids is a list, .*, must be a tensor of"),
    "ids' dtype": (lambda: jk.clip_loss(X, X, 1.0, ids=X[0]), TypeError, "clip_loss: ids is a tensor of .* float32"),
    "ids' length": (
        lambda: jk.siglip_loss(X, X, 1.0, 0.0, ids=IDS[:3]),
        ValueError,
        r"siglip_loss: ids is of shape \(3,\), must be \(4,\), one per row of image",
    ),
    "ids' device": (lambda: jk.info_nce(X, X, ids=IDS.to("meta")), ValueError, "ids is on meta, must be on cpu like"),
    "same_id": (
        lambda: jk.info_nce(X, X, same_id="all"),
        ValueError,
        "info_nce: same_id is 'all', must be one of 'mean', 'sum', 'ignore'",
    ),
    "same_id without the batch": (
        lambda: jk.info_nce(X, X, X, ids=IDS, in_batch=False),
        ValueError,
        "info_nce: same_id is 'mean', must be \"ignore\" with in_batch=False",
    ),
    "ids of no negatives": (
        lambda: jk.info_nce(X, X, ids=IDS, negative_ids=IDS),
        ValueError,
        r"negative_ids is given, must be None without negatives \(M, D\)",
    ),
    "ids of sets": (lambda: jk.info_nce(X, X, SETS, ids=IDS, negative_ids=IDS), ValueError, "use negatives_mask"),
    "ids of negatives alone": (
        lambda: jk.info_nce(X, X, X, negative_ids=IDS),
        ValueError,
        "info_nce: ids is None, must be given with negative_ids",
    ),
    "negative_ids' length": (
        lambda: jk.info_nce(X, X, X, ids=IDS, negative_ids=IDS[:3]),
        ValueError,
        r"negative_ids is of shape \(3,\), must be \(4,\), one per negative",
    ),
    "mask of shared": (
        lambda: jk.info_nce(X, X, X, negatives_mask=MASK),
        ValueError,
        r"negatives_mask is given, must be None without negatives \(N, M, D\)",
    ),
    "mask's dtype": (
        lambda: jk.info_nce(X, X, SETS, negatives_mask=MASK.float()),
        TypeError,
        "negatives_mask is a tensor of .* float32, must be a tensor of bools",
    ),
    "mask's shape": (
        lambda: jk.info_nce(X, X, SETS, negatives_mask=MASK[:, :1]),
        ValueError,
        r"negatives_mask is of shape \(4, 1\), must be \(4, 2\)",
    ),
    "mask's device": (
        lambda: jk.info_nce(X, X, SETS, negatives_mask=MASK.to("meta")),
        ValueError,
        "negatives_mask is on meta, must be on cpu",
    ),
    "keys": (lambda: jk.sup_con(X, IDS, keys=IDS, key_labels=IDS), TypeError, "sup_con: keys is a tensor"),
    "keys' labels": (lambda: jk.sup_con(X, IDS, keys=X), ValueError, "sup_con: key_labels is None, must be given"),
    "labels of no keys": (lambda: jk.sup_con(X, IDS, key_labels=IDS), ValueError, "must be None without keys"),
    "key_labels' length": (
        lambda: jk.sup_con(X, IDS, keys=X, key_labels=IDS[:3]),
        ValueError,
        r"key_labels is of shape \(3,\), must be \(4,\), one per key",
    ),
    "nothing to find": (lambda: jk.sup_con(X, IDS, in_batch=False), ValueError, "in_batch is False, must be True"),
    "no flag": (lambda: jk.sup_con(X, IDS, in_batch=1), TypeError, "in_batch is a int, 1, must be True or False"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_argument(name):
    run, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        run()
