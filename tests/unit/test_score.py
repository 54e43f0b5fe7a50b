"""∇ log p̂: against the derivatives of each kernel, and what follows from it."""

import pytest
import torch

import jessl_kernels as jk
from tests import cases, data
from tests.oracles import joint as oracle
from tests.yardstick import judge

KERNELS = {
    "gaussian": {"bandwidth": 0.8},
    "each": {"bandwidth": [0.8, 0.6, 1.2]},
    "student": {"bandwidth": 0.8, "kernel": "student", "df": 3.0},
    "vmf": {"concentration": 4.0, "kernel": "vmf"},
}
kernels = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)


@cases.backends
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=["fp64", "fp32", "bf16"])
@kernels
def test_the_score(backend, dtype, kernel):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    query, z = data.pairs("random", 21, 3, seed=0, dtype=dtype)
    width = {k: torch.tensor(v, dtype=wide) if k in ("bandwidth", "concentration") else v for k, v in kernel.items()}
    inputs = {"query": query, "data": z[:17].clone(), **width}
    floors = {"query": 0.5, "bandwidth": 30.0, "concentration": 30.0}  # sums of terms of both signs
    with jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
        judge("score", jk.kde_score, oracle.score, inputs, seed=0, floors=floors)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weights"])
@pytest.mark.parametrize("kernel", ["gaussian", "student", "laplace", "epanechnikov", "linear", "cosine", "tophat"])
def test_the_score_is_the_gradient_of_the_log_density(kernel, weighted):
    query, z = data.normals(9, 3, seed=1).requires_grad_(), data.normals(30, 3, seed=0)
    options = {"bandwidth": 2.5, "kernel": kernel, "df": 2.0 if kernel == "student" else None}
    options["weights"] = torch.linspace(0.0, 2.0, 30, dtype=torch.float64) if weighted else None
    (truth,) = torch.autograd.grad(jk.kde_log_density(query, z, **options).sum(), query)
    torch.testing.assert_close(jk.kde_score(query, z, **options), truth, rtol=1e-9, atol=1e-11)


def test_the_score_with_a_covariance_is_that_of_whitened_points():
    query, z = data.normals(5, 2, seed=1).requires_grad_(), data.normals(30, 2, seed=0)
    H = torch.tensor([[1.0, 0.6], [0.6, 0.7]], dtype=torch.float64)
    (truth,) = torch.autograd.grad(jk.kde_log_density(query, z, bandwidth=H).sum(), query)
    torch.testing.assert_close(jk.kde_score(query, z, bandwidth=H), truth, rtol=1e-10, atol=0)


@pytest.mark.parametrize("kernel", ["gaussian", "student", "epanechnikov", "vmf"])
def test_the_score_has_gradients(kernel):
    query, z = data.normals(3, 2, seed=1).requires_grad_(), data.normals(5, 2, seed=0).requires_grad_()
    width = torch.tensor(2.9, dtype=torch.float64, requires_grad=True)
    name = "concentration" if kernel == "vmf" else "bandwidth"
    df = 2.0 if kernel == "student" else None

    def score(query, z, width):
        return jk.kde_score(query, z, kernel=kernel, df=df, **{name: width})

    assert torch.autograd.gradcheck(score, (query, z, width))


@cases.backends
@pytest.mark.parametrize("kernel", ["tophat", "epanechnikov", "linear", "cosine"])
def test_a_query_that_no_point_reaches_has_no_score(backend, kernel):
    z, query = data.normals(6, 2, seed=0).float(), torch.full((1, 2), 40.0, requires_grad=True)
    with jk.use_backend(backend):
        score = jk.kde_score(query, z, bandwidth=1.0, kernel=kernel)
    assert not score.any()
    if score.requires_grad:
        score.sum().backward()
        assert not query.grad.any()


def test_mean_shift_goes_to_the_modes():
    z = torch.cat([data.normals(400, 2, seed=k) + 10 * k for k in range(2)])
    query, h = torch.tensor([[3.0, 1.0], [7.0, 9.0]], dtype=torch.float64), 1.5
    for _ in range(60):
        query = query + h * h * jk.kde_score(query, z, bandwidth=h)
    torch.testing.assert_close(query, torch.tensor([[0.0, 0.0], [10.0, 10.0]]).double(), rtol=0, atol=0.3)


def test_the_score_far_from_0_keeps_its_digits():
    query, z = (512 + data.normals(n, 3, seed=n).float() for n in (5, 40))
    far = jk.kde_score(query, z, bandwidth=0.5)
    near = jk.kde_score(query.double() - 512, z.double() - 512, bandwidth=0.5)
    torch.testing.assert_close(far.double(), near, rtol=1e-4, atol=1e-4)


def test_the_score_on_the_sphere_is_tangential():
    z = data.normals(30, 4, seed=0)
    query = torch.nn.functional.normalize(data.normals(6, 4, seed=1), dim=1)
    score = jk.kde_score(query, z, kernel="vmf", concentration=3.0)
    torch.testing.assert_close((score * query).sum(dim=1), torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-14)
