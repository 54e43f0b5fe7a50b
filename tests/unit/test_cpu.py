"""Promises of the cpu backend beside its numbers: the same bits always, torch's thread count, levels that can be forced."""

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import jessl_kernels as jk
from jessl_kernels.backends import chunked, cpu
from jessl_kernels.native import native_status
from tests import cases, data
from tests.oracles import contrastive, density
from tests.oracles import reductions as oracle
from tests.yardstick import judge

if not native_status().available:
    pytest.skip(native_status().reason, allow_module_level=True)
pytestmark = pytest.mark.usefixtures("cpu_backend")

# Enough work for 8 threads, and 8 strips. Products never read rows of 24 dimensions in place, as they do rows of 32.
N, D = 700, 24
TASKS = Path("/proc/self/task")
LOSSES = {
    "nt_xent": lambda x, y: jk.nt_xent(x, y, temperature=0.1),
    "clip_loss": lambda x, y: jk.clip_loss(x, y, 10.0, normalize=True),
    "info_nce": lambda x, y: jk.info_nce(x, y, temperature=0.1),
    "kde_entropy": lambda x, y: jk.kde_entropy(torch.cat([x, y]), bandwidth=0.8),
    "kde_log_density": lambda x, y: jk.kde_log_density(x, y, bandwidth=0.8).mean(),
    "siglip_loss": lambda x, y: jk.siglip_loss(x, y, 10.0, -5.0, normalize=True),
    "siglip_loss-unit": lambda x, y: jk.siglip_loss(x, y, 2.0, -5.0),
    "dcl": lambda x, y: jk.dcl(x, y, temperature=0.1),
    "sup_con": lambda x, y: jk.sup_con(torch.cat([x, y]), torch.arange(2 * N) % 90, temperature=0.1),
    "uniformity": lambda x, y: jk.uniformity(torch.cat([x, y])),
}
losses = pytest.mark.parametrize("loss", LOSSES)


def answers(loss: str, d: int = D) -> list[torch.Tensor]:
    """The loss and its two gradients, of the same batch each time."""
    x, y = (t.requires_grad_() for t in data.pairs("clustered", N, d, seed=0))
    value = LOSSES[loss](x, y)
    return [value.detach(), *torch.autograd.grad(value, (x, y))]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(s, t) for s, t in zip(a, b, strict=True))


@losses
@pytest.mark.parametrize("d", [D, 32])
def test_bits_are_the_same_on_every_run_and_at_every_number_of_threads(loss, d):
    torch.set_num_threads(1)
    first = answers(loss, d)
    assert all(t.isfinite().all() for t in first)
    for threads in (1, 2, 3, 4):
        torch.set_num_threads(threads)
        assert same(answers(loss, d), first), f"{threads} threads"
        assert same(answers(loss, d), first), f"{threads} threads, again"


@losses
def test_bits_are_the_same_from_several_python_threads_at_once(loss):
    torch.set_num_threads(2)
    first = answers(loss)

    def repeated(_):
        with jk.use_backend("cpu"):  # a thread's own
            return [same(answers(loss), first) for _ in range(4)]

    with ThreadPoolExecutor(4) as pool:
        assert all(all(told) for told in pool.map(repeated, range(4)))


def run_times():
    """The nanoseconds that each thread of this process has run so far, by its number."""
    return {task.name: int((task / "schedstat").read_text().split()[0]) for task in TASKS.iterdir()}


@pytest.mark.skipif(not TASKS.exists(), reason="threads of a process are looked at in /proc")
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_call_runs_on_as_many_threads_as_torch_is_told(threads, monkeypatch):
    monkeypatch.setenv("JESSL_SIMD", "portable")  # slow enough to be looked at
    torch.set_num_threads(threads)
    x = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0))
    y = x.flip(0)
    time.sleep(0.05)  # until torch's own threads have come to rest
    before = run_times()
    jk.pairwise_logsumexp(x, y, scale=0.1)
    ran = {task: time - before.get(task, 0) for task, time in run_times().items()}
    assert sum(time > max(ran.values()) / 5 for time in ran.values()) == threads


def test_the_interpreter_is_free_while_the_core_computes(monkeypatch):
    monkeypatch.setenv("JESSL_SIMD", "portable")
    torch.set_num_threads(1)
    x = torch.randn(4000, 64, generator=torch.Generator().manual_seed(0))
    ticks, done = [], threading.Event()

    def tick():
        while not done.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    other = threading.Thread(target=tick)
    other.start()
    start = time.perf_counter()
    jk.pairwise_logsumexp(x, x.flip(0), scale=0.1)
    end = time.perf_counter()
    done.set()
    other.join()
    assert sum(start < at < end for at in ticks) > 5


# The yardstick's own batches: fp32 logits lose most on converged ones.
JUDGED = {
    "nt_xent": (jk.nt_xent, lambda **k: contrastive.nt_xent(**k).mean(), ("z1", "z2"), {"temperature": 0.07}),
    "clip_loss": (
        jk.clip_loss,
        lambda **k: contrastive.clip_loss(**k).mean(),
        ("image", "text"),
        {"logit_scale": 20.0},
    ),
    "siglip_loss": (
        jk.siglip_loss,
        lambda **k: contrastive.siglip_loss(**k).mean(),
        ("image", "text"),
        {"logit_scale": 10.0, "logit_bias": -10.0},
    ),
    "kde_log_density": (
        jk.kde_log_density,
        lambda query, data, **k: density.kde_log_density(query, data, **k),
        ("query", "data"),
        {"bandwidth": 0.7},
    ),
}


@cases.levels
@pytest.mark.usefixtures("at_level")
@pytest.mark.parametrize("loss", JUDGED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_every_level_is_within_the_yardstick(level, loss, dtype):
    assert level in cases.planned(torch.eye(4)).path
    ours, truth, names, options = JUDGED[loss]
    x, y = data.converged(67, 19, temperature=0.07, loss=0.1, seed=3, dtype=dtype)
    inputs = dict(zip(names, (x, y), strict=True))
    judge(f"{loss} at {level}", lambda **k: ours(**k, **options), lambda **k: truth(**k, **options), inputs, seed=0)


@cases.levels
@pytest.mark.usefixtures("at_level")
def test_every_level_agrees_with_the_reference_backend(level):
    x, y = data.pairs("clustered", 301, 40, seed=5, dtype=torch.float64)
    ids = torch.arange(301) % 7
    problems = [
        {"kind": "dot", "exclude": jk.Exclude(same=(ids, ids.flip(0)), keep=(0,)), "dim": "both", "reduction": "sum"},
        {"kind": "dot", "phi": jk.phi.clamp(-1.0, 1.0), "reduction": "sum"},
        {"kind": "sqdist", "scale": 0.3, "reduction": "logsumexp"},
        {"kind": "sqdist", "scale": 0.3, "phi": "laplace", "reduction": "mean", "exclude": "diagonal"},
    ]
    for problem in problems:
        results = []
        for backend in ("cpu", "reference"):
            a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
            with jk.use_backend(backend):
                value = jk.pairwise_logsumexp(a, b, **problem)
            results.append([value.detach(), *torch.autograd.grad(value, (a, b))])
        for ours, reference in zip(*results, strict=True):
            torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-12 * float(reference.abs().max()))


@pytest.mark.parametrize("wrong", ["sse9", "AVX2", "portable "])
def test_an_unknown_level_is_an_error_that_names_the_variable_and_the_levels(wrong, monkeypatch):
    monkeypatch.setenv("JESSL_SIMD", wrong)
    with pytest.raises(ValueError, match=f"JESSL_SIMD is '{wrong}', must be avx512, avx2, portable, or unset"):
        jk.pairwise_logsumexp(torch.eye(3))


def test_an_empty_level_is_none(monkeypatch):
    monkeypatch.setenv("JESSL_SIMD", "")
    assert torch.isfinite(jk.pairwise_logsumexp(torch.eye(3))).all()


def test_without_the_extension_the_reason_is_given_and_chunked_is_taken(monkeypatch):
    monkeypatch.setattr(cpu, "MISSING", "no C++ compiler found")
    monkeypatch.setattr(cpu, "_core", None)
    with pytest.raises(NotImplementedError, match=r"cpu: no C\+\+ compiler found"):
        jk.pairwise_logsumexp(torch.eye(3))
    # A new thread has no use_backend in force.
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: cases.planned(torch.eye(3)).backend).result() == chunked.NAME
        assert pool.submit(lambda: jk.pairwise_logsumexp(torch.eye(3)).isfinite().all()).result()


def test_tensors_of_other_devices_are_declined():
    with pytest.raises(NotImplementedError, match=r"^cpu, for which .* asks, cannot run .*: x is on meta$"):
        jk.pairwise_logsumexp(torch.empty(3, 3, device="meta"))
    with FakeTensorMode(), pytest.raises(NotImplementedError, match=r"^cpu, for which .*: x is on cuda:0$"):
        jk.pairwise_logsumexp(torch.empty(3, 3, device="cuda"))


@pytest.mark.parametrize("beyond", [2**31, 2**32, 2**40, 2**62], ids=hex)
def test_ids_beyond_32_bits_exclude_what_small_ones_do(beyond):
    generator = torch.Generator().manual_seed(1)
    x, y = data.pairs("random", 150, 5, seed=2)
    rows, cols = torch.randint(-2, 5, (2, 150), generator=generator)
    for name in ("same", "different"):

        def row_lse(shift, name=name):
            # Even ids move to numbers that are equal to odd ids in 32 bits.
            r, c = (torch.where((ids > 0) & (ids % 2 == 0), ids + shift, ids) for ids in (rows, cols))
            return jk.pairwise_logsumexp(x, y, exclude=jk.Exclude(**{name: (r, c)}))

        assert torch.equal(row_lse(beyond - 1), row_lse(100))  # 2 becomes one more than `beyond`, 1 in 32 bits


def test_ids_equal_in_their_low_32_bits_are_not_equal():
    rows, cols = torch.tensor([3, 3 + 2**32]), torch.tensor([3 + 2**32, 3])
    s = torch.eye(2)
    row = jk.pairwise_logsumexp(s, s.clone(), exclude=jk.Exclude(same=(rows, cols)))
    torch.testing.assert_close(row, torch.tensor([1.0, 1.0]))  # the diagonal is left of each row


def test_keys_that_begin_where_the_queries_do_may_be_larger():
    z = torch.randn(300, 64, generator=torch.Generator().manual_seed(0)) * 0.1
    z[100:] *= 1000  # scores of several hundred, while those of the queries among themselves are below 1
    truth = oracle.logsumexp(z[:100].double() @ z.double().T)
    torch.testing.assert_close(jk.pairwise_logsumexp(z[:100], z), truth.float())


def test_views_of_one_tensor_with_other_strides_are_other_keys():
    z = torch.randn(50, 128, generator=torch.Generator().manual_seed(0)) * 0.1
    z[:, 64:] *= 1000
    truth = oracle.logsumexp(z[:, :64].double() @ z[:, ::2].double().T)
    torch.testing.assert_close(jk.pairwise_logsumexp(z[:, :64], z[:, ::2]), truth.float())


def test_more_pairs_than_31_bits_can_count():
    n = 50_000  # 2.5e9 pairs
    x = torch.linspace(-2, 2, n)[:, None]
    y = (torch.arange(n) % 2).float()[:, None]  # keys 0 and 1, half of each
    x.requires_grad_()
    row = jk.pairwise_logsumexp(x, y)
    torch.testing.assert_close(row, math.log(n / 2) + torch.nn.functional.softplus(x[:, 0]), rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(row.sum(), x)
    torch.testing.assert_close(gradient, torch.sigmoid(x.detach()), rtol=1e-5, atol=0)


@pytest.mark.parametrize("threads", [1, 2])
def test_subnormal_numbers_are_as_before_after_a_call(threads):
    """They are flushed while weights are made (tests/native/test_drivers.cpp)."""
    torch.set_num_threads(threads)
    jk.kde_entropy(torch.randn(300, 2, requires_grad=True), bandwidth=0.05).backward()
    many = torch.full((100_000,), 1e-38)
    assert (many * 0.1 > 0).all()
