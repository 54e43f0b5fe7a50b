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
def test_differences_of_half_precision_are_made_in_full(backend):
    """100 and 1.01 are 98.99 apart, which bf16 does not hold."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.tensor([[[100.0]], [[1.0]]]) + torch.randn(2, 9, 3, generator=generator)).bfloat16()
    with jk.use_backend(backend):
        judge(
            "points far apart",
            lambda x, y: jk.pairwise_logsumexp(x, y, kind="sqdist", scale=1e-4),
            lambda x, y: oracle.logsumexp(oracle.score(x, y, kind="sqdist", scale=1e-4)),
            {"x": x, "y": y},
            seed=0,
        )


@cases.backends
@DTYPES
def test_an_infinite_score_makes_the_sums_of_its_row_and_columns_infinite_and_no_other(backend, dtype):
    x = torch.eye(5, dtype=dtype)
    bias = torch.tensor([torch.inf, 0.0, 0.0, 0.0, 0.0])
    with jk.use_backend(backend):
        row, col = jk.pairwise_logsumexp(x, x + 0.5, row_bias=bias, dim="both")
    assert row[0] == torch.inf and bool(row[1:].isfinite().all())
    assert bool((col == torch.inf).all())
