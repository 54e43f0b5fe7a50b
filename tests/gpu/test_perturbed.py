"""The kernels hold the suite's bars on a GPU with worse arithmetic, and their bits do not depend on the order of programs."""

import contextlib

import numpy as np
import pytest
import torch

pytest.importorskip("triton")
pytest.importorskip("ttsem")

import jessl_kernels as jk
from tests import cases, perturbed
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


@on_triton
@problems
def test_the_order_of_programs_changes_no_bit(backend, problem):
    ours, _, inputs = both_ways(problem)
    found = []
    for order in (contextlib.nullcontext, perturbed.shuffled):
        with order(), jk.use_backend(backend, workspace=cases.SMALL_WORKSPACE):
            result = evaluate(ours, inputs, list(inputs), seed=0)
        found.append([*result.values, *result.gradients.values()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@on_triton
@pytest.mark.parametrize("worse", WORSE.values(), ids=WORSE)
def test_each_of_them_changes_something(backend, worse):
    """Else the tests above would say nothing."""
    from ttsem import ops

    before, chain = dict(ops.OPS), ops._fma_chain
    with worse():
        assert before != ops.OPS or ops._fma_chain is not chain
    assert before == ops.OPS and ops._fma_chain is chain


def test_a_sum_that_is_cut_off_is_not_above_the_exact_one():
    from ttsem import ops

    a = np.random.default_rng(0).random((3, 64)).astype(np.float32)
    zero = np.zeros((3, 3), np.float32)
    with perturbed.truncated():
        found = ops._fma_chain(a, a.T.copy(), zero, np.float32)
    exact = a.astype(np.float64) @ a.T.astype(np.float64)
    assert (found <= exact).all() and (found > exact * (1 - 64 * 2.0**-23)).all()
