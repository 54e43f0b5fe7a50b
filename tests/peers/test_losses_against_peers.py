"""The package and its peers, directly: what a user sees who exchanges one for the other."""

import numpy
import pytest
import scipy
import torch
from sklearn.metrics import top_k_accuracy_score
from sklearn.neighbors import KernelDensity

import jessl_kernels as jk
from tests import cases
from tests.data import clustered, normals
from tests.peers.losses import COMPARISONS, value_and_gradients


def near(actual, expected, rtol=1e-11):
    torch.testing.assert_close(torch.as_tensor(actual), torch.as_tensor(expected), rtol=rtol, atol=1e-13)


@cases.backends
@pytest.mark.parametrize("comparison", COMPARISONS.values(), ids=COMPARISONS)
def test_loss_and_gradients_are_the_peers(backend, comparison):
    expected = value_and_gradients(comparison.peer, comparison)
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        actual = value_and_gradients(getattr(jk, comparison.function), comparison)
    for name, value in actual.items():
        near(value, expected[name])


QUERY, SAMPLE = normals(11, 3, seed=0), normals(40, 3, seed=1)


@cases.backends
@pytest.mark.parametrize(("kernel", "theirs"), [("gaussian", "gaussian"), ("laplace", "exponential")])
def test_log_density_is_that_of_scikit_learn(backend, kernel, theirs):
    peer = KernelDensity(bandwidth=0.4, kernel=theirs).fit(SAMPLE.numpy())
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        ours = jk.kde_log_density(QUERY, SAMPLE, kernel=kernel, bandwidth=0.4)
    near(ours, peer.score_samples(QUERY.numpy()), rtol=1e-10)  # its tree adds and takes away bounds


@pytest.mark.parametrize("rule", ["scott", "silverman"])
def test_log_density_by_rule_is_that_of_scipy_in_one_dimension(rule):
    peer = scipy.stats.gaussian_kde(SAMPLE[:, 0].numpy(), bw_method=rule)
    near(jk.kde_log_density(QUERY[:, :1], SAMPLE[:, :1], bandwidth=rule), peer.logpdf(QUERY[:, 0].numpy()))


@pytest.mark.parametrize(("D", "kappa"), [(3, 10.0), (128, 100.0)])
def test_vmf_kernel_is_the_density_of_scipy(D, kappa):
    z = torch.nn.functional.normalize(normals(6, D, seed=4), dim=1)
    ours = jk.kde_log_density(z, z[:1], kernel="vmf", concentration=kappa)
    near(ours, scipy.stats.vonmises_fisher(z[0].numpy(), kappa).logpdf(z.numpy()))


@pytest.mark.parametrize("k", [1, 5])
def test_recall_is_the_top_k_accuracy_of_scikit_learn(k):
    x, y = clustered(40, 6, seed=5)
    metrics = jk.retrieval_metrics(x, y, k=k)
    for name, scores in (("x_to_y", x @ y.T), ("y_to_x", y @ x.T)):
        expected = top_k_accuracy_score(numpy.arange(40), scores.numpy(), k=k)
        assert float(metrics[f"{name}/recall@{k}"]) == pytest.approx(expected)
