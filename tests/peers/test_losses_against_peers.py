"""The package against its peers directly, as a user sees who exchanges one for the other."""

import math

import numpy
import pytest
import scipy
import torch
from sklearn.metrics import top_k_accuracy_score
from sklearn.neighbors import KernelDensity

import jessl_kernels as jk
from tests import cases
from tests.data import clustered, normals
from tests.peers import installed
from tests.peers.losses import COMPARISONS, number, value_and_gradients


def near(actual, expected, rtol=1e-11):
    torch.testing.assert_close(torch.as_tensor(actual), torch.as_tensor(expected), rtol=rtol, atol=1e-13)


def same_value_and_gradients(ours, peer, inputs, upstream):
    """Call both with the same leaves by name; upstream is the gradient of their output."""
    results = []
    for function in (ours, peer):
        leaves = {name: t.clone().requires_grad_() for name, t in inputs.items()}
        value = function(**leaves)
        results.append((value.detach(), *torch.autograd.grad(value, list(leaves.values()), upstream)))
    for actual, expected in zip(*results, strict=True):
        near(actual, expected)


@cases.backends
@pytest.mark.parametrize("comparison", COMPARISONS.values(), ids=COMPARISONS)
def test_loss_and_gradients_are_the_peers(backend, comparison):
    expected = value_and_gradients(comparison.peer, comparison)
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        actual = value_and_gradients(getattr(jk, comparison.function), comparison)
    for name, value in actual.items():
        near(value, expected[name])


def test_sup_con_differs_from_the_peer_by_the_share_of_rows_with_a_positive_if_others_count_as_zero():
    comparison = COMPARISONS["pytorch_metric_learning SupConLoss"]
    labels = comparison.options["labels"]
    share = ((labels[:, None] == labels[None, :]).sum(dim=1) > 1).double().mean()
    assert 0 < share < 1
    expected = value_and_gradients(comparison.peer, comparison)
    ours = value_and_gradients(lambda **given: jk.sup_con(**given, no_positive="zero"), comparison)
    for name, value in ours.items():
        near(value, share * expected[name])


QUERY, SAMPLE = normals(11, 3, seed=0), normals(40, 3, seed=1)
WEIGHTS = normals(40, seed=2).abs()

weighted = pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])


def numbers(weights):
    return None if weights is None else weights.numpy()


@cases.backends
@weighted
@pytest.mark.parametrize(("kernel", "theirs"), [("gaussian", "gaussian"), ("laplace", "exponential")])
def test_log_density_is_that_of_scikit_learn(backend, kernel, theirs, weights):
    peer = KernelDensity(bandwidth=0.4, kernel=theirs).fit(SAMPLE.numpy(), sample_weight=numbers(weights))
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        ours = jk.kde_log_density(QUERY, SAMPLE, kernel=kernel, bandwidth=0.4, weights=weights)
    near(ours, peer.score_samples(QUERY.numpy()), rtol=1e-10)  # its tree adds and takes away bounds


@weighted
@pytest.mark.parametrize("rule", ["scott", "silverman"])
def test_log_density_by_rule_is_that_of_scipy_in_one_dimension(rule, weights):
    peer = scipy.stats.gaussian_kde(SAMPLE[:, 0].numpy(), bw_method=rule, weights=numbers(weights))
    ours = jk.kde_log_density(QUERY[:, :1], SAMPLE[:, :1], bandwidth=rule, weights=weights)
    near(ours, peer.logpdf(QUERY[:, 0].numpy()))


@cases.backends
@pytest.mark.parametrize("bandwidth", [number(0.4), torch.tensor([0.3, 0.5, 2.0]).double()], ids=["one", "each"])
def test_log_density_and_gradients_are_those_of_a_mixture_of_torch_distributions(backend, bandwidth):
    def mixture(query, data, bandwidth, weights):
        normal = torch.distributions.Normal(data, bandwidth.expand_as(data))
        components = torch.distributions.Independent(normal, 1)
        mixture = torch.distributions.Categorical(probs=weights)
        return torch.distributions.MixtureSameFamily(mixture, components).log_prob(query)

    inputs = {"query": QUERY, "data": SAMPLE, "bandwidth": bandwidth, "weights": WEIGHTS}
    upstream = normals(len(QUERY), seed=3)
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        same_value_and_gradients(jk.kde_log_density, mixture, inputs, upstream)


@cases.backends
def test_uniformity_and_gradients_are_those_of_the_authors_formula(backend):
    def authors(z, t):
        return torch.pdist(z, p=2).pow(2).mul(-t).exp().mean().log()

    inputs = {"z": torch.nn.functional.normalize(SAMPLE, dim=1), "t": number(2.0)}
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        same_value_and_gradients(jk.uniformity, authors, inputs, number(1.0))


@cases.backends
@pytest.mark.parametrize("dim", [1, 0], ids=["rows", "columns"])
def test_log_sum_exp_and_gradients_are_those_of_torch(backend, dim):
    def matrix(x, y, scale, row_bias, col_bias):
        return torch.logsumexp(scale * x @ y.T + row_bias[:, None] + col_bias, dim=dim)

    def ours(**given):
        return jk.pairwise_logsumexp(**given, dim="row" if dim else "col")

    biases = {"row_bias": normals(11, seed=3), "col_bias": normals(40, seed=4)}
    inputs = {"x": QUERY, "y": SAMPLE, "scale": number(5.0), **biases}
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        same_value_and_gradients(ours, matrix, inputs, normals(11 if dim else 40, seed=5))


@cases.backends
def test_log_sum_exp_of_scores_beyond_the_range_of_exp_is_that_of_scipy(backend):
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        ours = jk.pairwise_logsumexp(QUERY, SAMPLE, scale=1000.0)
    near(ours, scipy.special.logsumexp(1000.0 * (QUERY @ SAMPLE.T).numpy(), axis=1))


@pytest.mark.parametrize(("D", "kappa"), [(3, 10.0), (128, 100.0)])
def test_vmf_kernel_is_the_density_of_scipy(D, kappa):
    z = torch.nn.functional.normalize(normals(6, D, seed=4), dim=1)
    ours = jk.kde_log_density(z, z[:1], kernel="vmf", concentration=kappa)
    near(ours, scipy.stats.vonmises_fisher(z[0].numpy(), kappa).logpdf(z.numpy()))


@pytest.mark.parametrize(("D", "kappa"), [(2, 0.5), (3, 5.0), (64, 30.0), (256, 300.0), (512, 3000.0)])
def test_vmf_kernel_is_normalised_by_the_bessel_function_of_scipy(D, kappa):
    # Scaled by e^{−κ}, it stays finite long after scipy's own density has underflowed.
    log_bessel = math.log(scipy.special.ive(D / 2 - 1, kappa)) + kappa
    log_normaliser = 0.5 * D * math.log(2 * math.pi) + log_bessel - (D / 2 - 1) * math.log(kappa)
    z = torch.nn.functional.normalize(normals(6, D, seed=4), dim=1)
    near(jk.kde_log_density(z, z[:1], kernel="vmf", concentration=kappa), kappa * z @ z[0] - log_normaliser)


@pytest.mark.parametrize("k", [1, 5])
def test_recall_is_the_top_k_accuracy_of_scikit_learn(k):
    x, y = clustered(40, 6, seed=5)
    metrics = jk.retrieval_metrics(x, y, k=k)
    for name, scores in (("x_to_y", x @ y.T), ("y_to_x", y @ x.T)):
        expected = top_k_accuracy_score(numpy.arange(40), scores.numpy(), k=k)
        assert float(metrics[f"{name}/recall@{k}"]) == pytest.approx(expected)


@pytest.mark.parametrize("backend", ["reference", "chunked", "cpu"])
def test_keys_of_sup_con_are_the_references_of_pytorch_metric_learning(backend):
    features, keys = (normals(n, 6, seed=n).double().requires_grad_() for n in (12, 20))
    labels, key_labels = torch.arange(12) % 4, torch.arange(20) % 5
    peer = installed.metric_learning.SupConLoss(0.2)(features, labels, ref_emb=keys, ref_labels=key_labels)
    with jk.use_backend(backend):
        ours = jk.sup_con(features, labels, keys=keys, key_labels=key_labels, in_batch=False, temperature=0.2)
    torch.testing.assert_close(ours, peer)
    both = [torch.autograd.grad(value, (features, keys)) for value in (ours, peer)]
    torch.testing.assert_close(*both)
