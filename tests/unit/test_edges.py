"""Scores that lie exactly at the edge of a word, and distances whose differences half precision could not hold."""

import pytest
import torch

import jessl_kernels as jk
from tests import cases
from tests.oracles import reductions as oracle
from tests.yardstick import judge

pytestmark = pytest.mark.kernels
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


@cases.backends
@DTYPES
def test_a_clamp_has_slope_1_at_its_bounds(backend, dtype):
    x = torch.tensor([[1.0, 0.0]], dtype=dtype, requires_grad=True)
    y = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=dtype)
    with jk.use_backend(backend):
        jk.pairwise_logsumexp(x, y, phi=jk.phi.clamp(-1.0, 1.0)).sum().backward()
    weights = torch.tensor([1.0, -1.0]).softmax(dim=0)
    assert x.grad is not None
    torch.testing.assert_close(x.grad[0, 0].float(), weights[0] - weights[1], rtol=1e-2, atol=0)


@cases.backends
@DTYPES
def test_a_step_does_not_count_a_score_of_0(backend, dtype):
    x = torch.eye(3, dtype=dtype)
    with jk.use_backend(backend):
        counts = jk.pairwise_sum(x, torch.cat([x, -x]), psi="step")
    assert counts.tolist() == [1, 1, 1]


@cases.backends
def test_distances_of_near_points_in_half_precision_are_differences_in_full(backend):
    """Near 100 neighbours of bf16 are 0.5 apart, and their differences exact; products would lose them."""
    generator = torch.Generator().manual_seed(0)
    x, y = (100 + torch.randn(2, 9, 3, generator=generator)).bfloat16()
    with jk.use_backend(backend):
        judge(
            "near points",
            lambda x, y: jk.pairwise_logsumexp(x, y, kind="sqdist", scale=0.3),
            lambda x, y: oracle.logsumexp(oracle.score(x, y, kind="sqdist", scale=0.3)),
            {"x": x, "y": y},
            seed=0,
        )
