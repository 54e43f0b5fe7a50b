"""The kernels hold the suite's bars on a GPU with worse arithmetic, and their bits do not depend on the order of programs."""

import contextlib

import numpy as np
import pytest
import torch

pytest.importorskip("triton")
pytest.importorskip("ttsem")

import triton
import triton.language as tl

import jessl_kernels as jk
from tests import cases, data, perturbed
from tests.unit import test_losses as losses
from tests.unit import test_reductions as suite
from tests.yardstick import evaluate

on_triton = pytest.mark.parametrize("backend", ["triton"])
WORSE = {"last bits": perturbed.last_bits, "flushed": perturbed.flushed, "truncated": perturbed.truncated}
# name: (score, dtype, what, dim, exclusion, shape)
PROBLEMS = {
    "fused bf16": ("dot", torch.bfloat16, "lse", "row", "diagonal", (33, 40, 24)),
    "fused fp16": ("dot-clamp", torch.float16, "lse", "both", "same", (33, 40, 24)),
    "fused bf16, both": ("dot", torch.bfloat16, "lse", "both", "nothing", (33, 40, 24)),
    "near fp32": ("sqdist", torch.float32, "lse", "both", "different", (21, 18, 5)),
    "near laplace": ("laplace", torch.float32, "sum", "row", "same", (21, 18, 5)),
    "strip fp32": ("dot", torch.float32, "lse", "both", "views", (21, 18, 5)),
    "strip softplus": ("dot-clamp", torch.float32, "sum", "both", "same", (21, 18, 5)),
    "expanded fp32": ("sqdist", torch.float32, "lse", "row", "diagonal", (21, 18, 24)),
}
problems = pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS)


def both_ways(problem):
    score, dtype, what, dim, exclusion, shape = problem
    kind, phi, oracle_phi = suite.SCORES[score]
    options = {"dim": dim, "reduction": "none", "exclude": suite.EXCLUSIONS[exclusion](*shape[:2])}
    ours, truth = (suite.lse_of, suite.lse_oracle) if what == "lse" else (suite.sum_of, suite.sum_oracle)
    return ours(kind, phi, **options), truth(kind, oracle_phi, **options), suite.given(shape, dtype, dim=dim)


@on_triton
@problems
@pytest.mark.parametrize("worse", WORSE.values(), ids=WORSE)
def test_worse_arithmetic_stays_within_the_yardstick(backend, problem, worse):
    ours, truth, inputs = both_ways(problem)
    with worse():
        suite.judge_on(backend, "worse arithmetic", ours, truth, inputs)


# name: (loss, dtype, dimensions, temperature): the ways that losses of known upstream go
LOSSES = {
    "attended": ("info_nce", torch.bfloat16, 24, 0.07),
    "attended at 0.005": ("info_nce", torch.float16, 24, 0.005),
    "both sides": ("clip_loss", torch.bfloat16, 24, 0.07),
    "half of the tiles": ("nt_xent", torch.float16, 24, 0.07),
    "blocks": ("info_nce", torch.bfloat16, 272, 0.07),
    "half of the blocks": ("dcl", torch.bfloat16, 272, 0.07),
    "blocks of ψ": ("siglip_loss", torch.bfloat16, 24, 0.1),
    "strip by strip": ("info_nce", torch.float32, 24, 0.07),
}


@on_triton
@pytest.mark.parametrize("case", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("worse", WORSE.values(), ids=WORSE)
def test_losses_within_worse_arithmetic_stay_within_the_yardstick(backend, case, worse):
    loss, dtype, D, temperature = case
    with worse():
        losses.judge_loss(backend, loss, *data.pairs("random", 33, D, seed=0, dtype=dtype), temperature)


@on_triton
@pytest.mark.parametrize("worse", WORSE.values(), ids=WORSE)
def test_converged_batches_within_worse_arithmetic(backend, worse):
    pair = data.converged(40, 24, temperature=0.07, loss=0.01, seed=0, dtype=torch.bfloat16)
    with worse():
        losses.judge_loss(backend, "info_nce", *pair, 0.07)


@on_triton
@problems
def test_the_order_of_programs_changes_no_bit(backend, problem):
    ours, _, inputs = both_ways(problem)
    found = []
    for order in (contextlib.nullcontext(), *map(perturbed.shuffled, range(3))):
        with order, jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
            result = evaluate(ours, inputs, list(inputs), seed=0)
        found.append([*result.values, *result.gradients.values()])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@triton.jit
def powers_and_products(source, powers, product, K: tl.constexpr):
    """e^x of 16 numbers, and what 16 rows of K numbers, which begin with those, have for products."""
    i, k = tl.arange(0, 16), tl.arange(0, K)
    tl.store(powers + i, tl.exp(tl.load(source + i)))
    rows = tl.load(source + i[:, None] * K + k[None, :])
    tl.store(product + i[:, None] * 16 + i[None, :], tl.dot(rows, tl.trans(rows), input_precision="ieee"))


@on_triton
@pytest.mark.parametrize("worse", WORSE.values(), ids=WORSE)
def test_each_of_them_changes_something_and_only_while_it_lasts(backend, worse):
    """Else the tests above would say nothing."""
    source = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    source[0, :16] = torch.linspace(-1, -100, 16)  # e^−100 is subnormal

    def bits() -> torch.Tensor:
        powers, product = torch.empty(16), torch.empty(16, 16)
        powers_and_products[(1,)](source, powers, product, K=64)
        return torch.cat([powers, product.flatten()])

    exact = bits()
    with worse():
        inside = bits()
    assert not torch.equal(exact, inside)
    torch.testing.assert_close(inside, exact, rtol=1e-5, atol=1e-5)
    assert torch.equal(exact, bits())


def test_a_sum_that_is_cut_off_is_not_above_the_exact_one():
    from ttsem import ops

    a = np.random.default_rng(0).random((3, 64)).astype(np.float32)
    zero = np.zeros((3, 3), np.float32)
    with perturbed.truncated():
        found = ops._fma_chain(a, a.T.copy(), zero, np.float32)
    exact = a.astype(np.float64) @ a.T.astype(np.float64)
    assert (found <= exact).all() and (found > exact * (1 - 64 * 2.0**-23)).all()
