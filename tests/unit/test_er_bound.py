"""The ER bound of continuous embeddings: oracle, closed forms, what published code loses, and the form that is no bound."""

import math

import pytest
import torch

import jessl_kernels as jk
from tests import cases, data
from tests.oracles import closed_forms
from tests.oracles import entropy_reconstruction as oracle
from tests.yardstick import judge

N, D = 37, 5
KINDS = {
    "vmf": {"concentration": 8.0},
    "vmf-own-q": {"concentration": 8.0, "q_concentration": 20.0},
    "gaussian": {"bandwidth": 0.7},
    "gaussian-own-q": {"bandwidth": 0.7, "q_bandwidth": 1.5},
    "gaussian-each-dimension": {"bandwidth": "each", "q_bandwidth": "each"},
}


def inputs_of(kind: str, dtype: torch.dtype) -> dict:
    z1, z2 = data.pairs("clustered", N, D, seed=0, dtype=dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    each = torch.linspace(0.5, 1.0, D)
    widths = {k: (each if w == "each" else torch.tensor(w)).to(wide) for k, w in KINDS[kind].items()}
    return {"z1": z1, "z2": z2, **widths}


def truth(z1, z2, symmetric=False, **widths):
    kernel = "vmf" if "concentration" in widths else "gaussian"
    name = "concentration" if kernel == "vmf" else "bandwidth"
    q = {name: widths.get(f"q_{name}", widths[name])}
    return oracle.er_bound(z1, z2, q=q, symmetric=symmetric, kernel=kernel, **{name: widths[name]})


@cases.backends
@cases.dtypes
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("symmetric", [False, True], ids=["", "symmetric"])
def test_value_parts_and_gradients(backend, dtype, kind, symmetric):
    kernel = kind.split("-")[0]

    def ours(**inputs):
        return jk.er.bound(kernel=kernel, symmetric=symmetric, **inputs)

    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        # The gradients of the entropy and of log q, terms of this size, pull a row in opposite directions.
        floors = {"z1": 1 / N, "z2": 1 / N}
        inputs = inputs_of(kind, dtype)
        judge(kind, ours, lambda **i: truth(symmetric=symmetric, **i), inputs, seed=0, floors=floors)


@pytest.mark.parametrize("kind", ["vmf-own-q", "gaussian-own-q"])
def test_the_loss_is_minus_the_symmetric_bound(kind):
    inputs = inputs_of(kind, torch.float64)
    kernel = kind.split("-")[0]
    expected = -jk.er.bound(kernel=kernel, symmetric=True, **inputs).value
    torch.testing.assert_close(jk.er.loss(kernel=kernel, **inputs), expected)
    one = -jk.er.bound(kernel=kernel, **inputs).value
    torch.testing.assert_close(jk.er.loss(kernel=kernel, symmetric=False, **inputs), one)


@pytest.mark.parametrize("kind", ["vmf-own-q", "gaussian-each-dimension"])
def test_gradcheck(kind):
    inputs = {name: t.requires_grad_() for name, t in inputs_of(kind, torch.float64).items()}
    kernel = kind.split("-")[0]

    def value(*given):
        return jk.er.loss(kernel=kernel, **dict(zip(inputs, given, strict=True)))

    assert torch.autograd.gradcheck(value, tuple(inputs.values()))


@pytest.mark.parametrize("estimator", ["resubstitution", "plugin_normalized"])
def test_other_estimators_are_those_of_kde_entropy(estimator):
    z1, z2 = data.pairs("random", N, D, seed=0)
    found = jk.er.bound(z1, z2, concentration=5.0, estimator=estimator)
    expected = jk.kde_entropy(z2, kernel="vmf", concentration=5.0, estimator=estimator)
    torch.testing.assert_close(found.entropy, expected)


def test_with_one_concentration_the_loss_is_dcl_with_negatives_of_one_view():
    z1, z2 = (torch.nn.functional.normalize(z, dim=1) for z in data.pairs("random", N, D, seed=0))
    own = (z1 * z2).sum(dim=1)
    rows = jk.pairwise_logsumexp(z2, scale=9.0, exclude="diagonal") - 9.0 * own
    expected = rows.mean() - math.log(N - 1)
    torch.testing.assert_close(jk.er.loss(z1, z2, concentration=9.0, symmetric=False), expected)


def test_a_rule_sets_the_entropys_bandwidth_and_q_needs_its_own():
    z1, z2 = data.pairs("random", N, D, seed=0)
    found = jk.er.bound(z1, z2, kernel="gaussian", bandwidth="silverman", q_bandwidth=0.5)
    torch.testing.assert_close(found.entropy, jk.kde_entropy(z2, bandwidth="silverman"))
    with pytest.raises(ValueError, match="bound: q_bandwidth is None, must be given with bandwidth='silverman', which"):
        jk.er.bound(z1, z2, kernel="gaussian", bandwidth="silverman")


@pytest.mark.parametrize("c", [1.0, 0.1, 0.01])
def test_the_bound_holds_with_q_of_z2_given_z1_and_not_with_q_of_z1_given_z2(c):
    """Z2 ~ N(0, 1), Z1 = c (Z2 + noise/2), q the exact conditional: I = ½ log 5 for every c, and the printed form log(2/c)."""
    z2, noise = data.normals(2, 4000, 1, seed=0)
    z1 = c * (z2 + noise / 2)
    options = {"kernel": "gaussian", "bandwidth": "silverman"}
    found = jk.er.bound(0.8 * z1 / c, z2, q_bandwidth=math.sqrt(0.2), **options)
    printed = found.entropy + jk.er.reconstruction(c * z2, z1, kernel="gaussian", bandwidth=c / 2)
    assert float(found.value) == pytest.approx(0.5 * math.log(5), abs=0.05)
    assert float(printed) == pytest.approx(math.log(2 / c), abs=0.05)  # 0.69, 3.0, 5.3


@pytest.mark.parametrize(("D", "kappa"), [(128, 10.0), (512, 100.0), (1024, 10.0)])
def test_entropy_and_reconstruction_are_right_where_a_clamped_bessel_function_is_not(D, kappa):
    """log(I_ν + 1e-7) clamps at −16.1; the true log I_ν is −99 at D = 128, κ = 10."""
    z = torch.zeros(3, D)
    z[:, :3] = torch.eye(3)
    found = jk.er.bound(z, z, concentration=kappa)
    normaliser = closed_forms.vmf_log_normaliser(D, kappa)
    assert float(found.entropy) == pytest.approx(normaliser, abs=1e-6 * abs(normaliser))
    assert float(found.reconstruction) == pytest.approx(kappa - normaliser, abs=1e-6 * abs(normaliser))


def test_each_point_is_left_out_of_its_own_density():
    """At 512 points in 128 dimensions the own term is 97 % of the sum at κ = 10, and the gradient falls by as much."""
    z = data.normals(512, 128, seed=0).requires_grad_()
    own = math.exp(10.0) / jk.pairwise_logsumexp(torch.nn.functional.normalize(z, dim=1), scale=10.0).exp()
    assert 0.96 < float(own.detach().mean()) < 0.975
    norms = []
    for estimator in ("loo", "resubstitution"):
        entropy = jk.er.bound(z, z.detach(), concentration=10.0, estimator=estimator, symmetric=True).entropy
        norms.append(torch.autograd.grad(entropy, z)[0].norm())
    assert 25 < float(norms[0] / norms[1]) < 40


@pytest.mark.parametrize("kappa", [500.0, 1e5])
def test_scores_beyond_the_range_of_exp(kappa):
    z1, z2 = (z.requires_grad_() for z in data.pairs("clustered", N, D, seed=0))
    value = jk.er.loss(z1, z2, concentration=kappa)
    value.backward()
    assert value.isfinite() and z1.grad.isfinite().all() and z2.grad.isfinite().all()


def test_a_learnt_width_of_the_entropy_lowers_the_estimate_and_that_of_q_raises_its_likelihood():
    """The loss alone would raise the entropy's κ without limit, and with it an error upwards."""
    z1, z2 = data.pairs("clustered", 64, 3, seed=0)
    module = jk.er.ER(3.0, learnable=True)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    before = module.bound(z1, z2)
    for _ in range(150):
        optimizer.zero_grad()
        module(z1, z2).backward()
        optimizer.step()
    after = module.bound(z1, z2)
    width, q_width = (float(w.detach()) for w in (module.width, module.q_width))
    assert after.entropy < before.entropy and after.reconstruction > before.reconstruction
    assert width != q_width
    steps = [width * f for f in (0.7, 1.4)]
    around = [
        jk.kde_entropy(z2, kernel="vmf", concentration=k) + jk.kde_entropy(z1, kernel="vmf", concentration=k)
        for k in steps
    ]
    assert all(2 * after.entropy < other for other in around)


def test_in_half_precision_rows_are_made_unit_in_fp32():
    z1, z2 = data.pairs("clustered", N, D, seed=0, dtype=torch.bfloat16)
    found = jk.er.bound(z1, z2, concentration=100.0)
    expected = jk.er.bound(z1.float(), z2.float(), concentration=100.0)
    torch.testing.assert_close(found.reconstruction, expected.reconstruction, rtol=1e-5, atol=1e-4)
