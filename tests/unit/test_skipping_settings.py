"""skip_below: the same bits at every number of threads, settings that a backward takes from its forward, errors that name it."""

import math

import pytest
import torch

import jessl_kernels as jk
from jessl_kernels.native import native_status
from tests import cases
from tests.skipping import answers, clusters

if not native_status().available:
    pytest.skip(native_status().reason, allow_module_level=True)
pytestmark = pytest.mark.usefixtures("cpu_backend")

N = 1500  # eight tiles along a row


RUNS = {
    "kde": lambda x, y: jk.kde_entropy(torch.cat([x, y]), bandwidth=0.3),
    "density": lambda x, y: jk.kde_log_density(x, y, bandwidth=0.3),
    "clip": lambda x, y: jk.clip_loss(x, y, 100.0, normalize=True),
    "info_nce": lambda x, y: jk.info_nce(x, y, temperature=0.01),
}


@pytest.mark.parametrize("loss", RUNS)
@pytest.mark.parametrize("D", [2, 32])
def test_bits_are_the_same_at_every_number_of_threads(loss, D):
    x, y = clusters(N, D, seed=0, dtype=torch.float32), clusters(N, D, seed=1, dtype=torch.float32)
    torch.set_num_threads(1)
    first = answers(RUNS[loss], x, y, epsilon=1e-4)
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        again = answers(RUNS[loss], x, y, epsilon=1e-4)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True)), f"{threads} threads"


@pytest.mark.parametrize("loss", RUNS)
def test_zero_gives_the_bits_of_the_default(loss):
    x, y = clusters(N, 2, seed=0, dtype=torch.float32), clusters(N, 2, seed=1, dtype=torch.float32)
    off = answers(RUNS[loss], x, y, epsilon=0.0)
    leaves = x.requires_grad_(), y.requires_grad_()
    value = RUNS[loss](*leaves)
    assert all(torch.equal(a, b) for a, b in zip(off, [value, *torch.autograd.grad(value.sum(), leaves)], strict=True))


def test_permuted_points_have_permuted_gradients():
    z = clusters(N, 2, seed=0)
    moved = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    (_, g), (_, h) = (answers(lambda x: jk.kde_entropy(x, bandwidth=0.3), b, epsilon=1e-9) for b in (z, z[moved]))
    assert float((g[moved] - h).norm() / g.norm()) < 1e-8


def test_single_precision_rounds_as_it_does_without_skipping():
    z = clusters(N, 16, seed=0, dtype=torch.float32)
    f = lambda x: jk.kde_entropy(x, bandwidth=1.0)  # noqa: E731
    truth, plain, ours = (answers(f, b, epsilon=e) for b, e in ((z.double(), 0.0), (z, 0.0), (z, 1e-7)))
    for t, p, o in zip(truth, plain, ours, strict=True):
        few = 4 * torch.finfo(torch.float32).eps * float(t.norm())
        assert float((o - t).norm()) <= 2 * float((p - t).norm()) + few


def test_a_backward_after_the_block_skips_as_its_forward_did(core):
    z = clusters(N, 2, seed=0, spread=100.0).requires_grad_()
    with jk.use_backend(skip_below=1e-4):
        rows = jk.pairwise_logsumexp(z, kind="sqdist", scale=5.0, exclude="diagonal")
    rows.sum().backward()
    assert core.tiles[1] < 36


def test_compiled_code_skips_too(core):
    z = clusters(N, 2, seed=0, spread=100.0)
    f = torch.compile(lambda x: jk.kde_entropy(x, bandwidth=0.3), backend="eager", fullgraph=True)
    with jk.use_backend(skip_below=1e-4):
        eager, compiled = jk.kde_entropy(z, bandwidth=0.3), f(z)
    assert torch.equal(eager, compiled) and core.tiles[1] < 36
    with jk.use_backend(skip_below=0.0):
        f(z)
    assert core.tiles[1] == 36


def test_blocks_inherit_what_they_do_not_set():
    x = torch.zeros(2, 1)
    with jk.use_backend("cpu", skip_below=1e-3):
        with jk.use_backend(workspace=1 << 20):
            assert "0.001" in cases.planned(x).skipping
            with jk.use_backend(skip_below=0):
                assert cases.planned(x).skipping == ""
        assert "0.001" in cases.planned(x).skipping
    assert cases.planned(x).skipping == ""


def test_explain_says_who_skips_and_how():
    x = torch.zeros(N, 1)
    with jk.use_backend(skip_below=1e-3):
        assert "points put in order" in str(cases.planned(x))
        assert "stay in their order" in cases.planned(x[:9]).skipping
        assert cases.planned(x, psi="softplus").skipping.startswith("none")
        with jk.use_backend("chunked"):
            assert cases.planned(x).skipping == "this backend computes every pair"
    assert cases.planned(x, kind="sqdist", phi="tophat").skipping == "columns beyond the support, exactly"


@pytest.mark.parametrize(
    ("epsilon", "error", "message"),
    [
        (-1e-9, ValueError, "use_backend: skip_below is -1e-09, must be >= 0 and < 1"),
        (1, ValueError, "use_backend: skip_below is 1.0, must be >= 0 and < 1"),
        (math.nan, ValueError, "use_backend: skip_below is nan, must be a number"),
        ("1e-6", TypeError, "use_backend: skip_below is a str, '1e-6', must be a number"),
        (True, TypeError, "use_backend: skip_below is a bool, True, must be a number"),
    ],
)
def test_bad_shares_are_refused(epsilon, error, message):
    with pytest.raises(error, match=message.replace("(", r"\(")), jk.use_backend(skip_below=epsilon):
        pass
