"""Skipped pairs: no sum loses more than ε of itself, work shrinks, and nothing else changes.

The bounds are tested in fp64, where rounding is negligible: values low by at most −log(1 − ε), weights off by 2ε a row.
"""

import math

import pytest
import torch

import jessl_kernels as jk
from jessl_kernels.native import native_status
from tests.skipping import answers, clusters

if not native_status().available:
    pytest.skip(native_status().reason, allow_module_level=True)
pytestmark = pytest.mark.usefixtures("cpu_backend")

N = 1500  # eight tiles along a row
ROUNDING = 1e-11  # the rounding of fp64 sums over thousands of scores up to some hundred
epsilons = pytest.mark.parametrize("epsilon", [1e-2, 1e-4, 1e-6])


def ordered(n, D, seed):
    """Points sorted by their first coordinate."""
    g = torch.Generator().manual_seed(seed)
    points = torch.rand(n, D, generator=g, dtype=torch.float64)
    return points[points[:, 0].argsort()] * 20


def uniform(n, D, seed):
    return torch.rand(n, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 20


POINTS = {"clusters": clusters, "sorted": ordered, "uniform": uniform}


def unit_clusters(n, D, seed, count=12):
    """Unit vectors around a few directions: embeddings of a trained encoder."""
    return torch.nn.functional.normalize(clusters(n, D, seed, spread=4.0, count=count), dim=1)


def matrix_rows(s):
    return torch.logsumexp(s, dim=1)


def low_by(epsilon):
    return -math.log1p(-epsilon) + ROUNDING


def assert_low_by_at_most(epsilon, ours, truth):
    lost = truth - ours
    assert float(lost.min()) >= -ROUNDING and float(lost.max()) <= low_by(epsilon)


# ---- The bound ----


def leave_one_out_scores(z, h):
    s = -torch.cdist(z, z).square() / (2 * h * h)
    return s.fill_diagonal_(-torch.inf)


@epsilons
@pytest.mark.parametrize("D", [1, 2, 16, 128])
@pytest.mark.parametrize("points", POINTS)
def test_leave_one_out_densities_lose_at_most_epsilon(points, D, epsilon):
    z, h = POINTS[points](N, D, seed=D), 0.5 * math.sqrt(D)
    with jk.use_backend(skip_below=epsilon):
        ours = jk.pairwise_logsumexp(z, kind="sqdist", scale=1 / (2 * h * h), exclude="diagonal")
    assert_low_by_at_most(epsilon, ours, matrix_rows(leave_one_out_scores(z, h)))


@epsilons
@pytest.mark.parametrize("points", POINTS)
@pytest.mark.parametrize("D", [2, 16])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradients_of_leave_one_out_entropy_are_within_the_bound(reduction, D, points, epsilon):
    z, h = POINTS[points](N, D, seed=D), 0.5 * math.sqrt(D)
    alpha = 1 / (2 * h * h)

    def loss(x):
        return jk.pairwise_logsumexp(x, kind="sqdist", scale=alpha, exclude="diagonal", reduction=reduction)

    _, dx = answers(loss, z, epsilon=epsilon)
    p = leave_one_out_scores(z, h).softmax(dim=1) / (N if reduction == "mean" else 1)
    both = p + p.T
    truth = 2 * alpha * (both @ z - both.sum(dim=1, keepdim=True) * z)
    # Each pair pulls both its points: weights are off by 2ε a row, points are at most a diameter apart; summed over all points.
    weight = 1.0 if reduction == "mean" else float(N)
    diameter = float(torch.cdist(z, z).max())
    allowed = 2 * 2 * epsilon * weight * 2 * alpha * diameter
    assert float((dx - truth).norm(dim=1).sum()) <= allowed + ROUNDING * float(truth.norm(dim=1).sum() + 1)


BLOCKS = 128 << 20  # bytes of workspace: room for tiles of 192 also in the 1,200 dimensions of a unit matrix, in fp64


def block_scores(rows, columns, seed, step=8.0):
    """Scores that are high in one block of 192 columns for each block of 192 rows, and lower by a step for each further block."""
    g = torch.Generator().manual_seed(seed)
    s = torch.randn(rows, columns, generator=g, dtype=torch.float64)
    i, j = torch.arange(rows) // 192, torch.arange(columns) // 192
    return s - step * (i[:, None] - j[None, :]).abs()


@epsilons
@pytest.mark.parametrize("reduction", ["sum", "none"])
@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("dim", ["row", "both"])
def test_weights_are_off_by_at_most_two_epsilon_a_row(dim, anchored, reduction, epsilon, core):
    # With y the unit matrix scores are x, and its gradient is the weights themselves. Anchors far above the rest: converged.
    s = block_scores(1400, 1200, seed=3)
    if dim == "both":
        s[:, 600:] -= 40.0  # no row needs these columns, but they have sums of their own
    y, x = torch.eye(1200, dtype=torch.float64), s.clone().requires_grad_()
    row_anchor = torch.full((1400,), 30.0, dtype=torch.float64) if anchored else None
    col_anchor = torch.full((1200,), 30.0, dtype=torch.float64) if anchored and dim == "both" else None
    with jk.use_backend(skip_below=epsilon, workspace=BLOCKS):
        value = jk.pairwise_logsumexp(x, y, anchor=row_anchor, col_anchor=col_anchor, dim=dim, reduction=reduction)
        total = value if reduction == "sum" else sum(v.sum() for v in (value if dim == "both" else (value,)))
    (found,) = torch.autograd.grad(total, x)
    if reduction == "sum":
        assert core.tiles[2] < 56  # fewer than 8 × 7: products were skipped

    def weights(s):
        share = torch.sigmoid(torch.logsumexp(s, dim=1) - 30)[:, None] if anchored else 1.0
        return s.softmax(dim=1) * share, torch.as_tensor(share).expand(len(s), 1)

    p, share = weights(s)
    error = (found - p).abs().sum(dim=1) if dim == "row" else None
    if error is not None:
        assert bool((error <= 2 * epsilon * share[:, 0] + ROUNDING).all())
    else:
        q, col_share = weights(s.T)
        lost = float((found - p - q.T).abs().sum())
        assert lost <= 2 * epsilon * float(share.sum() + col_share.sum()) + ROUNDING


CONTRASTIVE = {
    "nt_xent": lambda x, y: jk.nt_xent(x, y, temperature=0.01),
    "info_nce": lambda x, y: jk.info_nce(x, y, temperature=0.01),
    "clip": lambda x, y: jk.clip_loss(x, y, 100.0, normalize=True),
    "sup_con": lambda x, y: jk.sup_con(torch.cat([x, y]), torch.arange(2 * len(x)) % 12, temperature=0.01),
    "dcl": lambda x, y: jk.dcl(x, y, temperature=0.01),
}


@epsilons
@pytest.mark.parametrize("loss", CONTRASTIVE)
@pytest.mark.parametrize("D", [3, 64])
def test_contrastive_losses_at_a_small_temperature_are_within_the_bound(loss, D, epsilon, core):
    x = unit_clusters(N // 2, D, seed=5)
    y = torch.nn.functional.normalize(x + 0.05 * unit_clusters(N // 2, D, seed=6), dim=1)
    f = CONTRASTIVE[loss]
    truth, dx, dy = answers(f, x, y, epsilon=0.0)
    all_tiles = core.tiles
    value, found_x, found_y = answers(f, x, y, epsilon=epsilon)
    assert abs(float(truth - value)) <= low_by(epsilon) * (1 + abs(float(truth)))
    # The mean over rows: weights are off by 2ε on each of two sides, times unit vectors (twice for SupCon's two sums) and 1/τ,
    # on both ends of a pair.
    lost = float((found_x - dx).norm(dim=1).sum() + (found_y - dy).norm(dim=1).sum())
    assert lost <= 2 * 2 * 2 * epsilon * 100 + ROUNDING * 100
    if D == 3 and loss != "sup_con":  # SupCon's last call is the sum over positives, whose classes skip tiles already
        assert core.tiles[1] < all_tiles[1]


@epsilons
@pytest.mark.parametrize("kernel", ["gaussian", "laplace"])
def test_weighted_densities_at_other_points_are_within_the_bound(kernel, epsilon, core):
    query, data = clusters(900, 3, seed=1), clusters(1300, 3, seed=1)
    weights = torch.rand(1300, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    weights[::7] = 0.0  # a bias of −inf

    def density(q, z):
        return jk.kde_log_density(q, z, bandwidth=0.3, kernel=kernel, weights=weights)

    truth = answers(density, query, data, epsilon=0.0)
    all_tiles = core.tiles
    found = answers(density, query, data, epsilon=epsilon)
    assert_low_by_at_most(epsilon, found[0], truth[0])
    assert core.tiles[1] < all_tiles[1]
    slope = {"gaussian": 60 / 0.3**2, "laplace": 1 / 0.3}[
        kernel
    ]  # of a score, by the point: points are at most 60 apart
    assert float((found[1] - truth[1]).norm(dim=1).max()) <= 2 * epsilon * slope + 1e-8
    assert float((found[2] - truth[2]).norm(dim=1).sum()) <= 2 * epsilon * slope * 900 + 1e-8


@pytest.mark.parametrize("dim", ["row", "col", "both"])
@pytest.mark.parametrize("y_is_x", [False, True])
def test_biases_and_exclusions_follow_their_points(dim, y_is_x, core):
    epsilon, n, m = 1e-4, 1000, 1000 if y_is_x else 800
    x, y = clusters(n, 2, seed=1), None if y_is_x else clusters(m, 2, seed=1)
    g = torch.Generator().manual_seed(4)
    r, c = (torch.randn(k, generator=g, dtype=torch.float64) for k in (n, m))
    r[3] = c[5] = -torch.inf
    ids = torch.randint(-1, 40, (n,), generator=g), torch.randint(-1, 40, (m,), generator=g)
    exclude = jk.Exclude(diagonals=(0, 7, -450), same=ids, keep=(1, -2))
    keys = x if y is None else y
    s = exclude_by_definition(-2 * torch.cdist(x, keys).square() + r[:, None] + c, exclude)
    truth = {"row": [matrix_rows(s)], "col": [matrix_rows(s.T)], "both": [matrix_rows(s), matrix_rows(s.T)]}[dim]
    options = {"kind": "sqdist", "scale": 2.0, "row_bias": r, "col_bias": c, "exclude": exclude, "dim": dim}
    jk.pairwise_logsumexp(x, y, **options)
    all_tiles = core.tiles
    with jk.use_backend(skip_below=epsilon):
        found = jk.pairwise_logsumexp(x, y, **options)
    assert core.tiles[1] < all_tiles[1]
    for ours, expected in zip(found if dim == "both" else [found], truth, strict=True):
        finite = expected.isfinite()
        assert torch.equal(ours.isfinite(), finite)
        assert_low_by_at_most(epsilon, ours[finite], expected[finite])


def exclude_by_definition(s, exclude):
    offset = torch.arange(s.shape[1])[None, :] - torch.arange(s.shape[0])[:, None]
    ((rows, cols),) = exclude.same
    out = torch.isin(offset, torch.tensor(exclude.diagonals)) | ((rows[:, None] == cols) & (rows[:, None] >= 0))
    return s.masked_fill(out & ~torch.isin(offset, torch.tensor(exclude.keep)), -torch.inf)


def test_rows_without_a_pair_in_their_own_tile_keep_their_value():
    # Every class is a cluster, and its own pairs are excluded: a row has only distant pairs.
    ids = torch.arange(N) % 12
    g = torch.Generator().manual_seed(0)
    centers = 10 * torch.randn(12, 2, generator=g, dtype=torch.float64)
    x = centers[ids] + 0.1 * torch.randn(N, 2, generator=g, dtype=torch.float64)
    exclude = jk.Exclude(same=(ids, ids))
    with jk.use_backend(skip_below=1e-3):
        ours = jk.pairwise_logsumexp(x, kind="sqdist", scale=1.0, exclude=exclude)
    s = (-torch.cdist(x, x).square()).masked_fill(ids[:, None] == ids, -torch.inf)
    assert_low_by_at_most(1e-3, ours, matrix_rows(s))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_not_hidden(value):
    x = clusters(N, 2, seed=0)
    x[700, 1] = value
    with jk.use_backend(skip_below=1e-3):
        ours = jk.pairwise_logsumexp(x, kind="sqdist", scale=1.0)
    with jk.use_backend(skip_below=0.0):
        assert torch.equal(ours.isnan(), jk.pairwise_logsumexp(x, kind="sqdist", scale=1.0).isnan())


# ---- What falls ----


def test_far_clusters_cost_little_more_than_themselves(core):
    z = clusters(6000, 2, seed=0, spread=100.0).float()
    answers(lambda x: jk.kde_entropy(x, bandwidth=0.3), z, epsilon=0.0)
    _, all_scored, all_pulled = core.tiles
    answers(lambda x: jk.kde_entropy(x, bandwidth=0.3), z, epsilon=1e-6)
    looked, scored, pulled = core.tiles
    assert looked == 32  # one tile a strip
    assert scored < all_scored / 4 and pulled < all_pulled / 4


def test_what_is_light_by_its_scores_is_not_computed_again(core):
    x = block_scores(1400, 1200, seed=3, step=20.0).requires_grad_()
    with jk.use_backend(skip_below=1e-4, workspace=BLOCKS):
        jk.pairwise_logsumexp(x, torch.eye(1200, dtype=torch.float64), dim="both", reduction="sum")
    _, scored, pulled = core.tiles
    assert pulled < 30 < scored - pulled  # the first pass scores more tiles, because it knows less


def test_without_skipping_nothing_is_looked_at_and_all_is_computed(core):
    answers(lambda x: jk.kde_entropy(x, bandwidth=0.3), clusters(N, 2, seed=0), epsilon=0.0)
    assert core.tiles == (0, 2 * 36, 36)  # triangular tiles of 8 strips, in two passes


def test_sums_of_softplus_and_top_k_compute_all_pairs(core):
    x = clusters(N, 2, seed=0)
    with jk.use_backend(skip_below=1e-2):
        ours = jk.pairwise_sum(x, scale=0.1)
        assert core.tiles[0] == 0
        best = jk.pairwise_topk(x, k=3)
    with jk.use_backend(skip_below=0.0):
        assert torch.equal(ours, jk.pairwise_sum(x, scale=0.1))
        assert all(torch.equal(a, b) for a, b in zip(best, jk.pairwise_topk(x, k=3), strict=True))
