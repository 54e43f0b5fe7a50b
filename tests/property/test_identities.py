"""Identities that hold for every shape and value, which hypothesis draws; they need no oracle."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jessl_kernels as jk
from tests import cases

settings.register_profile(
    "jessl", max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("jessl")

sizes = st.integers(1, 40)
widths = st.integers(1, 9)
seeds = st.integers(0, 2**16)
kinds = st.sampled_from(["dot", "sqdist"])
scales = st.floats(0.0, 30.0)
backend = pytest.mark.parametrize("backend", cases.BACKENDS)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(ours: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


@backend
@given(sizes, sizes, widths, seeds, kinds, scales)
def test_swapping_x_and_y_swaps_rows_and_columns(backend, N, M, D, seed, kind, scale):
    x, y = normal(seed, N, D), normal(seed + 1, M, D)
    with jk.use_backend(backend, workspace=2000):
        row, col = jk.pairwise_logsumexp(x, y, kind=kind, scale=scale, dim="both")
        col_swapped, row_swapped = jk.pairwise_logsumexp(y, x, kind=kind, scale=scale, dim="both")
        close(jk.pairwise_logsumexp(x, y, kind=kind, scale=scale, dim="col"), col)
    close(row_swapped, row)
    close(col_swapped, col)


@backend
@given(sizes, sizes, widths, seeds, kinds, scales, st.floats(-50, 50))
def test_a_bias_added_to_a_row_is_added_to_its_lse(backend, N, M, D, seed, kind, scale, t):
    x, y = normal(seed, N, D), normal(seed + 1, M, D)
    with jk.use_backend(backend, workspace=2000):
        row = jk.pairwise_logsumexp(x, y, kind=kind, scale=scale)
        shifted = jk.pairwise_logsumexp(x, y, kind=kind, scale=scale, row_bias=torch.full((N,), t, dtype=torch.float64))
    close(shifted, row + t)


@backend
@given(sizes, st.integers(2, 40), widths, seeds, kinds, scales, st.data())
def test_halves_of_the_columns_log_add_to_the_whole(backend, N, M, D, seed, kind, scale, drawn):
    x, y = normal(seed, N, D), normal(seed + 1, M, D)
    cut = drawn.draw(st.integers(1, M - 1))
    with jk.use_backend(backend, workspace=2000):
        whole = jk.pairwise_logsumexp(x, y, kind=kind, scale=scale)
        halves = [jk.pairwise_logsumexp(x, part, kind=kind, scale=scale) for part in (y[:cut], y[cut:])]
    close(torch.logaddexp(*halves), whole)


@backend
@given(sizes, sizes, widths, seeds, kinds, scales)
def test_permuted_rows_permute_values_and_gradients(backend, N, M, D, seed, kind, scale):
    x, y = normal(seed, N, D), normal(seed + 1, M, D)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(seed))
    results = []
    with jk.use_backend(backend, workspace=2000):
        for rows in (x, x[order]):
            leaf = rows.clone().requires_grad_()
            value = jk.pairwise_logsumexp(leaf, y, kind=kind, scale=scale)
            results.append((value.detach(), torch.autograd.grad(value.sum(), leaf)[0]))
    close(results[1][0], results[0][0][order])
    close(results[1][1], results[0][1][order])


@backend
@given(sizes, widths, seeds, kinds, scales, st.integers(0, 5))
def test_an_id_mask_and_the_same_mask_by_biases_agree(backend, N, D, seed, kind, scale, classes):
    """A column whose id matches no row's under `different` is a column of bias −inf."""
    x = normal(seed, N, D)
    ids = torch.randint(-1, classes + 1, (N,), generator=torch.Generator().manual_seed(seed))
    by_ids = jk.Exclude(different=(torch.zeros(N, dtype=torch.int64), ids))
    bias = torch.zeros(N, dtype=torch.float64).masked_fill(ids != 0, -torch.inf)
    with jk.use_backend(backend, workspace=2000):
        masked = jk.pairwise_logsumexp(x, kind=kind, scale=scale, exclude=by_ids)
        biased = jk.pairwise_logsumexp(x, kind=kind, scale=scale, col_bias=bias)
    close(masked, biased)


@backend
@given(st.integers(1, 25), widths, seeds, st.floats(0.02, 5.0))
def test_losses_stay_below_what_equal_scores_give_plus_their_spread(backend, N, D, seed, temperature):
    """0 ≤ InfoNCE ≤ log N + 2/τ for unit vectors, and clip_loss is its symmetric form."""
    x, y = normal(seed, N, D), normal(seed + 1, N, D)
    with jk.use_backend(backend, workspace=2000):
        loss = jk.info_nce(x, y, temperature=temperature)
        symmetric = jk.info_nce(x, y, temperature=temperature, symmetric=True)
        clip = jk.clip_loss(x, y, 1 / temperature, normalize=True)
    assert 0 <= float(loss) <= math.log(N) + 2 / temperature + 1e-9
    close(clip, symmetric)


@backend
@given(st.integers(2, 30), st.integers(1, 6), seeds, st.floats(0.05, 3.0), st.floats(0.1, 10.0))
def test_scaling_data_and_bandwidth_adds_d_log_scale_to_the_entropy(backend, N, D, seed, bandwidth, factor):
    z = normal(seed, N, D)
    with jk.use_backend(backend, workspace=2000):
        entropy = jk.kde_entropy(z, bandwidth=bandwidth)
        scaled = jk.kde_entropy(z * factor, bandwidth=bandwidth * factor)
    torch.testing.assert_close(scaled, entropy + D * math.log(factor), rtol=1e-9, atol=1e-8)
