"""Bounds on mutual information: each is its paper's formula, by every backend and every critic, and what is known of it holds."""

import math

import pytest
import torch

from jessl_kernels import mi, use_backend
from jessl_kernels.mi import bounds, critics
from tests import cases, data
from tests.oracles import information as oracle
from tests.yardstick import judge

N, D = 37, 5
TAU, ALPHA = 1.5, 0.3
# Ours of scores and what stands beside them, and the oracle of the matrix.
BOUNDS = {
    "info_nce": (lambda s, v: bounds.info_nce(s), lambda s, v: oracle.info_nce(s)),
    "dv": (lambda s, v: bounds.dv(s), lambda s, v: oracle.dv(s)),
    "nwj": (lambda s, v: bounds.nwj(s), lambda s, v: oracle.nwj(s)),
    "tuba": (bounds.tuba, oracle.tuba),
    "interpolated": (lambda s, v: bounds.interpolated(s, v, ALPHA), lambda s, v: oracle.interpolated(s, v, ALPHA)),
    "interpolated-1": (lambda s, v: bounds.interpolated(s, v, 1.0), lambda s, v: oracle.interpolated(s, v, 1.0)),
    "interpolated-one": (
        lambda s, v: bounds.interpolated(s, v, ALPHA, "one"),
        lambda s, v: oracle.interpolated(s, v, ALPHA, one=True),
    ),
    "js": (lambda s, v: bounds.js(s), lambda s, v: oracle.js(s)),
    "js_read_out": (lambda s, v: bounds.js_read_out(s), lambda s, v: oracle.js_read_out(s)),
    "smile": (lambda s, v: bounds.smile(s, TAU), lambda s, v: oracle.smile(s, TAU)),
    "flo": (bounds.flo, oracle.flo),
}
each = pytest.mark.parametrize("name", BOUNDS)


def given(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    x, y = data.pairs("random", N, D, seed=0)
    return {"x": x.to(dtype), "y": y.to(dtype), "v": torch.linspace(-1, 1, N)}


@cases.backends
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@each
def test_bounds_and_gradients_of_dot_scores(name, dtype, backend):
    ours, truth = BOUNDS[name]

    def of_dots(x, y, v):
        return ours(critics.DotScores(x, y, 0.7), v.to(torch.float64) if x.dtype == torch.float64 else v)

    with use_backend(backend):
        judge(name, of_dots, lambda x, y, v: truth(oracle.scores(x, y, 0.7), v), given(dtype), seed=0)


@pytest.mark.parametrize("most", [25, 10**6], ids=["5x5", "one block"])
@each
def test_bounds_and_gradients_of_scores_by_blocks(name, most):
    ours, truth = BOUNDS[name]
    critic = critics.OfBlocks(lambda x, y: 0.7 * x @ y.T, most=most)
    judge(
        name,
        lambda x, y, v: ours(critic(x, y), v),
        lambda x, y, v: truth(oracle.scores(x, y, 0.7), v),
        given(torch.float32),
        seed=0,
    )


@each
def test_biases_of_dot_scores_are_part_of_every_score(name):
    ours, truth = BOUNDS[name]
    inputs = {k: t.double() for k, t in given(torch.float64).items()}
    r, c = torch.linspace(-2, 1, N).double().requires_grad_(), torch.linspace(1, -1, N).double().requires_grad_()
    value = ours(critics.DotScores(inputs["x"], inputs["y"], 0.7, r, c), inputs["v"])
    expected = truth(oracle.scores(inputs["x"], inputs["y"], 0.7) + r[:, None] + c[None, :], inputs["v"])
    torch.testing.assert_close(value, expected)
    unused = {"allow_unused": True, "materialize_grads": True}  # a row's bias cancels in InfoNCE
    ours_, theirs = (torch.autograd.grad(v, [r, c], **unused) for v in (value, expected))
    for a, b in zip(ours_, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(
    "critic", [critics.InnerProduct(), critics.Bilinear(D, D), critics.Separable(D, D), critics.Joint(D, D)]
)
def test_every_critic_is_its_matrix(critic):
    x, y, _ = given(torch.float32).values()
    made = critic(x, y)
    if isinstance(critic, critics.Joint):
        s = critic.rest(critic.of_x(x)[:, None] + critic.of_y(y)[None])[..., 0]
    else:
        s = made.scale * made.x @ made.y.T
    torch.testing.assert_close(bounds.dv(made), oracle.dv(s), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(made.positives(), s.diagonal(), rtol=1e-5, atol=1e-5)
    for name, parameter in critic.named_parameters():
        got, want = (
            torch.autograd.grad(oracle_or_ours, parameter, retain_graph=True)[0]
            for oracle_or_ours in (bounds.dv(made), oracle.dv(s))
        )
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-5, msg=name)


class Optimal(critics.Critic):
    """log p(y|x)/p(y) of unit Gaussians with correlation ρ in each dimension, plus a number."""

    def __init__(self, rho: float, plus: float = 0.0):
        super().__init__()
        self.rho, self.plus = rho, plus

    def forward(self, x, y):
        v = 1 - self.rho**2
        row = -(self.rho**2) * x.square().sum(dim=1) / (2 * v) - x.shape[1] / 2 * math.log(v) + self.plus
        col = y.square().sum(dim=1) / 2 - y.square().sum(dim=1) / (2 * v)
        return critics.DotScores(x, y, self.rho / v, row, col)


@pytest.mark.parametrize("name", ["info_nce", "dv", "js", "nwj", "interpolated"])
def test_at_the_optimal_critic_a_bound_is_near_the_information_and_never_far_above(name):
    """2 nats in 20 dimensions, below log K of 256."""
    rho = math.sqrt(1 - math.exp(-2 * 2.0 / 20))
    x, y = data.correlated(64 * 256, 20, rho)
    found = mi.bound(name, x, y, Optimal(rho, plus=1.0 if name == "nwj" else 0.0), block=256)
    assert found.blocks == 64 and 0 < found.stderr < 0.1
    assert 1.85 < found.value < 2.0 + 4 * found.stderr
    assert found.value < found.cap


def test_info_nce_is_capped_and_dv_at_its_own_optimum_is_not():
    x, y = data.correlated(8 * 256, 20, 0.9)  # 16.6 nats
    assert mi.bound("info_nce", x, y, Optimal(0.9), block=256).value < math.log(256)
    assert mi.bound("dv", x, y, Optimal(0.9), block=256).value > 12


def test_the_optimal_critics_are_as_the_papers_say():
    """InfoNCE does not mind a number for each x; NWJ wants 1 + log p(y|x)/p(y), and any other number lowers it."""
    rho = 0.5
    x, y = data.correlated(4000, 5, rho)
    best = Optimal(rho)(x, y)

    def moved(row):
        return critics.DotScores(best.x, best.y, best.scale, best.row_bias + row, best.col_bias)

    free = torch.randn(4000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(bounds.info_nce(moved(free)), bounds.info_nce(best))
    values = [float(bounds.nwj(moved(c))) for c in (0.5, 1.0, 1.5)]
    assert values[1] > max(values[0], values[2])
    torch.testing.assert_close(bounds.nwj(moved(1.0)), bounds.js_read_out(best))
