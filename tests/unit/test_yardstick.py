"""The comparer passes good results and fails bad ones; the batches have their promised properties."""

import math

import pytest
import torch

from tests import data
from tests.oracles import contrastive
from tests.yardstick import Verdict, check_rows, check_values, judge

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def mean_loss(query, positive, temperature):
    return contrastive.info_nce(query, positive, temperature=temperature).mean()


def inputs(dtype, seed=0):
    x, y = data.pairs("random", 33, 16, seed=seed, dtype=dtype)
    tau = torch.tensor(0.1, dtype=torch.float64 if dtype == torch.float64 else torch.float32)
    return {"query": x, "positive": y, "temperature": tau}


def as_if_ours(query, positive, temperature):
    """An honest implementation: unit rows rounded once, the rest in fp32 (fp64 for fp64)."""
    wide = torch.promote_types(query.dtype, torch.float32)
    x, y = (torch.nn.functional.normalize(t.to(wide), dim=1).to(query.dtype).to(wide) for t in (query, positive))
    s = x @ y.T / temperature
    return torch.nn.functional.cross_entropy(s, torch.arange(len(s)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_honest_implementation_passes(dtype, seed):
    judge("honest", as_if_ours, mean_loss, inputs(dtype, seed), seed=seed)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda loss, x, t: loss * (1 + 0.05 * (t / t.detach() - 1)), "gradient of temperature"),
        (lambda loss, x, t: loss * 1.05, "value 0"),
        (lambda loss, x, t: loss + 0.1 * loss.detach() * (x[7] - x[7].detach()).sum(), "gradient of query, row 7"),
    ],
    ids=["temperature", "value", "one row"],
)
def test_a_slip_is_found_and_named(dtype, spoil, what):
    def wrong(query, positive, temperature):
        return spoil(as_if_ours(query, positive, temperature), query, temperature)

    with pytest.raises(AssertionError, match=what):
        judge("spoilt", wrong, mean_loss, inputs(dtype), seed=0)


def test_lse_minus_positive_in_half_precision_fails_on_a_converged_batch():
    def naive(query, positive, temperature):
        x, y = (torch.nn.functional.normalize(t, dim=1) for t in (query, positive))
        s = x @ y.T / temperature
        return (torch.logsumexp(s, dim=1) - s.diagonal()).mean()

    x, y = data.converged(64, 128, temperature=0.05, loss=0.01, seed=0, dtype=torch.bfloat16)
    with pytest.raises(AssertionError, match="value 0"):
        judge("naive", naive, mean_loss, {"query": x, "positive": y, "temperature": 0.05}, seed=0)


def test_failure_names_case_seed_row_and_all_three_numbers():
    def wrong(**given):
        return 2 * as_if_ours(**given)

    with pytest.raises(AssertionError) as failure:
        judge("info_nce, N=33", wrong, mean_loss, inputs(torch.float32, seed=3), seed=3)
    for part in ("info_nce, N=33", "seed 3", "torch.float32", "row ", "ours", "matrix", "truth", "ratio"):
        assert part in str(failure.value)


@pytest.mark.parametrize(
    ("ours", "truth", "passes"),
    [
        (math.nan, math.nan, True),
        (math.inf, math.inf, True),
        (-math.inf, -math.inf, True),
        (math.inf, -math.inf, False),
        (math.nan, 1.0, False),
        (1.0, math.nan, False),
        (-math.inf, 1.0, False),
        (math.inf, 1e300, True),  # infinity is the nearest fp32 number
    ],
)
def test_special_values_must_meet_their_like(ours, truth, passes):
    a, t = (torch.tensor([[1.0, v]], dtype=torch.float64) for v in (ours, truth))
    for check in (check_values, check_rows):
        verdict = Verdict("special")
        check(verdict, "value", a.float(), [t], t)
        assert (not verdict.failures) == passes


def test_a_matrix_form_that_is_not_finite_excuses_nothing():
    truth, matrix = torch.ones(4, 2, dtype=torch.float64), torch.full((4, 2), math.nan)
    for check in (check_values, check_rows):
        verdict = Verdict("overflow")
        check(verdict, "value", 1.1 * truth.float(), [matrix], truth)
        assert verdict.failures


def test_one_ruined_row_does_not_hide_in_the_median():
    truth = torch.ones(101, 8, dtype=torch.float64)
    ours = truth.clone().float()
    ours[50] += 0.01
    verdict = Verdict("ruined")
    check_rows(verdict, "gradient", ours, [truth], truth)
    assert len(verdict.failures) == 1
    assert "gradient, row 50" in verdict.failures[0]


@pytest.mark.parametrize("loss", [0.2, 0.01, 1e-4])
@pytest.mark.parametrize("temperature", [0.07, 0.03, 0.01])
def test_converged_batch_has_the_loss_it_was_asked_for(loss, temperature):
    x, y = data.converged(48, 128, temperature=temperature, loss=loss, seed=1, dtype=torch.float64)
    assert float(contrastive.info_nce(x, y, temperature=temperature).mean()) == pytest.approx(loss, rel=1e-3)


def test_unreachable_loss_is_refused():
    with pytest.raises(ValueError, match="at least"):
        data.converged(48, 128, temperature=0.5, loss=1e-4, seed=1)


@pytest.mark.parametrize("kind", data.KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_batches_are_finite_and_of_the_dtype(kind, dtype):
    for t in data.pairs(kind, 9, 4, seed=0, dtype=dtype):
        assert t.shape == (9, 4)
        assert t.dtype == dtype
        assert bool(t.isfinite().all())


@pytest.mark.parametrize("layout", data.LAYOUTS)
def test_layouts_keep_the_numbers_and_are_not_as_a_kernel_would_like_them(layout):
    t = data.normals(5, 3, seed=0)
    moved = data.LAYOUTS[layout](t)
    assert torch.equal(moved, t)
    assert not moved.is_contiguous() or moved.data_ptr() % 16
