"""retrieval_metrics: ranks, ties, several partners a row, against loops over the matrix, scipy and scikit-learn."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.metrics import label_ranking_average_precision_score

import jessl_kernels as jk
from tests import cases, data
from tests.oracles import geometry

# Five captions an image, images without a caption, captions without an image, ids that occur on one side only.
IMAGES = [3, 1, 4, 1, 5, 9, 2, 6, -1, 8]
CAPTIONS = [1, 1, 2, 3, 3, 3, 3, 3, 4, 5, 6, 9, 9, -1, -1, 7, 2, 5, 8]


def whole(seed: int, rows: int) -> torch.Tensor:
    """Rows of small whole numbers, so that scores are exact and often equal."""
    return data.normals(rows, 4, seed=seed).mul(1.5).round()


def ranked(s: torch.Tensor, partners: torch.Tensor, ties: str) -> tuple[list[float], list[float]]:
    """The rank of the best partner, and the average precision, of the rows that have a partner; by loops."""
    ranks, precisions = [], []
    for row, mine in zip(s.tolist(), partners.tolist(), strict=True):
        own = sorted((v for v, is_mine in zip(row, mine, strict=True) if is_mine), reverse=True)
        others = [v for v, is_mine in zip(row, mine, strict=True) if not is_mine]
        if not own:
            continue
        weight = {"worst": 1.0, "mean": 0.5, "best": 0.0}[ties]

        def above(level):
            return sum(v > level for v in others) + weight * sum(v == level for v in others)  # noqa: B023

        ranks.append(1 + above(own[0]))
        precisions.append(sum((p + 1) / (p + 1 + above(level)) for p, level in enumerate(own)) / len(own))
    return ranks, precisions


@cases.backends
@pytest.mark.parametrize("ties", ["worst", "mean", "best"])
@pytest.mark.parametrize("with_ids", [False, True], ids=["", "ids"])
def test_ranks_ties_and_precision_are_those_of_loops(backend, ties, with_ids):
    x, y = whole(0, len(IMAGES)), whole(1, len(CAPTIONS) if with_ids else len(IMAGES))
    ids = (torch.tensor(IMAGES), torch.tensor(CAPTIONS)) if with_ids else None
    partners = torch.eye(len(x), dtype=torch.bool)
    if ids is not None:
        partners = (ids[0][:, None] == ids[1]) & (ids[0][:, None] >= 0)
    precise = backend != "triton"  # the GPU backend may not wait for a number
    with jk.use_backend(backend):
        found = jk.retrieval_metrics(x.float(), y.float(), k=(1, 2, 7), ids=ids, ties=ties, average_precision=precise)
    s = x @ y.T
    for name, scores, mine in (("x_to_y", s, partners), ("y_to_x", s.T, partners.T)):
        ranks, precisions = ranked(scores, mine, ties)
        for k in (1, 2, 7):
            assert float(found[f"{name}/recall@{k}"]) == pytest.approx(np.mean([rank <= k for rank in ranks]))
        assert float(found[f"{name}/mean_rank"]) == pytest.approx(np.mean(ranks))
        assert float(found[f"{name}/median_rank"]) == sorted(ranks)[(len(ranks) - 1) // 2]
        if precise:
            assert float(found[f"{name}/map"]) == pytest.approx(np.mean(precisions), rel=1e-6)
    best = s.masked_fill(~partners, -torch.inf).amax(dim=1)
    assert float(found["mean_positive"]) == pytest.approx(float(best[best > -torch.inf].mean()))
    assert float(found["hardest_negative"]) == pytest.approx(float(s.masked_fill(partners, -torch.inf).amax(1).mean()))


def test_mean_ranks_are_scipys_and_precision_is_scikit_learns():
    x, y = data.pairs("clustered", 50, 6, seed=5)
    own, others = torch.arange(50) // 2, torch.arange(50) // 2
    found = jk.retrieval_metrics(x, y, ids=(own, others), ties="mean", average_precision=True)
    s, partners = (x.double() @ y.double().T), own[:, None] == others
    expected = label_ranking_average_precision_score(partners.numpy(), s.numpy())
    assert float(found["x_to_y/map"]) == pytest.approx(expected, rel=1e-6)
    alone = jk.retrieval_metrics(x, y, ties="mean")
    ranks = scipy.stats.rankdata(-s.numpy(), method="average", axis=1).diagonal()
    assert float(alone["x_to_y/mean_rank"]) == pytest.approx(ranks.mean())


@cases.backends
@pytest.mark.parametrize("batch", ["random", "clustered"])
def test_retrieval_metrics_count_what_the_matrix_shows(backend, batch):
    x, y = data.pairs(batch, 60, 5, seed=0)
    y = x + 0.7 * y
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        found = jk.retrieval_metrics(x, y, k=(1, 5, 60, 100))
    for k in (1, 5, 60, 100):
        for name, a, b in (("x_to_y", x, y), ("y_to_x", y, x)):
            expected = geometry.recall(a.double(), b.double(), k).double().mean()
            assert float(found[f"{name}/recall@{k}"]) == pytest.approx(float(expected))
    wide = x.double(), y.double()
    assert float(found["mean_positive"]) == pytest.approx(float(geometry.mean_positive(*wide)), rel=1e-5)
    assert float(found["hardest_negative"]) == pytest.approx(float(geometry.hardest_negative(*wide)), rel=1e-5)


def test_collapsed_embeddings_retrieve_nothing_unless_ties_are_the_partners():
    x, y = data.pairs("all_equal", 50, 8, seed=0)
    found = {ties: jk.retrieval_metrics(x, y, k=(1, 5), ties=ties) for ties in ("worst", "mean", "best")}
    assert found["worst"]["x_to_y/recall@5"] == 0 and found["worst"]["x_to_y/mean_rank"] == 50
    assert found["mean"]["x_to_y/mean_rank"] == 25.5
    assert found["best"]["x_to_y/recall@1"] == 1


def test_rows_of_zeros_retrieve_nothing_either():
    z = torch.zeros(4, 3)
    assert jk.retrieval_metrics(z, z, k=1)["x_to_y/recall@1"] == 0
    assert jk.retrieval_metrics(z, z, k=1, ties="mean")["x_to_y/mean_rank"] == 2.5
    assert jk.retrieval_metrics(z, z, k=1, ties="best")["x_to_y/recall@1"] == 1


def test_where_no_row_has_a_partner_there_is_nothing_to_average():
    found = jk.retrieval_metrics(torch.eye(3), torch.eye(4, 3), ids=(torch.arange(3), torch.full((4,), -1)))
    assert math.isnan(found["x_to_y/recall@1"]) and math.isnan(found["y_to_x/mean_rank"])
    assert float(found["hardest_negative"]) == 1


BAD = {
    "ids": ({"ids": torch.arange(4)}, TypeError, "ids is .*, must be two tensors of integers"),
    "lengths": ({"ids": (torch.arange(4), torch.arange(3))}, ValueError, "ids is 3 ids of y, must be 4, one per row"),
    "floats": ({"ids": (torch.ones(4), torch.ones(4))}, TypeError, "ids is .*, must be a tensor of integers"),
    "device": (
        {"ids": (torch.arange(4), torch.arange(4, device="meta"))},
        ValueError,
        "ids is on meta, must be on cpu like y",
    ),
    "ties": ({"ties": "random"}, ValueError, "ties is 'random', must be one of"),
    "precision": ({"average_precision": 1}, TypeError, "average_precision is .*, must be True or False"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name):
    arguments, error, message = BAD[name]
    with pytest.raises(error, match=f"^retrieval_metrics: {message}"):
        jk.retrieval_metrics(torch.eye(4), torch.eye(4), **arguments)
