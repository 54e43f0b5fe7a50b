"""Reductions under settings: a workspace of several strips, and torch's switch for the precision of products."""

import pytest
import torch

import jessl_kernels as jk
from tests import cases, data
from tests.unit.test_reductions import FLUSHED, given, lse_of, lse_oracle
from tests.yardstick import judge


@pytest.mark.kernels
@cases.backends
def test_top_k_over_several_strips(backend):
    """The strips are as long as their rows of memory."""
    x, y = data.pairs("random", 144, 5, seed=0)
    (c,) = cases.columns(144, seed=1, dtype=torch.float32)
    with jk.use_backend(backend, workspace=32 * 144 * 4):
        values, places = jk.pairwise_topk(x[:70], y, k=3, col_bias=c)
    expected = (x[:70].double() @ y.double().T + c).topk(3, dim=1)
    assert torch.equal(places, expected.indices)
    torch.testing.assert_close(values, expected.values.float())


@pytest.mark.parametrize("backend", ["cpu", "chunked", "reference"])
@pytest.mark.parametrize("scale", [0.01, 1.0])
def test_distances_do_not_follow_the_switch_for_products(backend, scale, bf16_products):
    options = {"dim": "both", "reduction": "mean", "exclude": {"diagonals": (0,)}}
    inputs = given((140, 130, 32), torch.float32, dim="both") | {"scale": torch.tensor(scale)}
    ours, truth = lse_of("sqdist", None, **options), lse_oracle("sqdist", None, **options)
    with jk.use_backend(backend):
        judge("bf16 products", ours, truth, inputs, seed=0, floors=FLUSHED)
