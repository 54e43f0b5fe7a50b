"""The oracles agree with published code: losses of four packages, densities and normalisers of scikit-learn and scipy."""

import math

import numpy
import pytest
import scipy
import torch
from sklearn.metrics import top_k_accuracy_score
from sklearn.neighbors import KernelDensity

from tests.data import clustered, normals
from tests.oracles import closed_forms, contrastive, density, geometry
from tests.peers.losses import COMPARISONS, value_and_gradients


def near(actual, expected, rtol=1e-12):
    torch.testing.assert_close(torch.as_tensor(actual), torch.as_tensor(expected), rtol=rtol, atol=1e-13)


def mean_oracle(function):
    """The oracle's rows reduced as the peers reduce them."""
    if function == "sup_con":
        return lambda features, labels, temperature: contrastive.sup_con_mean(
            contrastive.sup_con(features, labels, temperature=temperature), labels
        )
    return lambda **given: getattr(contrastive, function)(**given).mean()


@pytest.mark.parametrize("comparison", COMPARISONS.values(), ids=COMPARISONS)
def test_loss_and_gradients_are_the_peers(comparison):
    expected = value_and_gradients(comparison.peer, comparison)
    for name, actual in value_and_gradients(mean_oracle(comparison.function), comparison).items():
        near(actual, expected[name])


QUERY, SAMPLE = normals(11, 3, seed=0), normals(40, 3, seed=1)
WEIGHTS = normals(40, seed=2).abs()


@pytest.mark.parametrize(("kernel", "theirs"), [("gaussian", "gaussian"), ("laplace", "exponential")])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
def test_log_density_is_that_of_scikit_learn(kernel, theirs, weights):
    peer = KernelDensity(bandwidth=0.4, kernel=theirs).fit(
        SAMPLE.numpy(), sample_weight=None if weights is None else weights.numpy()
    )
    ours = density.kde_log_density(QUERY, SAMPLE, kernel=kernel, bandwidth=0.4, weights=weights)
    near(ours, peer.score_samples(QUERY.numpy()), rtol=1e-10)  # its tree adds and takes away bounds


@pytest.mark.parametrize(("kernel", "theirs"), [("gaussian", "gaussian"), ("laplace", "exponential")])
def test_leave_one_out_entropy_is_that_of_estimators_fitted_without_the_point(kernel, theirs):
    z = SAMPLE.numpy()
    fits = [KernelDensity(bandwidth=0.4, kernel=theirs).fit(numpy.delete(z, i, axis=0)) for i in range(len(z))]
    expected = -numpy.mean([fit.score_samples(z[i : i + 1]) for i, fit in enumerate(fits)])
    assert float(density.kde_entropy(SAMPLE, kernel=kernel, bandwidth=0.4)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
def test_log_density_of_whitened_points_is_that_of_scipy(weights):
    # scipy's kernel has the covariance of the sample times factor²; in whitened coordinates that is a width for all.
    peer = scipy.stats.gaussian_kde(
        SAMPLE.numpy().T, bw_method=0.7, weights=None if weights is None else weights.numpy()
    )
    root = torch.linalg.cholesky(torch.as_tensor(peer.covariance) / 0.49)
    query, sample = (torch.linalg.solve_triangular(root, t.T, upper=False).T for t in (QUERY, SAMPLE))
    ours = density.kde_log_density(query, sample, bandwidth=0.7, weights=weights) - root.diagonal().log().sum()
    near(ours, peer.logpdf(QUERY.numpy().T))


@pytest.mark.parametrize("rule", ["scott", "silverman"])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
def test_bandwidth_rules_are_those_of_scipy(rule, weights):
    peer = scipy.stats.gaussian_kde(
        SAMPLE.numpy().T, bw_method=rule, weights=None if weights is None else weights.numpy()
    )
    near(density.bandwidth_rule(rule, SAMPLE, weights), numpy.sqrt(numpy.diag(peer.covariance)))


def test_gaussian_kernel_is_a_normal_density():
    h = torch.tensor([0.3, 0.5, 2.0], dtype=torch.float64)
    expected = scipy.stats.multivariate_normal(SAMPLE[0].numpy(), numpy.diag(h.numpy() ** 2)).logpdf(QUERY.numpy())
    near(density.log_kernel(QUERY, SAMPLE[:1], bandwidth=h)[:, 0], expected)


@pytest.mark.parametrize("D", [1, 2, 5, 16])
@pytest.mark.parametrize("kernel", ["gaussian", "laplace"])
def test_kernels_integrate_to_one(kernel, D):
    def shell(radius):
        point = torch.zeros(1, D, dtype=torch.float64)
        at_radius = density.log_kernel(point + radius / D**0.5, point, kernel=kernel, bandwidth=0.5)
        return math.exp(float(at_radius) + closed_forms.log_sphere_area(D)) * radius ** (D - 1)

    assert scipy.integrate.quad(shell, 0, 60, points=[2, 5, 10], limit=200)[0] == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize(("D", "kappa"), [(2, 0.5), (3, 10.0), (16, 40.0), (128, 100.0)])
def test_vmf_kernel_and_entropy_are_those_of_scipy(D, kappa):
    z = torch.nn.functional.normalize(normals(6, D, seed=4), dim=1)
    peer = scipy.stats.vonmises_fisher(z[0].numpy(), kappa)
    ours = density.kde_log_density(z, z[:1], kernel="vmf", concentration=kappa)
    near(ours, peer.logpdf(z.numpy()), rtol=1e-11)
    assert closed_forms.vmf_entropy(D, kappa) == pytest.approx(float(peer.entropy()), rel=1e-11)


@pytest.mark.parametrize(("D", "kappa"), [(3, 5.0), (64, 30.0), (256, 300.0)])
def test_vmf_normaliser_is_the_one_with_a_bessel_function(D, kappa):
    # scipy.stats.vonmises_fisher underflows long before this one, which scipy scales by e^{−κ}.
    log_bessel = math.log(scipy.special.ive(D / 2 - 1, kappa)) + kappa
    expected = 0.5 * D * math.log(2 * math.pi) + log_bessel - (D / 2 - 1) * math.log(kappa)
    assert closed_forms.vmf_log_normaliser(D, kappa) == pytest.approx(expected, rel=1e-12)


def test_uniformity_is_the_authors_formula():
    z = torch.nn.functional.normalize(SAMPLE, dim=1)
    near(geometry.uniformity(z, t=2.0), torch.pdist(z).square().mul(-2).exp().mean().log())


@pytest.mark.parametrize("power", [1, 2, 3])
def test_alignment_is_the_authors_formula(power):
    x, y = SAMPLE[:20], SAMPLE[20:]
    near(geometry.alignment(x, y, power=power).mean(), (x - y).norm(p=2, dim=1).pow(power).mean())


@pytest.mark.parametrize("k", [1, 5])
def test_recall_is_the_top_k_accuracy_of_scikit_learn(k):
    x, y = clustered(40, 6, seed=5)
    expected = top_k_accuracy_score(numpy.arange(40), (x @ y.T).numpy(), k=k)
    assert 0 < expected < 1
    assert float(geometry.recall(x, y, k).mean()) == pytest.approx(expected)
