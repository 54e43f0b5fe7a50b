"""Inputs on which published GPU kernels for these losses were seen to fail, on every backend."""

import math

import pytest
import torch
import torch.nn.functional as F

import jessl_kernels as jk
from tests import cases, data
from tests.oracles import contrastive as oracle
from tests.yardstick import judge

precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])


def unit_pairs(n, d, dtype=torch.float32):
    x, y = data.pairs("random", n, d, seed=0)
    return F.normalize(x, dim=1).to(dtype), F.normalize(y, dim=1).to(dtype)


@cases.backends
@precisions
def test_random_unit_vectors_at_temperature_0_005(backend, dtype):
    """A kernel that uses 1/τ as the maximum returns −inf here."""
    x, y = unit_pairs(65, 64, dtype)
    inputs = {"image": x, "text": y, "logit_scale": torch.tensor(200.0)}
    with jk.use_backend(backend):
        judge("τ = 0.005", jk.clip_loss, lambda **k: oracle.clip_loss(**k).mean(), inputs, seed=0)


@cases.backends
@precisions
def test_opposite_vectors_at_scale_100(backend, dtype):
    """All cosines are −1, so every exponential measured from e^{scale} underflows."""
    x = F.normalize(torch.ones(4, 16), dim=1).to(dtype).requires_grad_()
    with jk.use_backend(backend):
        loss = jk.clip_loss(x, -x.detach(), 100.0)
    assert loss.item() == pytest.approx(math.log(4), abs=7.7e-6)  # an ulp of 100
    (gradient,) = torch.autograd.grad(loss, x)
    assert gradient.isfinite().all()


@cases.backends
@pytest.mark.parametrize("d", [48, 100, 5])
def test_dimensions_that_are_no_power_of_2(backend, d):
    """A kernel that strides by the next power of 2 returns NaN."""
    x, y = unit_pairs(33, d, torch.bfloat16)
    inputs = {"image": x, "text": y, "logit_scale": torch.tensor(10.0)}
    with jk.use_backend(backend):
        judge(f"D = {d}", jk.clip_loss, lambda **k: oracle.clip_loss(**k).mean(), inputs, seed=0)


@cases.backends
@precisions
def test_the_temperature_is_learnt_without_a_process_group(backend, dtype):
    x, y = unit_pairs(20, 32, dtype)
    inputs = {"query": x, "positive": y, "temperature": torch.tensor(0.1)}
    with jk.use_backend(backend):
        judge("learnable temperature", jk.info_nce, lambda **k: oracle.info_nce(**k).mean(), inputs, seed=0)


@cases.backends
def test_the_loss_of_bf16_embeddings_comes_in_fp32(backend):
    x, y = unit_pairs(96, 32, torch.bfloat16)
    with jk.use_backend(backend):
        loss = jk.siglip_loss(x, y, 10.0, -10.0)
        inputs = {"image": x, "text": y, "logit_scale": torch.tensor(10.0), "logit_bias": torch.tensor(-10.0)}
        judge("a loss in fp32", jk.siglip_loss, lambda **k: oracle.siglip_loss(**k).mean(), inputs, seed=0)
    assert loss.dtype == torch.float32
    assert loss.item() != loss.bfloat16().item()  # bf16 could not hold the loss


@cases.backends
@pytest.mark.parametrize("n", [8, 96])
@precisions
def test_the_gradient_is_that_of_the_loss_and_not_rescaled_by_the_batch(backend, dtype, n):
    x, y = unit_pairs(n, 32, dtype)
    x.requires_grad_()
    with jk.use_backend(backend):
        ours = torch.autograd.grad(jk.clip_loss(x, y, 14.0), x)[0]
    wide = x.detach().double().requires_grad_()
    s, own = 14.0 * wide @ y.double().T, torch.arange(n)
    theirs = torch.autograd.grad(0.5 * (F.cross_entropy(s, own) + F.cross_entropy(s.T, own)), wide)[0]
    assert float(ours.double().norm() / theirs.norm()) == pytest.approx(
        1.0, rel=1e-5 if dtype == torch.float32 else 1e-3
    )


@cases.backends
def test_weights_of_a_large_batch_in_fp16_do_not_vanish(backend):
    """Weights 1/N² of a uniform batch are below the smallest number of fp16 from N = 4096 on; half as many rows suffice here."""
    x, y = unit_pairs(600, 16, torch.float16)
    x.requires_grad_()
    with jk.use_backend(backend):
        loss = jk.info_nce(x, y, temperature=1.0, normalize=False) * 2**10  # as a GradScaler does
        ours = torch.autograd.grad(loss, x)[0].double()
    wide = x.detach().double().requires_grad_()
    truth = torch.autograd.grad(F.cross_entropy(wide @ y.double().T, torch.arange(600)) * 2**10, wide)[0]
    assert float((ours - truth).norm() / truth.norm()) < 2e-3
