"""KDE log-density and entropy, uniformity and alignment: oracles, closed forms, limits."""

import math

import pytest
import torch

import jessl_kernels as jk
from tests import cases, data
from tests.oracles import closed_forms, density, geometry
from tests.yardstick import judge

WIDTHS = {
    "gaussian": {"kernel": "gaussian", "bandwidth": 0.6},
    "gaussian-D": {"kernel": "gaussian", "bandwidth": "per-dimension"},
    "laplace": {"kernel": "laplace", "bandwidth": 0.6},
    "laplace-D": {"kernel": "laplace", "bandwidth": "per-dimension"},
    "vmf": {"kernel": "vmf", "concentration": 8.0},
}
widths = pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
ESTIMATORS = ["loo", "resubstitution", "plugin", "plugin_normalized"]


def width_inputs(width, D, dtype):
    """The learnable width as a tensor, and the word for the kernel."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    (name,) = set(width) - {"kernel"}
    value = torch.linspace(0.5, 1.0, D) if width[name] == "per-dimension" else torch.tensor(width[name])
    return {name: value.to(wide), "kernel": width["kernel"]}


@cases.backends
@cases.dtypes
@widths
@pytest.mark.parametrize("batch", ["random", "clustered"])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weights"])
def test_log_density_integrates_learnable_widths_and_weights(backend, dtype, width, batch, weighted):
    query, sample = data.pairs(batch, 30, 4, seed=0, dtype=dtype)
    inputs = {"query": query, "data": sample[:25].clone(), **width_inputs(width, 4, dtype)}
    if weighted:
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        inputs["weights"] = torch.linspace(0.5, 2.0, 25).to(wide)
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge("log density", jk.kde_log_density, density.kde_log_density, inputs, seed=0)


@cases.backends
@cases.dtypes
@widths
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_entropy_estimators(backend, dtype, width, estimator):
    z, _ = data.pairs("random", 33, 4, seed=0, dtype=dtype)
    inputs = {"z": z, **width_inputs(width, 4, dtype)}
    # "plugin" returns fp64 for its range, but its precision is that of the log densities from which it is made.
    precision = torch.float64 if dtype == torch.float64 else torch.float32
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge(
            estimator,
            lambda **k: jk.kde_entropy(estimator=estimator, **k).to(precision),
            lambda **k: density.kde_entropy(estimator=estimator, **k),
            inputs,
            seed=0,
        )


@cases.backends
@pytest.mark.parametrize("estimator", ["loo", "resubstitution"])
@widths
def test_weighted_entropy(backend, estimator, width):
    z, _ = data.pairs("random", 21, 3, seed=0)
    inputs = {"z": z, "weights": torch.linspace(0.0, 2.0, 21), **width_inputs(width, 3, torch.float32)}
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge(
            "weighted",
            lambda **k: jk.kde_entropy(estimator=estimator, **k),
            lambda **k: density.kde_entropy(estimator=estimator, **k),
            inputs,
            seed=0,
            constants=("weights",),
        )


@pytest.mark.parametrize("rule", ["scott", "silverman"])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weights"])
def test_bandwidth_rules_are_constants_for_autograd(rule, weighted):
    z = data.pairs("random", 40, 3, seed=0, dtype=torch.float64)[0].requires_grad_()
    weights = torch.linspace(0.5, 2.0, 40, dtype=torch.float64) if weighted else None
    h = density.bandwidth_rule(rule, z.detach(), weights)
    by_rule = jk.kde_entropy(z, bandwidth=rule, weights=weights)
    by_hand = jk.kde_entropy(z, bandwidth=h, weights=weights)
    torch.testing.assert_close(by_rule, by_hand, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(value, z)[0] for value in (by_rule, by_hand)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weights"])
@pytest.mark.parametrize("constant", [0.1, 3.3, 1e5])
def test_a_bandwidth_rule_refuses_a_dimension_that_does_not_vary(constant, weighted):
    """The computed deviation of a constant is seldom 0, because its mean is rounded; the bandwidth would be that rounding."""
    z = data.normals(1000, 3, seed=0).float()
    z[:, 1] = constant
    weights = torch.linspace(0.0, 2.0, 1000) if weighted else None
    if weighted:
        z[0, 1] = 0.0  # this point has weight 0
    with pytest.raises(
        ValueError, match="bandwidth is 'scott', must be a number: dimension 1 of the data does not vary"
    ):
        jk.kde_entropy(z, bandwidth="scott", weights=weights)


def test_a_bandwidth_rule_passes_nan_on():
    z = data.normals(20, 3, seed=0)
    z[4, 1] = torch.nan
    assert jk.kde_entropy(z, bandwidth="scott").isnan()


@cases.backends
def test_leave_one_out_where_one_point_has_nearly_all_the_weight(backend):
    """The others' share, 2e-9 here, vanishes if the weights are divided by their sum in fp32."""
    inputs = {
        "z": data.normals(3, 2, seed=0).float(),
        "weights": torch.tensor([1e-9, 1.0, 1e-9]),
        "bandwidth": torch.tensor(1.0),
    }
    with jk.use_backend(backend):
        judge("one weight", jk.kde_entropy, density.kde_entropy, inputs, seed=0, constants=("weights",))


def test_leave_one_out_needs_two_points_of_positive_weight():
    with pytest.raises(ValueError, match="weights is positive at 1 point, must be at 2 or more with estimator='loo'"):
        jk.kde_entropy(data.normals(3, 2, seed=0), bandwidth=1.0, weights=torch.tensor([0.0, 1.0, 0.0]))


@cases.backends
@pytest.mark.parametrize("scale", [0.01, 10.0, 1000.0])
def test_bandwidth_far_below_the_spread_and_a_mean_far_from_zero_cost_no_accuracy(backend, scale):
    z, _ = data.pairs("clustered", 60, 6, seed=0)
    inputs = {"z": z + scale, "bandwidth": torch.tensor(0.02)}
    with jk.use_backend(backend):
        judge(f"mean {scale}", jk.kde_entropy, density.kde_entropy, inputs, seed=0)


def test_leave_one_out_tends_to_its_closed_form_on_a_normal_sample():
    z = data.normals(4096, 4, seed=0)
    h = 0.436
    entropy = float(jk.kde_entropy(z, bandwidth=h))
    limit = closed_forms.loo_entropy_limit(4, h)
    # The sample mean of the cross entropy has standard deviation √(D/2N) = 0.022; a finite sample lies above the limit.
    assert limit - 0.07 < entropy < limit + 0.1
    assert limit > closed_forms.gaussian_entropy(4)


def test_resubstitution_is_its_cap_in_high_dimension_with_no_gradient_left():
    """Why leave-one-out is the default."""
    z = data.normals(512, 64, seed=0).requires_grad_()
    h = 0.849
    log_kernel_at_0 = -32 * math.log(2 * math.pi * h * h)
    entropy = jk.kde_entropy(z, bandwidth=h, estimator="resubstitution")
    assert float(entropy.detach()) == pytest.approx(closed_forms.resubstitution_cap(512, log_kernel_at_0), abs=1e-6)
    (gradient,) = torch.autograd.grad(entropy, z)
    (loo_gradient,) = torch.autograd.grad(jk.kde_entropy(z, bandwidth=h), z)
    assert gradient.norm() < 1e-6 * loo_gradient.norm()


@pytest.mark.parametrize(
    "width", [{"bandwidth": 0.6}, {"kernel": "laplace", "bandwidth": 0.6}, {"kernel": "vmf", "concentration": 9.0}]
)
def test_resubstitution_is_the_mixture_of_leave_one_out_and_the_kernel_at_0(width):
    """p̂(x_i) = (1 − 1/N) p̂_{−i}(x_i) + K(0)/N, for any kernel, exactly; and the cap that follows."""
    z = data.normals(50, 3, seed=0)
    z = torch.nn.functional.normalize(z, dim=1) if "concentration" in width else z
    at_0 = float(jk.kde_log_density(z[:1], z[:1], **width))
    both = jk.kde_log_density(z, z, **width)
    others = torch.stack(
        [jk.kde_log_density(z[i : i + 1], torch.cat([z[:i], z[i + 1 :]]), **width)[0] for i in range(50)]
    )
    mixture = torch.logaddexp(others + math.log(49 / 50), torch.full((), at_0 - math.log(50), dtype=z.dtype))
    torch.testing.assert_close(both, mixture, rtol=1e-12, atol=1e-12)
    assert jk.kde_entropy(z, estimator="resubstitution", **width) <= math.log(50) - at_0


@pytest.mark.parametrize("D", [2, 3, 8, 128, 1024])
@pytest.mark.parametrize("kappa", [0.0, 1e-3, 1.0, 10.0, 100.0, 1999.0, 2001.0, 1e4])
def test_vmf_normaliser_where_bessel_functions_underflow_and_overflow(D, kappa):
    """At the mean direction the log density is κ minus the normaliser's logarithm."""
    mode = torch.zeros(1, D, dtype=torch.float64)
    mode[0, 0] = 1.0
    found = kappa - float(jk.kde_log_density(mode, mode, kernel="vmf", concentration=kappa))
    assert found == pytest.approx(closed_forms.vmf_log_normaliser(D, kappa), rel=1e-11, abs=1e-10)


@pytest.mark.parametrize("D", [2, 16, 256])
@pytest.mark.parametrize("kappa", [0.0, 0.5, 50.0, 3000.0])
def test_gradient_of_the_vmf_normaliser_is_the_mean_resultant_length(D, kappa):
    """∂/∂κ log ∫ e^{κ⟨x, μ⟩} = E⟨x, μ⟩, and 0 at κ = 0."""
    mode = torch.zeros(1, D, dtype=torch.float64)
    mode[0, 0] = 1.0
    concentration = torch.tensor(kappa, dtype=torch.float64, requires_grad=True)
    jk.kde_log_density(mode, mode, kernel="vmf", concentration=concentration).sum().backward()
    step = 1e-3 * max(kappa, 1.0)
    low, high = (closed_forms.vmf_log_normaliser(D, k) for k in (abs(kappa - step), kappa + step))
    assert 1 - float(concentration.grad) == pytest.approx((high - low) / (2 * step), abs=1e-5)


def test_vmf_entropy_of_the_uniform_sphere_is_the_log_of_its_area():
    z = data.normals(4096, 8, seed=0)
    found = float(jk.kde_entropy(z, kernel="vmf", concentration=10.0))
    # Above log area by Jensen, 0.0034 at this N and κ (closed form); the sample adds little.
    assert found == pytest.approx(closed_forms.log_sphere_area(8) + 0.0034, abs=0.01)


@pytest.mark.parametrize("kernel", ["gaussian", "laplace"])
def test_kernels_integrate_to_1(kernel):
    grid = torch.linspace(-12, 12, 241, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    log_p = jk.kde_log_density(points, torch.zeros(1, 2, dtype=torch.float64), kernel=kernel, bandwidth=0.9)
    assert float(log_p.exp().sum()) * 0.1**2 == pytest.approx(1.0, abs=2e-3)


@cases.backends
@cases.dtypes
def test_uniformity(backend, dtype):
    z, _ = data.pairs("random", 40, 8, seed=0, dtype=dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge(
            "uniformity", jk.uniformity, geometry.uniformity, {"z": z / 4, "t": torch.tensor(2.0, dtype=wide)}, seed=0
        )


def test_uniformity_of_the_uniform_sphere_tends_to_its_closed_form():
    z = torch.nn.functional.normalize(data.normals(4096, 8, seed=0), dim=1)
    assert float(jk.uniformity(z)) == pytest.approx(closed_forms.uniformity_limit(8, 2.0), abs=0.01)


@cases.dtypes
@pytest.mark.parametrize("power", [1, 1.5, 2, 3.0])
def test_alignment(dtype, power):
    x, y = data.pairs("random", 20, 4, seed=0, dtype=dtype)
    judge(
        "alignment",
        lambda **k: jk.alignment(power=power, **k),
        lambda **k: geometry.alignment(power=power, **k).mean(),
        {"x": x, "y": y},
        seed=0,
    )


@pytest.mark.parametrize("power", [0.5, 1, 2, 3.0])
def test_alignment_of_coinciding_points_is_0_with_a_finite_gradient(power):
    x = data.normals(5, 3, seed=0).requires_grad_()
    value = jk.alignment(x, x.detach().clone(), power=power)
    value.backward()
    assert value == 0 and not x.grad.any()


@pytest.mark.parametrize("c", [1.0, 0.1, 0.01])
def test_the_er_bound_holds_with_q_of_z2_given_z1_and_not_as_it_is_often_printed(c):
    """I(Z1; Z2) ≥ H(Z2) + E log q(Z2|Z1). With q(Z1|Z2) it bounds nothing: a rescaled Z1 makes it arbitrarily large.

    Z2 ~ N(0, 1), Z1 = c (Z2 + noise/2), q the exact conditional: I = ½ log 5 for every c.
    """
    generator = torch.Generator().manual_seed(0)
    z2, noise = torch.randn(2, 4000, 1, generator=generator, dtype=torch.float64)
    z1 = c * (z2 + noise / 2)
    entropy = float(jk.kde_entropy(z2, bandwidth="silverman"))
    z2_given_z1 = torch.distributions.Normal(0.8 * z1 / c, math.sqrt(0.2))
    z1_given_z2 = torch.distributions.Normal(c * z2, c / 2)
    bound = entropy + float(z2_given_z1.log_prob(z2).mean())
    printed = entropy + float(z1_given_z2.log_prob(z1).mean())
    assert bound == pytest.approx(0.5 * math.log(5), abs=0.05)
    assert printed == pytest.approx(math.log(2 / c), abs=0.05)  # 0.69, 3.0, 5.3


@pytest.mark.parametrize("backend", ["cpu", "chunked", "reference"])
def test_plugin_of_isolated_points_has_a_gradient_of_0(backend):
    """A density of 1e56 exceeds fp32, so e^L (1 + L) times the gradient 0 of a one-term sum would be NaN."""
    z = torch.randn(32, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with jk.use_backend(backend):
        entropy = jk.kde_entropy(z, bandwidth=0.05, estimator="plugin")
    entropy.backward()
    assert entropy.dtype == torch.float64 and entropy < -1e50
    assert (z.grad == 0).all()
