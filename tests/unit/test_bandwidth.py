"""Widths of kernels: a covariance, the width of the largest likelihood, and what is no width."""

import math

import pytest
import torch

import jessl_kernels as jk
from tests import cases, data
from tests.oracles import closed_forms, density
from tests.yardstick import judge

CONSTANT = torch.cat([data.normals(20, 2, seed=0), torch.full((20, 1), 0.1, dtype=torch.float64)], dim=1)


def covariance(D, seed=0):
    a = data.normals(D, D, seed=seed)
    return a @ a.T / D + 0.2 * torch.eye(D, dtype=torch.float64)


# ---- A covariance ----


@cases.backends
@pytest.mark.parametrize("kernel", [{}, {"kernel": "student", "df": 2.0}, {"kernel": "epanechnikov"}])
def test_a_covariance_whitens_the_points_and_counts_its_determinant(backend, kernel):
    z, H = data.normals(20, 3, seed=0), covariance(3)
    factor = torch.linalg.cholesky(H)
    with jk.use_backend(backend):
        ours = jk.kde_entropy(z, bandwidth=H, **kernel)
        white = jk.kde_entropy(torch.linalg.solve_triangular(factor, z.T, upper=False).T, bandwidth=1.0, **kernel)
    torch.testing.assert_close(ours, white + factor.diagonal().log().sum(), rtol=1e-12, atol=0)


def test_a_diagonal_covariance_is_a_width_for_each_dimension():
    z, h = data.normals(30, 4, seed=0), torch.tensor([0.5, 1.0, 2.0, 0.7], dtype=torch.float64)
    torch.testing.assert_close(jk.kde_entropy(z, bandwidth=h.square().diag()), jk.kde_entropy(z, bandwidth=h))


def test_a_covariance_receives_its_gradient():
    z, root = data.normals(7, 2, seed=0).requires_grad_(), data.normals(2, 2, seed=5).requires_grad_()

    def entropy(z, root):
        return jk.kde_entropy(z, bandwidth=root @ root.T + torch.eye(2, dtype=torch.float64))

    assert torch.autograd.gradcheck(entropy, (z, root))


def test_a_covariance_in_fp32():
    z, H = data.normals(40, 3, seed=0).float(), covariance(3).float()

    def truth(z, bandwidth):
        white = torch.linalg.solve_triangular(torch.linalg.cholesky(bandwidth), z.T, upper=False).T
        return density.kde_entropy(white, bandwidth=torch.ones((), dtype=z.dtype)) + torch.logdet(bandwidth) / 2

    judge("covariance", jk.kde_entropy, truth, {"z": z + 3, "bandwidth": H}, seed=0, constants=("bandwidth",))


# ---- The largest likelihood ----


@pytest.mark.parametrize("kernel", ["gaussian", "laplace", "student", "epanechnikov", "cosine"])
def test_no_other_width_is_likelier(kernel):
    z, df = data.normals(400, 2, seed=0), 3.0 if kernel == "student" else None
    h = jk.bandwidth_by_likelihood(z, kernel=kernel, df=df)
    best = jk.kde_entropy(z, bandwidth=h, kernel=kernel, df=df)
    for factor in (0.5, 0.8, 0.95, 1.05, 1.25, 2.0):
        assert jk.kde_entropy(z, bandwidth=factor * h, kernel=kernel, df=df) >= best - 2e-5


def test_the_likelihood_of_clusters_finds_their_width_where_a_rule_does_not():
    z = 40 * torch.randint(3, (900, 1), generator=torch.Generator().manual_seed(0)) + data.normals(900, 2, seed=0)
    truth = closed_forms.gaussian_entropy(2) + math.log(3)
    likely, rule = (float(jk.kde_entropy(z, bandwidth=b)) for b in ("likelihood", "silverman"))
    assert abs(likely - truth) < 0.15 < 1.0 < rule - truth


def test_each_dimension_keeps_its_unit():
    z = data.normals(300, 3, seed=0)
    units = torch.tensor([1.0, 1e-3, 1e4], dtype=torch.float64)
    found, scaled = jk.bandwidth_by_likelihood(z), jk.bandwidth_by_likelihood(z * units)
    torch.testing.assert_close(scaled, found * units, rtol=1e-9, atol=0)


@pytest.mark.parametrize("kappa", [5.0, 50.0])
def test_the_concentration_of_the_largest_likelihood(kappa):
    from scipy.stats import vonmises_fisher

    z = torch.tensor(vonmises_fisher([0, 0, 0, 1.0], kappa).rvs(600, random_state=0))
    found = jk.bandwidth_by_likelihood(z, kernel="vmf")
    best = jk.kde_entropy(z, kernel="vmf", concentration=found)
    torch.testing.assert_close(jk.kde_entropy(z, kernel="vmf", concentration="likelihood"), best)
    for factor in (0.5, 0.8, 1.25, 2.0):
        assert jk.kde_entropy(z, kernel="vmf", concentration=factor * found) >= best - 1e-6


def test_a_large_sample_is_searched_by_part_of_it_and_scaled_to_its_size():
    z = data.normals(6000, 2, seed=0)
    found = jk.bandwidth_by_likelihood(z)
    best = min(float(jk.kde_entropy(z, bandwidth=factor * found)) for factor in (0.7, 0.85, 1.0, 1.2, 1.4))
    assert float(jk.kde_entropy(z, bandwidth=found)) < best + 2e-3


def test_the_likely_width_is_a_constant_for_autograd():
    z = data.normals(50, 2, seed=0).requires_grad_()
    h = jk.bandwidth_by_likelihood(z)
    assert not h.requires_grad
    by_word, by_hand = (torch.autograd.grad(jk.kde_entropy(z, bandwidth=b), z)[0] for b in ("likelihood", h))
    torch.testing.assert_close(by_word, by_hand)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_likely_width_is_in_the_dtype_of_sums(dtype):
    assert jk.bandwidth_by_likelihood(data.normals(30, 2, seed=0).to(dtype)).dtype == torch.float32


# ---- What is no width ----

WRONG = {
    "not-square": (
        {"bandwidth": torch.ones(4, 3)},
        r"bandwidth is of shape \(4, 3\), must be a number, \(4,\) or a covariance",
    ),
    "skew": (
        {"bandwidth": torch.eye(4) + torch.ones(4, 4).triu(1)},
        "bandwidth is a matrix whose mirror images differ by 1",
    ),
    "indefinite": (
        {"bandwidth": torch.ones(4, 4)},
        "bandwidth is a matrix that is not positive definite, must be a covariance",
    ),
    "student-without-df": ({"bandwidth": 1.0, "kernel": "student"}, 'df is None, must be given with kernel="student"'),
    "df-without-student": ({"bandwidth": 1.0, "df": 1.0}, 'df is given, must be None with kernel="gaussian"'),
    "df": ({"bandwidth": 1.0, "kernel": "student", "df": -1.0}, "df is -1.0, must be > 0"),
    "concentration": (
        {"kernel": "vmf", "concentration": "scott"},
        "concentration is 'scott', must be one of 'likelihood'",
    ),
    "weights": (
        {"bandwidth": "likelihood", "weights": torch.ones(6)},
        'weights is given, must be None with bandwidth="likelihood"',
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_width(wrong):
    arguments, message = WRONG[wrong]
    with pytest.raises(ValueError, match=f"^kde_entropy: {message}"):
        jk.kde_entropy(data.normals(6, 4, seed=0).float(), **arguments)


def test_duplicates_have_no_likeliest_width():
    z = data.normals(20, 2, seed=0).repeat(2, 1)
    with pytest.raises(ValueError, match="z is such that the likelihood grows without end as kernels narrow, must not"):
        jk.bandwidth_by_likelihood(z)
    with pytest.raises(ValueError, match="concentration is such that the likelihood grows without end"):
        jk.kde_entropy(z, kernel="vmf", concentration="likelihood")


def test_a_sample_that_does_not_vary_has_no_likeliest_width():
    with pytest.raises(ValueError, match="z is of equal numbers, must vary: dimension 2 of the data does not vary"):
        jk.bandwidth_by_likelihood(CONSTANT)


@pytest.mark.parametrize("rule", ["scott", "silverman", "likelihood"])
def test_a_rule_refuses_a_dimension_that_does_not_vary(rule):
    with pytest.raises(ValueError, match=f"bandwidth is '{rule}', must be a number: dimension 2 of the data does not"):
        jk.kde_entropy(CONSTANT, bandwidth=rule)


@pytest.mark.parametrize("rule", ["scott", "silverman"])
@pytest.mark.parametrize("magnitude", [1e25, 1e-25])
def test_a_rule_for_numbers_whose_squares_are_none_in_fp32(rule, magnitude):
    x, moved = torch.randn(300, 3), 3 * math.log(magnitude)
    found = float(jk.kde_entropy(x * magnitude, bandwidth=rule))
    assert found - moved == pytest.approx(float(jk.kde_entropy(x, bandwidth=rule)), rel=1e-5, abs=1e-4)
