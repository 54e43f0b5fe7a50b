"""Nearest-neighbour estimates against trees of another library, closed forms, and what they promise of ties and bad input."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.special import digamma
from sklearn.feature_selection import mutual_info_regression

from jessl_kernels.mi import neighbours
from jessl_kernels.mi.neighbours import knn_entropy, ksg


def gaussians(N, dims, rho, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(2, N, dims, generator=generator, dtype=torch.float64)
    return x, rho * x + math.sqrt(1 - rho**2) * noise


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


@pytest.mark.parametrize("type", [1, 2])
@pytest.mark.parametrize(("k", "dims"), [(1, 1), (3, 1), (3, 4), (7, 2)])
def test_ksg_is_that_of_trees(k, dims, type, monkeypatch):
    monkeypatch.setattr(neighbours, "STRIP_BYTES", 8 * 300 * 3 * 41)  # strips of 41 rows, the last one ragged
    x, y = gaussians(300, dims, 0.7)
    assert float(ksg(x, y, k=k, type=type)) == pytest.approx(ksg_by_trees(x, y, k, type), abs=1e-10)


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


@pytest.mark.parametrize("norm", ["euclidean", "max"])
def test_knn_entropy_is_that_of_trees_and_near_the_truth(norm):
    z, _ = gaussians(2000, 3, 0.0)
    distance, _ = cKDTree(z.numpy()).query(z.numpy(), 4, p=neighbours.NORMS[norm])
    log_volume = 3 * math.log(2) if norm == "max" else math.log(4 / 3 * math.pi)
    expected = digamma(2000) - digamma(3) + log_volume + 3 * np.log(distance[:, -1]).mean()
    found = float(knn_entropy(z, norm=norm))
    assert found == pytest.approx(expected, abs=1e-10)
    assert found == pytest.approx(1.5 * math.log(2 * math.pi * math.e), abs=0.1)


def test_coinciding_points_are_neighbours_at_distance_0():
    z = torch.zeros(6, 2)
    assert float(knn_entropy(z)) == -math.inf
    x = torch.arange(6.0)[:, None]
    # x separates the pairs, y is constant: all points are within any radius of it.
    assert float(ksg(x, torch.zeros(6, 1), k=1)) == pytest.approx(ksg_by_trees(x, torch.zeros(6, 1), 1, 1), abs=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ksg(torch.ones(5, 2), torch.ones(4, 2)), "y is of 4 rows, must have 5 like x"),
        (lambda: ksg(torch.ones(5, 2), torch.ones(5, 2), k=5), "k is 5, must be between 1 and 4"),
        (lambda: ksg(torch.ones(5, 2), torch.ones(5, 2), type=3), "type is 3, must be 1 or 2"),
        (lambda: ksg(torch.full((5, 2), math.nan), torch.ones(5, 2)), "x is not finite"),
        (lambda: knn_entropy(torch.ones(5, 2), norm="city"), "norm is 'city', must be one of"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
