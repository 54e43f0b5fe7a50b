"""Nearest-neighbour estimates against trees of other libraries and against their definitions, by every backend of CPU tensors."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.special import digamma
from sklearn.feature_selection import mutual_info_regression
from sklearn.neighbors import NearestNeighbors

import jessl_kernels as jk
from jessl_kernels.backends import BACKENDS
from jessl_kernels.mi.neighbours import knn_entropy, ksg
from jessl_kernels.pairwise.neighbours import count_nearer, kth_distance, reach_of_nearer
from tests import data

NAMES = ("reference", "chunked", "cpu")
backends = pytest.mark.parametrize("backend", NAMES)
norms = pytest.mark.parametrize("norm", ["euclidean", "max"])
types = pytest.mark.parametrize("type", [1, 2])


@pytest.fixture(autouse=True)
def _of_the_backend(request):
    name = getattr(request.node, "callspec", None) and request.node.callspec.params.get("backend")
    if name and BACKENDS[name].MISSING:
        pytest.skip(BACKENDS[name].MISSING)
    with jk.use_backend(name, workspace=1 << 16):  # strips of few rows, the last one ragged
        yield


def gaussians(N, dims, rho=0.7, seed=0):
    return data.correlated(N, dims, rho, seed)


def lattice(N, dims, seed=0):
    """Pairs of points with few coordinates: most distances are ties, and many points coincide."""
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.randint(0, 3, (2, N, dims), generator=generator).double()
    return x, (x + noise) % 4


def matrices(x, y, norm="max"):
    """Distances of all pairs in x, in y and in both; a point's own is infinite."""
    order = {"euclidean": 2, "max": np.inf}[norm]
    found = [np.linalg.norm(z[:, None] - z[None], axis=2, ord=order) for z in (x.numpy(), y.numpy())]
    found.append(np.maximum(*found) if norm == "max" else np.hypot(*found))
    for d in found:
        np.fill_diagonal(d, np.inf)
    return found


def ksg_by_definition(x, y, k, type):
    dx, dy, both = matrices(x, y)
    radius = np.sort(both, axis=1)[:, k - 1 : k]
    if type == 1:
        nx, ny = ((d < radius).sum(axis=1) + 1 for d in (dx, dy))
    else:
        sides = (np.where(both <= radius, d, 0).max(axis=1, keepdims=True) for d in (dx, dy))
        nx, ny = ((d <= side).sum(axis=1) for d, side in zip((dx, dy), sides, strict=True))
    return digamma(k) - (1 / k if type == 2 else 0) + digamma(len(x)) - np.mean(digamma(nx) + digamma(ny))


def ksg_by_trees(x, y, k, type):
    x, y = x.numpy(), y.numpy()
    tree, N = cKDTree(np.hstack([x, y])), len(x)
    distance, index = tree.query(np.hstack([x, y]), k + 1, p=np.inf)
    terms = []
    for z in (x, y):
        if type == 1:
            radii = np.nextafter(distance[:, -1], 0)
            n = cKDTree(z).query_ball_point(z, radii, p=np.inf, return_length=True)  # itself too: n + 1
        else:
            sides = np.abs(z[index[:, 1:]] - z[:, None]).max(axis=2).max(axis=1)
            n = cKDTree(z).query_ball_point(z, np.nextafter(sides, np.inf), p=np.inf, return_length=True) - 1
        terms.append(digamma(n))
    return digamma(k) - (1 / k if type == 2 else 0) + digamma(N) - np.mean(terms[0] + terms[1])


@backends
@types
@pytest.mark.parametrize(("N", "k", "dims"), [(300, 1, 1), (301, 3, 1), (257, 3, 4), (300, 20, 2), (203, 5, 64)])
def test_ksg_is_that_of_trees(N, k, dims, type, backend):
    x, y = gaussians(N, dims)
    assert float(ksg(x, y, k=k, type=type)) == pytest.approx(ksg_by_trees(x, y, k, type), abs=1e-10)


@backends
@types
@pytest.mark.parametrize(("N", "k", "dims"), [(2, 1, 1), (4, 3, 2), (21, 20, 3), (49, 48, 3), (97, 7, 9)])
def test_ksg_is_its_definition_up_to_k_of_all_other_points(N, k, dims, type, backend):
    x, y = gaussians(N, dims)
    assert float(ksg(x, y, k=k, type=type)) == pytest.approx(ksg_by_definition(x, y, k, type), abs=1e-12)


@backends
@types
@pytest.mark.parametrize(("dims", "k"), [(1, 1), (2, 3), (5, 20)])
def test_ksg_of_ties_and_duplicates_is_its_definition_in_any_order_of_rows(dims, k, type, backend):
    x, y = lattice(211, dims)
    expected = ksg_by_definition(x, y, k, type)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    for rows in (slice(None), order):
        assert float(ksg(x[rows], y[rows], k=k, type=type)) == pytest.approx(expected, abs=1e-12)


def test_ksg_of_one_dimension_is_scikit_learns():
    x, y = gaussians(500, 1, 0.8)
    x, y = (z / z.std(correction=0) for z in (x, y))  # which it does too; its noise of 1e-10 moves no neighbour
    theirs = mutual_info_regression(x.numpy(), y[:, 0].numpy(), n_neighbors=3, random_state=0)[0]
    assert float(ksg(x, y, k=3)) == pytest.approx(theirs, abs=1e-6)


def test_ksg_is_near_the_information_in_few_dimensions_and_low_in_many():
    for dims, within in ((1, 0.1), (2, 0.1)):
        rho = math.sqrt(1 - math.exp(-2 * 1.0 / dims))
        assert float(ksg(*gaussians(1500, dims, rho))) == pytest.approx(1.0, abs=within)
    rho = math.sqrt(1 - math.exp(-2 * 2.0 / 8))
    assert 0.7 < float(ksg(*gaussians(1500, 8, rho))) < 1.3  # of 2.0


@backends
@norms
@pytest.mark.parametrize(("N", "k", "dims"), [(2000, 3, 3), (150, 20, 1), (333, 1, 64), (6, 5, 2)])
def test_knn_entropy_is_that_of_scikit_learns_neighbours(N, k, dims, norm, backend):
    z, _ = gaussians(N, dims)
    metric = {"euclidean": "euclidean", "max": "chebyshev"}[norm]
    distance, _ = NearestNeighbors(n_neighbors=k, metric=metric).fit(z.numpy()).kneighbors()
    log_ball = dims / 2 * math.log(math.pi) - math.lgamma(dims / 2 + 1)
    log_volume = dims * math.log(2) if norm == "max" else log_ball
    expected = digamma(N) - digamma(k) + log_volume + dims * np.log(distance[:, -1]).mean()
    assert float(knn_entropy(z, k=k, norm=norm)) == pytest.approx(expected, abs=1e-9)


@norms
def test_knn_entropy_is_near_the_truth(norm):
    found = float(knn_entropy(gaussians(2000, 3)[0], norm=norm))
    assert found == pytest.approx(1.5 * math.log(2 * math.pi * math.e), abs=0.1)


@pytest.mark.parametrize("points", [gaussians, lattice])
@pytest.mark.parametrize("dims", [1, 2, 5, 12, 64])
def test_the_core_finds_the_very_distances_and_counts_of_the_matrix(points, dims):
    """At 1,003 points most tiles are left out in few dimensions, and in many most pairs are left after some dimensions."""
    x, y = points(1003, dims)
    found = {}
    for backend in ("reference", "cpu"):
        with jk.use_backend(backend):
            z = torch.cat([x, y], dim=1)
            radius = kth_distance("ksg", z, 4, "max")
            above = radius.nextafter(torch.tensor(math.inf).double())
            counts = count_nearer("ksg", x, radius), count_nearer("ksg", x, above)
            exact = [radius, *counts, *reach_of_nearer("ksg", x, y, above)]
            found[backend] = exact, kth_distance("ksg", z, 4, "euclidean")
    (exact, rounded), (exact_of_core, rounded_of_core) = found.values()
    assert all(torch.equal(a, b) for a, b in zip(exact, exact_of_core, strict=True))
    torch.testing.assert_close(rounded_of_core, rounded, rtol=1e-14, atol=0)


@backends
def test_points_of_any_float_dtype_and_any_strides_are_those_in_fp64(backend):
    x, y = gaussians(100, 6)
    for dtype in (torch.float32, torch.bfloat16):
        a, b = x.to(dtype), y.to(dtype)
        assert float(ksg(a, b)) == float(ksg(a.double(), b.double()))
        assert float(knn_entropy(a.T.contiguous().T[::2])) == float(knn_entropy(a[::2].double().contiguous()))


def test_results_have_equal_bits_at_every_number_of_threads():
    x, y = gaussians(1500, 2)
    found, before = [], torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append([ksg(x, y), ksg(x, y, type=2), knn_entropy(x), knn_entropy(x, norm="max")])
    torch.set_num_threads(before)
    assert torch.equal(*map(torch.stack, found[:2])) and torch.equal(*map(torch.stack, found[1:]))


def test_means_over_many_rows_have_equal_bits_at_every_number_of_threads():
    """Above 2¹⁵ numbers torch adds in parts, one a thread."""
    x, y = gaussians(70_000, 1)
    found, before = [], torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append([ksg(x, y, k=1), knn_entropy(x, k=1)])
    torch.set_num_threads(before)
    assert torch.equal(*map(torch.stack, found[:2])) and torch.equal(*map(torch.stack, found[1:]))


@backends
@norms
@pytest.mark.parametrize("exponent", [-1060, -565, -1, 515, 1018])
def test_knn_entropy_of_points_in_any_unit_moves_by_the_logarithm_of_the_unit(exponent, norm, backend):
    z = gaussians(100, 3)[0].mul(8).round().add(torch.arange(100.0)[:, None] / 128)  # exact in subnormals too
    moved = (z * 2.0 ** (exponent // 2)) * 2.0 ** (exponent - exponent // 2)
    expected = float(knn_entropy(z, norm=norm)) + 3 * exponent * math.log(2)
    assert float(knn_entropy(moved, norm=norm)) == pytest.approx(expected, rel=1e-12)


@backends
def test_coinciding_points_are_in_the_box_of_type_2_where_subnormals_are_flushed(backend):
    x = torch.arange(8.0)[:, None] // 4
    expected = float(ksg(x, x, type=2))
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush subnormals")
    try:
        assert float(ksg(x, x, type=2)) == pytest.approx(expected)
    finally:
        torch.set_flush_denormal(False)


def test_ksg_of_independent_discrete_columns_reads_far_too_high():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randint(0, 3, (2, 1000, 1), generator=generator).double()
    assert 8.5 < float(ksg(x, y)) < 9.5  # of 0


def test_they_work_around_torch_compile_and_have_no_gradient():
    x, y = gaussians(80, 2)
    compiled = torch.compile(lambda x, y: ksg(2 * x, y) + knn_entropy(x + y), backend="eager")
    made = compiled(x.requires_grad_(), y)
    assert not made.requires_grad
    assert float(made) == float(ksg(2 * x, y) + knn_entropy(x + y))


def test_they_are_refused_where_they_cannot_be_planned():
    with pytest.raises(NotImplementedError, match=r"^explain: knn_entropy is not planned: it takes distances"):
        jk.explain(jk.knn_entropy, gaussians(10, 2)[0])


@backends
def test_coinciding_points_are_neighbours_at_distance_0(backend):
    assert float(knn_entropy(torch.zeros(6, 2))) == -math.inf
    x = torch.arange(8.0)[:, None] // 4  # four equal pairs, twice: radii are 0 up to k = 3
    assert float(ksg(x, x)) == pytest.approx(digamma(3) + digamma(8) - 2 * digamma(1))
    assert float(ksg(x, x, type=2)) == pytest.approx(digamma(3) - 1 / 3 + digamma(8) - 2 * digamma(3))


PAIR = torch.arange(10.0).reshape(5, 2)
CONSTANT = (
    torch.tensor([[1.0, 2.0]]).expand(5, 2) * torch.tensor([1.0, 0.0]) + torch.arange(5.0)[:, None] * torch.eye(2)[0]
)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ksg(PAIR, PAIR[:4]), ValueError, "y is of 4 rows, must have 5 like x"),
        (lambda: ksg(PAIR, PAIR.to("meta")), ValueError, "y is on meta, must be on cpu like x"),
        (lambda: ksg(PAIR, PAIR, k=5), ValueError, "k is 5, must be >= 1 and < 5, the number of rows"),
        (lambda: ksg(PAIR, PAIR, k=0), ValueError, "k is 0, must be >= 1 and < 5, the number of rows"),
        (lambda: ksg(PAIR, PAIR, k=2.0), TypeError, "k is a float, 2.0, must be an int"),
        (lambda: ksg(PAIR, PAIR, type=3), ValueError, "type is 3, must be 1 or 2"),
        (lambda: ksg(PAIR, PAIR, type="1"), TypeError, "type is a str, '1', must be 1 or 2"),
        (lambda: ksg(PAIR.long(), PAIR), TypeError, "x is a tensor of shape .* and dtype int64, must be float64"),
        (lambda: ksg([[1.0]], PAIR), TypeError, "x is a list, .*, must be a float tensor"),
        (lambda: ksg(PAIR[0], PAIR), ValueError, r"x is of shape \(2,\), must have 2 dimensions"),
        (lambda: ksg(torch.full((5, 2), math.nan), PAIR), ValueError, "x is not finite, must have neither NaN"),
        (lambda: ksg(PAIR, PAIR / 0), ValueError, "y is not finite, must have neither NaN"),
        (lambda: ksg(PAIR, PAIR.double() * 1e308 - 5e308), ValueError, "y is not finite, .* differences beyond fp64"),
        (lambda: ksg(CONSTANT, PAIR), ValueError, "x is constant in column 1, must vary in every column"),
        (lambda: ksg(PAIR, torch.ones(5, 2)), ValueError, "y is constant in column 0, must vary in every column"),
        (lambda: ksg(PAIR[:1], PAIR[:1], k=1), ValueError, "k is 1, must be >= 1 and < 1, the number of rows"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=f"^ksg: {message}"):
        call()
