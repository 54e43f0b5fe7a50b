"""Entropies of two views under one set of widths, and what follows from it; Rényi's entropy; KoLeo."""

import math

import pytest
import torch

import jessl_kernels as jk
from tests import cases, data
from tests.oracles import closed_forms
from tests.oracles import joint as oracle
from tests.yardstick import judge

WIDTHS = {
    "number": {"bandwidth": 0.7},
    "each": {"bandwidth": [0.7, 0.5, 1.1, 0.9, 0.6]},
    "student": {"bandwidth": 0.7, "kernel": "student", "df": 3.0},
    "vmf": {"concentration": 6.0, "kernel": "vmf"},
}
widths = pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
LEARNABLE = ("bandwidth", "concentration")
QUANTITIES = {
    "joint": (jk.kde_joint_entropy, oracle.joint_entropy),
    "conditional": (jk.kde_conditional_entropy, oracle.conditional_entropy),
    "information": (jk.kde_mutual_information, oracle.mutual_information),
}
quantities = pytest.mark.parametrize("quantity", QUANTITIES)


def views(n, seed=0, dtype=torch.float64, rho=0.8):
    """Normal views of 2 and 3 dimensions, correlated by ρ in the first two."""
    z = data.normals(n, 5, seed=seed)
    x, y = z[:, :2], z[:, 2:].clone()
    y[:, :2] = rho * x + math.sqrt(1 - rho * rho) * y[:, :2]
    return x.to(dtype), y.to(dtype)


@cases.backends
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16], ids=["fp64", "fp32", "fp16"])
@widths
@quantities
def test_entropies_of_two_views(backend, dtype, width, quantity):
    if backend == "triton" and quantity != "information":
        pytest.skip("the information holds the others")
    x, y = views(24, dtype=dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    made = {name: torch.tensor(v, dtype=wide) if name in LEARNABLE else v for name, v in width.items()}
    inputs = {"x": x, "y": y, **made}
    ours, truth = QUANTITIES[quantity]
    wider = {name: v.double() if isinstance(v, torch.Tensor) else v for name, v in inputs.items()}
    # Entropies of about 5 nats are subtracted, so errors are absolute.
    bar = {"rtol": 0, "atol": 1e-12 if dtype == torch.float64 else 1e-5}
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        found, gradients = value_and_gradients(ours, inputs)
    expected, of_truth = value_and_gradients(truth, wider)
    assert found.dtype == wide
    torch.testing.assert_close(found.double(), expected, **bar)
    half = {"rtol": 2e-3, "atol": 1e-5} if dtype == torch.float16 else bar | {"rtol": 100 * bar["atol"]}
    for a, b in zip(gradients, of_truth, strict=True):
        torch.testing.assert_close(a.double(), b, **half)


def value_and_gradients(function, inputs):
    leaves = {name: v.detach().requires_grad_() if isinstance(v, torch.Tensor) else v for name, v in inputs.items()}
    value = function(**leaves)
    return value.detach(), torch.autograd.grad(value, [v for v in leaves.values() if isinstance(v, torch.Tensor)])


@quantities
def test_gradcheck_of_two_views(quantity):
    x, y = (v.requires_grad_() for v in views(6))
    h = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, y, h: QUANTITIES[quantity][0](x, y, bandwidth=h), (x, y, h))


@pytest.mark.parametrize("width", [{"kernel": "gaussian"}, {"kernel": "student", "df": 2.0}])
def test_the_marginal_of_the_joint_estimate_is_the_estimate_of_the_marginal(width):
    """Why the widths must be the same: ∫ p̂(x, y) dy = p̂(x)."""
    x, y = (v[:5, :1] for v in views(5))
    grid = torch.linspace(-1500, 1500, 600_001, dtype=torch.float64)[:, None]
    at = torch.tensor([[0.3]], dtype=torch.float64)
    points = torch.cat([at.expand(len(grid), 1), grid], dim=1)
    h = torch.tensor([0.5, 0.8], dtype=torch.float64)
    joint = jk.kde_log_density(points, torch.cat([x, y], dim=1), bandwidth=h, **width).exp()
    marginal = jk.kde_log_density(at, x, bandwidth=h[:1], **width).exp()
    assert float(joint.sum()) * 0.005 == pytest.approx(float(marginal), rel=1e-5)


def test_a_covariance_gives_the_marginals_its_blocks():
    x, y = views(30)
    H = torch.diag(torch.tensor([0.5, 0.4, 0.6, 0.3, 0.7], dtype=torch.float64)) + 0.1
    direct = jk.kde_entropy(x, bandwidth=H[:2, :2]) + jk.kde_entropy(y, bandwidth=H[2:, 2:])
    direct = direct - jk.kde_entropy(torch.cat([x, y], dim=1), bandwidth=H)
    torch.testing.assert_close(jk.kde_mutual_information(x, y, bandwidth=H), direct)


@pytest.mark.parametrize("rule", ["scott", "silverman", "likelihood"])
def test_a_rule_settles_the_widths_of_the_joint(rule):
    x, y = views(200)
    both = torch.cat([x, y], dim=1)
    D = 5
    if rule == "likelihood":
        h = jk.bandwidth_by_likelihood(both)
    else:
        h = both.std(dim=0) * (200 if rule == "scott" else 200 * (D + 2) / 4) ** (-1 / (D + 4))
    by_rule = jk.kde_mutual_information(x, y, bandwidth=rule)
    torch.testing.assert_close(by_rule, jk.kde_mutual_information(x, y, bandwidth=h), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
@pytest.mark.parametrize("bandwidth", ["silverman", "likelihood"])
def test_information_of_correlated_normals(bandwidth, rho):
    z = data.normals(3000, 2, seed=0)
    x, y = z[:, :1], rho * z[:, :1] + math.sqrt(1 - rho * rho) * z[:, 1:]
    found = float(jk.kde_mutual_information(x, y, bandwidth=bandwidth))
    assert -0.12 < found - closed_forms.correlated_gaussian_information(1, rho) < 0.03


def test_information_is_the_same_in_other_units_and_either_way_round():
    x, y = views(150)
    found = jk.kde_mutual_information(x, y, bandwidth="silverman")
    torch.testing.assert_close(jk.kde_mutual_information(y, x, bandwidth="silverman"), found)
    torch.testing.assert_close(jk.kde_mutual_information(100 * x, 0.01 * y, bandwidth="silverman"), found)


WRONG = {
    "kernel": ({"kernel": "laplace"}, "kernel is 'laplace', must be one of 'gaussian', 'student', 'vmf'"),
    "estimator": ({"estimator": "plugin"}, "estimator is 'plugin', must be one of 'loo', 'resubstitution'"),
    "widths": ({"bandwidth": torch.ones(2)}, r"bandwidth is of shape \(2,\), must be a number, \(5,\) or a covariance"),
    "vmf": ({"kernel": "vmf", "bandwidth": None}, "concentration is None, must be given"),
    "word": (
        {"kernel": "vmf", "bandwidth": None, "concentration": "likelihood"},
        "concentration is 'likelihood', must be a number",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
@quantities
def test_what_two_views_cannot_have(quantity, wrong):
    arguments, message = WRONG[wrong]
    function = QUANTITIES[quantity][0]
    with pytest.raises(ValueError, match=f"^{function.__name__}: {message}"):
        function(*views(6), **{"bandwidth": 1.0, **arguments})


# ---- Rényi's entropy ----


@cases.backends
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=["fp64", "fp32", "bf16"])
@pytest.mark.parametrize("estimator", ["loo", "resubstitution"])
def test_renyi_entropy(backend, dtype, estimator):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for h in (torch.tensor(0.6, dtype=wide), torch.tensor([0.5, 0.8, 1.1], dtype=wide)):
        inputs = {"z": data.normals(31, 3, seed=0).to(dtype), "bandwidth": h, "estimator": estimator}
        with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
            judge("renyi", jk.renyi2_entropy, oracle.renyi2_entropy, inputs, seed=0)


def test_renyi_resubstitution_is_minus_the_log_of_the_integral_of_the_square():
    z = data.normals(7, 1, seed=0)
    grid = torch.linspace(-12, 12, 4801, dtype=torch.float64)[:, None]
    square = jk.kde_log_density(grid, z, bandwidth=0.4).mul(2).exp().sum() * 0.005
    found = jk.renyi2_entropy(z, bandwidth=0.4, estimator="resubstitution")
    assert float(found) == pytest.approx(-math.log(float(square)), abs=1e-9)


@pytest.mark.parametrize("D", [1, 4])
def test_renyi_entropy_of_a_normal_sample_is_that_of_its_smoothed_density(D):
    """Of N(0, I) smoothed by h it is (D/2) log 4π(1 + h²)."""
    z, h = data.normals(4000, D, seed=0), 0.5
    truth = 0.5 * D * math.log(4 * math.pi * (1 + h * h))
    assert float(jk.renyi2_entropy(z, bandwidth=h)) == pytest.approx(truth, abs=0.04)


def test_uniformity_is_minus_renyi_entropy_up_to_a_constant():
    z, t = data.normals(30, 4, seed=0), 2.0
    h = 1 / math.sqrt(4 * t)
    constant = 2 * math.log(4 * math.pi * h * h)
    torch.testing.assert_close(jk.renyi2_entropy(z, bandwidth=h), constant - jk.uniformity(z, t=t))


# ---- KoLeo ----


@cases.backends
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=["fp64", "fp32", "bf16"])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("normalize", [True, False])
def test_koleo(backend, dtype, k, normalize):
    inputs = {"z": data.normals(25, 4, seed=0).to(dtype), "k": k, "normalize": normalize}
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge("koleo", jk.koleo, oracle.koleo, inputs, seed=0)


@cases.backends
def test_koleo_is_defined_at_duplicates(backend):
    z = torch.eye(3).repeat(2, 1).requires_grad_()
    with jk.use_backend(backend):
        value = jk.koleo(z)
    value.backward()
    assert float(value.detach()) == pytest.approx(-math.log(1e-8)) and not z.grad.any()


def test_koleo_grows_with_crowding_and_its_gradient_parts_neighbours():
    spread, crowded = (
        data.normals(40, 3, seed=0),
        torch.ones(40, 3, dtype=torch.float64) + 0.1 * data.normals(40, 3, seed=0),
    )
    assert jk.koleo(crowded) > jk.koleo(spread)
    z = crowded.requires_grad_()
    before = jk.koleo(z)
    before.backward()
    assert jk.koleo(z.detach() - 1e-3 * z.grad) < before


def test_koleo_of_unit_rows_is_knn_entropy_up_to_constants():
    z = torch.nn.functional.normalize(data.normals(50, 3, seed=0), dim=1)
    more = torch.nn.functional.normalize(data.normals(50, 3, seed=1), dim=1)
    gap = jk.knn_entropy(z, k=1) - jk.knn_entropy(more, k=1)
    torch.testing.assert_close(-3 * (jk.koleo(z) - jk.koleo(more)), gap.to(torch.float64), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("k", "message"), [(0, "k is 0, must be between 1 and 5"), (6, "k is 6, must be between 1 and 5")]
)
def test_koleo_needs_as_many_other_rows(k, message):
    with pytest.raises(ValueError, match=f"^koleo: {message}"):
        jk.koleo(data.normals(6, 2, seed=0), k=k)
