"""Student's t and the compact kernels: densities, integrals, supports, and tiles beyond a support that are passed over."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import multivariate_normal, multivariate_t
from sklearn.neighbors import KernelDensity

import jessl_kernels as jk
from jessl_kernels.native import native_status
from tests import cases, data
from tests.oracles import closed_forms, density
from tests.oracles import reductions as oracle
from tests.yardstick import judge

COMPACT = ["tophat", "epanechnikov", "linear", "cosine"]
compact = pytest.mark.parametrize("kernel", COMPACT)
# scikit-learn's name of a kernel, and the dimensions in which its normaliser is right: its sum for the cosine lacks the last term
# in even dimensions.
SCIKIT = {
    "gaussian": ("gaussian", (1, 2, 3, 7, 20)),
    "laplace": ("exponential", (1, 2, 3, 7, 20)),
    "tophat": ("tophat", (1, 2, 3, 7, 20)),
    "epanechnikov": ("epanechnikov", (1, 2, 3, 7, 20)),
    "linear": ("linear", (1, 2, 3, 7, 20)),
    "cosine": ("cosine", (1, 3, 7)),
}
NEW = {
    "student": {"kernel": "student", "df": 3.0},
    "cauchy": {"kernel": "student", "df": 1.0},
    **{kernel: {"kernel": kernel} for kernel in COMPACT},
}
new = pytest.mark.parametrize("kernel", NEW.values(), ids=NEW)
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=["fp64", "fp32", "bf16"])


def width(kernel, D, dtype, per_dimension=False):
    """A bandwidth that reaches some of the others, as a tensor, and the rest of the kernel's words."""
    h = torch.linspace(1.3, 2.1, D) if per_dimension else torch.tensor(1.71)
    return {"bandwidth": h.to(torch.float64 if dtype == torch.float64 else torch.float32), **kernel}


@cases.backends
@dtypes
@new
@pytest.mark.parametrize("per_dimension", [False, True], ids=["number", "each"])
def test_log_density_of_the_new_kernels(backend, dtype, kernel, per_dimension):
    query, sample = data.pairs("random", 30, 3, seed=0, dtype=dtype)
    inputs = {"query": query, "data": sample[:25].clone(), **width(kernel, 3, dtype, per_dimension)}
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge("log density", jk.kde_log_density, density.kde_log_density, inputs, seed=0)


@cases.backends
@dtypes
@new
def test_entropy_by_the_new_kernels(backend, dtype, kernel):
    z, _ = data.pairs("random", 33, 3, seed=0, dtype=dtype)
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge("entropy", jk.kde_entropy, density.kde_entropy, {"z": z, **width(kernel, 3, dtype)}, seed=0)


@pytest.mark.parametrize("backend", ["reference", "chunked", "cpu"])
@pytest.mark.parametrize(("kernel", "D"), [(kernel, D) for kernel, (_, dims) in SCIKIT.items() for D in dims])
def test_densities_are_those_of_scikit_learn(backend, kernel, D):
    z, query, h = data.normals(300, D, seed=0), data.normals(50, D, seed=1), 1.3 * math.sqrt(D)
    truth = KernelDensity(kernel=SCIKIT[kernel][0], bandwidth=h, atol=0, rtol=0).fit(z.numpy()).score_samples(query)
    with jk.use_backend(backend):
        ours = jk.kde_log_density(query, z, bandwidth=h, kernel=kernel)
    np.testing.assert_allclose(ours.numpy(), truth, atol=1e-9)


@pytest.mark.parametrize("D", [1, 2, 8, 64])
@pytest.mark.parametrize("df", [0.5, 1.0, 4.0, 300.0])
def test_one_student_kernel_is_scipy_s_t(D, df):
    query = data.normals(20, D, seed=0)
    truth = multivariate_t(np.zeros(D), 0.7**2 * np.eye(D), df=df).logpdf(query.numpy())
    ours = jk.kde_log_density(query, torch.zeros(1, D, dtype=torch.float64), bandwidth=0.7, kernel="student", df=df)
    np.testing.assert_allclose(ours.numpy(), np.atleast_1d(truth), rtol=1e-11)


def test_student_with_many_degrees_of_freedom_is_the_gaussian():
    z = data.normals(40, 3, seed=0)
    student = jk.kde_log_density(z, z, bandwidth=0.5, kernel="student", df=1e8)
    torch.testing.assert_close(student, jk.kde_log_density(z, z, bandwidth=0.5), rtol=0, atol=1e-5)


@pytest.mark.parametrize("D", [1, 2, 3])
@pytest.mark.parametrize("kernel", [*SCIKIT, "student"])
def test_every_kernel_integrates_to_1(kernel, D):
    """Σ over spheres: ∫ K = area(S^{D−1}) ∫ K(r) r^{D−1} dr, with K(r) from the estimate of a single point."""
    origin, df = torch.zeros(1, D, dtype=torch.float64), 3.0 if kernel == "student" else None

    def shell(r):
        query = torch.cat(
            [torch.full((1, 1), r, dtype=torch.float64), torch.zeros(1, D - 1, dtype=torch.float64)], dim=1
        )
        log_density = float(jk.kde_log_density(query, origin, bandwidth=0.9, kernel=kernel, df=df))
        return math.exp(log_density + closed_forms.log_sphere_area(D)) * r ** (D - 1)

    far = 0.9 if kernel in COMPACT else math.inf
    assert quad(shell, 0, far, epsrel=1e-9)[0] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("D", [1, 2, 5, 64, 768])
def test_the_cosine_kernel_keeps_its_digits_in_many_dimensions(D):
    """By parts its integral is a sum of alternating powers, of which nothing is left from D ≈ 20 on."""
    origin = torch.zeros(1, D, dtype=torch.float64)
    found = -float(jk.kde_log_density(origin, origin, bandwidth=1.0, kernel="cosine"))
    assert found == pytest.approx(density.log_compact_integral("cosine", D), rel=1e-10)


# ---- Beyond the support ----


@cases.backends
@compact
def test_a_query_that_no_point_reaches_has_density_0_and_gradients_of_0(backend, kernel):
    z = data.normals(8, 2, seed=0).float()
    query = torch.cat([z[:2] + 0.1, torch.full((1, 2), 50.0)])
    leaves = [query.requires_grad_(), z.clone().requires_grad_(), torch.tensor(0.8, requires_grad=True)]
    with jk.use_backend(backend):
        log_density = jk.kde_log_density(leaves[0], leaves[1], bandwidth=leaves[2], kernel=kernel)
        gradients = torch.autograd.grad(log_density[2], leaves)
    assert log_density[2] == -torch.inf and log_density[:2].isfinite().all()
    assert all(not g.any() for g in gradients)


@cases.backends
@compact
def test_the_entropy_of_a_sample_with_an_isolated_point_is_infinite_with_finite_gradients(backend, kernel):
    z = torch.cat([data.normals(8, 2, seed=0).float(), torch.full((1, 2), 50.0)]).requires_grad_()
    h = torch.tensor(1.5, requires_grad=True)
    with jk.use_backend(backend):
        entropy = jk.kde_entropy(z, bandwidth=h, kernel=kernel)
        entropy.backward()
    assert entropy == torch.inf and z.grad.isfinite().all() and h.grad.isfinite() and not z.grad[-1].any()


@cases.backends
@new
def test_duplicates_have_finite_gradients(backend, kernel):
    z = data.normals(6, 3, seed=0).float().repeat(2, 1).requires_grad_()
    with jk.use_backend(backend):
        jk.kde_entropy(z, bandwidth=2.0, **kernel).backward()
    assert z.grad.isfinite().all()


@pytest.mark.parametrize("estimator", ["loo", "resubstitution", "plugin", "plugin_normalized"])
@pytest.mark.parametrize("kernel", [{"kernel": "student", "df": 2.0}, {"kernel": "epanechnikov"}, {"kernel": "cosine"}])
def test_gradcheck_of_the_new_kernels(kernel, estimator):
    z, h = data.normals(7, 2, seed=3).requires_grad_(), torch.tensor(3.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z, h: jk.kde_entropy(z, bandwidth=h, estimator=estimator, **kernel), (z, h))


def test_plugin_has_a_gradient_of_0_where_a_density_exceeds_fp64():
    z = torch.randn(8, 512, generator=torch.Generator().manual_seed(0)).requires_grad_()
    entropy = jk.kde_entropy(z, bandwidth=0.05, estimator="plugin")
    entropy.backward()
    assert entropy == -torch.inf and (z.grad == 0).all()


# ---- Passing over what is beyond ----

N, M = 450, 330  # five strips of the pass that gathers
CROWDS = {
    "clusters": lambda D: (
        6 * torch.randint(4, (N, 1), generator=torch.Generator().manual_seed(1)) + data.normals(N, D, seed=0)
    ),
    "one": lambda D: data.normals(N, D, seed=0),
}


@pytest.mark.skipif(not native_status().available, reason=native_status().reason)
@pytest.mark.parametrize(("dim", "reduction"), [("row", "none"), ("both", "none"), ("row", "sum")])
@pytest.mark.parametrize("crowd", CROWDS)
@pytest.mark.parametrize("D", [2, 17])
@pytest.mark.parametrize("kernel", ["epanechnikov", "cosine"])
def test_gathered_columns_give_the_matrix_form(kernel, D, crowd, reduction, dim):
    x, y = CROWDS[crowd](D), CROWDS[crowd](D).flip(0)[:M] + 0.01
    r, c = cases.columns(N, M, seed=2, dtype=torch.float64)
    ids = torch.arange(N) % 7, torch.arange(M) % 5
    c[5] = -torch.inf
    inputs = {"x": x, "y": y, "scale": torch.tensor(1 / (0.7 * D), dtype=torch.float64), "row_bias": r, "col_bias": c}
    exclude = {"diagonals": (0, 3, -5), "same": ids}

    def ours(**k):
        return jk.pairwise_logsumexp(
            kind="sqdist", phi=kernel, exclude=jk.Exclude(**exclude), dim=dim, reduction="none", **k
        )

    def truth(x, y, scale, row_bias, col_bias):
        s = oracle.score(x, y, kind="sqdist", phi=kernel, scale=scale, row_bias=row_bias, col_bias=col_bias)
        sides = [oracle.logsumexp(s, oracle.excluded(*s.shape, **exclude), dim=d) for d in (1, 0)]
        return sides if dim == "both" else sides[0]

    def finite(of):
        """Rows without a pair are −inf, and their sum would hide the rest."""
        return lambda **k: [torch.where(t == -torch.inf, 0.0, t).sum() for t in _listed(of(**k))]

    pair = (ours, truth) if reduction == "none" else (finite(ours), finite(truth))
    with jk.use_backend("cpu"):
        judge("gathered", *pair, inputs, seed=0, floors={"x": 0.05, "y": 0.05})  # pulls from all sides nearly cancel


def _listed(sides):
    return [sides] if isinstance(sides, torch.Tensor) else sides


@pytest.mark.skipif(not native_status().available, reason=native_status().reason)
@compact
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_leave_one_out_with_gathered_columns(kernel, dtype):
    inputs = {"z": CROWDS["clusters"](3).to(dtype), "bandwidth": torch.tensor(4.03), "kernel": kernel}
    with jk.use_backend("cpu"):
        judge("entropy", jk.kde_entropy, density.kde_entropy, inputs, seed=0)


@compact
def test_gathering_computes_little_of_distant_clusters(kernel, core):
    z = torch.cat([data.normals(600, 2, seed=k).float() + 100 * k for k in range(10)])
    with jk.use_backend("cpu"):
        jk.kde_entropy(z.requires_grad_(), bandwidth=5.0, kernel=kernel).backward()
    _, scored, pulled = core.tiles
    strips = math.ceil(6000 / 96)
    assert 0 < scored < 0.3 * strips * strips and 0 < pulled < 0.3 * strips * strips


@pytest.mark.usefixtures("cpu_backend")
def test_gathering_has_the_same_bits_on_any_number_of_threads():
    z, found = CROWDS["one"](4), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        leaf = z.clone().requires_grad_()
        value = jk.kde_entropy(leaf, bandwidth=2.5, kernel="epanechnikov")
        value.backward()
        found.append((value.detach(), leaf.grad))
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@pytest.mark.usefixtures("cpu_backend")
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_gathering_hides_no_number_that_is_none(value):
    z = CROWDS["one"](2)
    z[300, 1] = value
    with jk.use_backend("reference"):
        truth = jk.kde_log_density(z, z, bandwidth=0.5, kernel="linear")
    torch.testing.assert_close(jk.kde_log_density(z, z, bandwidth=0.5, kernel="linear"), truth, equal_nan=True)


@pytest.mark.usefixtures("cpu_backend")
def test_the_total_with_gathered_columns():
    z = CROWDS["clusters"](2)

    def total(**k):
        return jk.pairwise_logsumexp(kind="sqdist", phi="epanechnikov", exclude="diagonal", reduction="logsumexp", **k)

    def truth(x, scale):
        s = oracle.score(x, kind="sqdist", phi="epanechnikov", scale=scale)
        return oracle.total_logsumexp(s, oracle.excluded(N, N, diagonals=(0,)))

    # A row's pulls from both sides nearly cancel.
    judge("total", total, truth, {"x": z, "scale": torch.tensor(0.3, dtype=torch.float64)}, seed=0, floors={"x": 1e-3})


# ---- Entropies that are known ----


@pytest.mark.parametrize("h", [0.2, 0.4, 0.8])
@pytest.mark.parametrize("size", [1000, 4000])
def test_leave_one_out_of_a_normal_sample_follows_its_closed_form(size, h):
    """The limit of many points, and an excess of a finite sample that falls with the number of points in reach."""
    z = data.normals(size, 2, seed=0)
    found = float(jk.kde_entropy(z, bandwidth=h))
    reached = size * h * h / 2  # points within h of the center
    assert found - closed_forms.loo_entropy_limit(2, h) == pytest.approx(0.0, abs=0.04 + 2 / reached)


@pytest.mark.parametrize("D", [3, 16])
def test_entropy_of_a_von_mises_fisher_sample(D):
    from scipy.stats import vonmises_fisher

    law = vonmises_fisher(np.eye(D)[0], 20.0)
    z = torch.tensor(law.rvs(3000, random_state=0), dtype=torch.float32)
    found = float(jk.kde_entropy(z, kernel="vmf", concentration="likelihood"))
    assert (
        closed_forms.vmf_entropy(D, 20.0) - 0.05 < found < closed_forms.vmf_entropy(D, 20.0) + (0.1 if D == 3 else 0.8)
    )


@pytest.mark.parametrize("kernel", [*COMPACT, "student"])
def test_the_bias_of_every_kernel_is_upwards_on_a_normal_sample(kernel):
    z = data.normals(2000, 2, seed=0)
    found = jk.kde_entropy(z, bandwidth="likelihood", kernel=kernel, df=4.0 if kernel == "student" else None)
    assert -0.05 < float(found) - closed_forms.gaussian_entropy(2) < 0.15


def test_a_covariance_is_scipy_s_mixture():
    z, query = data.normals(6, 3, seed=0), data.normals(4, 3, seed=1)
    H = torch.tensor([[1.0, 0.5, 0.0], [0.5, 0.8, 0.1], [0.0, 0.1, 0.4]], dtype=torch.float64)
    each = [multivariate_normal(row.numpy(), H.numpy()).pdf(query.numpy()) for row in z]
    ours = jk.kde_log_density(query, z, bandwidth=H)
    np.testing.assert_allclose(ours.numpy(), np.log(np.mean(each, axis=0)), rtol=1e-12)
