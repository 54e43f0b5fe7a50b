"""fp32 in the fused kernels, if torch's switch for matrix products allows TF32."""

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("triton")

import jessl_kernels as jk
from jessl_kernels.triton import shapes
from tests import cases
from tests.oracles import contrastive as oracle
from tests.yardstick import evaluate

on_triton = pytest.mark.parametrize("backend", ["triton"])
LOSSES = {
    "info_nce": (lambda x, y: jk.info_nce(x, y, normalize=False), lambda x, y: oracle.info_nce(x, y, normalize=False)),
    "clip_loss": (lambda x, y: jk.clip_loss(x, y, 10.0), lambda x, y: oracle.clip_loss(x, y, 10.0)),
    "nt_xent": (
        lambda x, y: jk.nt_xent(x, y, temperature=0.1, normalize=False),
        lambda x, y: oracle.nt_xent(x, y, temperature=0.1, normalize=False),
    ),
}


def pairs(d: int) -> dict[str, torch.Tensor]:
    """Numbers of 8 bits, which TF32 holds exactly; a product of two is exact in fp32."""
    generator = torch.Generator().manual_seed(d)
    made = (torch.randn(70, d, generator=generator, dtype=torch.float64) for _ in range(2))
    return {name: F.normalize(z, dim=1).bfloat16().float() for name, z in zip("xy", made, strict=True)}


def of_largest(a: torch.Tensor, truth: torch.Tensor) -> float:
    return float((a.double() - truth.double()).abs().max() / truth.double().abs().max())


@on_triton
@pytest.mark.parametrize("d", [5, 64, 100])
@pytest.mark.parametrize("loss", LOSSES)
def test_scores_of_short_numbers_are_exact_and_weights_have_eleven_bits(backend, tf32_allowed, loss, d):
    ours, truth = LOSSES[loss]
    inputs = pairs(d)
    with jk.use_backend(backend):
        found = evaluate(ours, inputs, ["x", "y"], seed=0)
    exact = evaluate(lambda x, y: truth(x, y).mean(), {k: v.double() for k, v in inputs.items()}, ["x", "y"], seed=0)
    for a, t in zip(found.values, exact.values, strict=True):
        assert of_largest(a, t) < 1e-6
    for name, a in found.gradients.items():
        assert of_largest(a, exact.gradients[name]) < 2.0**-10


@on_triton
def test_the_switch_decides(backend, tf32_allowed):
    x, y = pairs(64).values()
    with jk.use_backend(backend):
        assert "fused" in cases.planned(x, y).path
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        assert "strips" in cases.planned(x, y).path


@on_triton
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_do_not_mind_it(backend, tf32_allowed, dtype):
    assert not shapes.tf32(dtype)
