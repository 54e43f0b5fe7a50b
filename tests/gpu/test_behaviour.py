"""What a training loop asks of a loss on a GPU beside its value: the same bits twice, graphs, streams, threads, compilers."""

import math
from collections.abc import Callable

import pytest

pytest.importorskip("triton")

import torch
import torch.nn.functional as F
from torch import Tensor

import jessl_kernels as jk
from jessl_kernels.literals import BackendName
from tests import executor
from tests.gpu import device

on_gpu = pytest.mark.parametrize("backend", ["triton", "cuda"])
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
SIZE = (3000, 128) if executor.REAL else (24, 16)  # no multiple of a tile; few enough for the executor
WIDE = (1000, 512) if executor.REAL else (24, 272)  # dimensions beyond the fused kernels: strips
# Elements of a tensor whose last row lies beyond 32-bit offsets, and the memory that the test needs: bf16, with a copy.
MANY, MANY_BYTES = 2**31 + 2**20, 10 << 30

Loss = Callable[..., Tensor]
LOSSES: dict[str, Loss] = {
    "info_nce": lambda x, y: jk.info_nce(x, y, temperature=0.1),
    "clip_loss": lambda x, y: jk.clip_loss(x, y, 10.0),
    "nt_xent": lambda x, y: jk.nt_xent(x, y, temperature=0.1),
    "siglip_loss": lambda x, y: jk.siglip_loss(x, y, 10.0, -10.0),
    "kde_entropy": lambda x, y: jk.kde_entropy(x, bandwidth=1.0),
    "sup_con": lambda x, y: jk.sup_con(torch.cat([x, y]), torch.arange(2 * len(x)) % (len(x) // 4), temperature=0.1),
}


def by_rows(x: Tensor, y: Tensor) -> Tensor:
    """Upstream gradients are not known in the forward pass, so the backward launches kernels."""
    return jk.pairwise_logsumexp(x, y, scale=10.0).square().sum()


def batches(dtype: str, size: tuple[int, int] = SIZE) -> list[Tensor]:
    x, noise = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    return [F.normalize(t, dim=1).to(DTYPES[dtype]) for t in (x, x + noise)]


def evaluate(backend: BackendName, loss: Loss, given: list[Tensor]) -> list[Tensor]:
    """The value, and the gradient by each batch."""
    leaves = [t.detach().requires_grad_() for t in given]
    with jk.use_backend(backend):
        value = loss(*leaves)
        gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    return [value.detach(), *gradients]


def assert_same_bits(first: list[Tensor], then: list[Tensor]) -> None:
    for a, b in zip(first, then, strict=True):
        assert bool(a.isfinite().all())
        assert torch.equal(a, b), f"{int((a != b).sum())} of {a.numel()} numbers differ"


def assert_close(found: list[Tensor], expected: list[Tensor], most: float) -> None:
    for a, b in zip(found, expected, strict=True):
        assert float((a.double() - b.double()).norm()) < most * max(float(b.double().norm()), 1e-30)


@on_gpu
@pytest.mark.parametrize("size", [SIZE, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", LOSSES)
def test_the_same_bits_twice(backend, loss, dtype, size):
    given = batches(dtype, size)
    first = evaluate(backend, LOSSES[loss], given)
    for _ in range(3 if executor.REAL else 1):
        assert_same_bits(first, evaluate(backend, LOSSES[loss], given))


@on_gpu
@pytest.mark.parametrize("loss", ["nt_xent", "clip_loss"])
def test_the_host_does_not_wait_for_the_device(backend, loss):
    given = batches("bf16")
    evaluate(backend, LOSSES[loss], given)
    with device.without_waiting():
        found = evaluate(backend, LOSSES[loss], given)
    assert math.isfinite(float(found[0]))


@on_gpu
@pytest.mark.parametrize(("loss", "dtype"), [("nt_xent", "bf16"), ("clip_loss", "bf16"), ("siglip_loss", "fp32")])
def test_a_graph_replayed_on_other_numbers_computes_theirs(backend, loss, dtype):
    given = batches(dtype)
    outputs, replay = device.captured(lambda: evaluate(backend, LOSSES[loss], given))
    for t in given:
        t.copy_(t.flip(0) * 0.5)
    expected = evaluate(backend, LOSSES[loss], given)
    for _ in range(2):
        for t in outputs:
            t.fill_(torch.nan)
        replay()
        device.wait()
        if dtype == "bf16":
            assert_same_bits(outputs, expected)
        else:  # strips call the library's products, which may choose another algorithm during a capture
            assert_close(outputs, expected, 1e-5)


@on_gpu
@pytest.mark.skipif(not executor.REAL, reason="Dynamo does not trace through the modes by which the executor pretends")
@pytest.mark.parametrize("loss", ["nt_xent", "clip_loss"])
def test_compiled_code_computes_the_same_numbers(backend, loss):
    given = batches("bf16")
    compiled = torch.compile(LOSSES[loss], fullgraph=True)
    # Another order of operations around the kernels: not the same bits.
    assert_close(evaluate(backend, compiled, given), evaluate(backend, LOSSES[loss], given), 1e-2)


@on_gpu
@pytest.mark.parametrize("loss", [LOSSES["clip_loss"], by_rows], ids=["clip_loss", "by_rows"])
def test_forward_and_backward_follow_the_current_stream(backend, loss):
    """Autograd runs the backward in a thread of its own."""
    given = batches("bf16")
    expected = evaluate(backend, loss, given)
    with device.another_stream():
        device.delay()
        # Not yet made when the default stream would read it, if a kernel were launched there.
        found = evaluate(backend, loss, [t + 0 for t in given])
    device.wait()
    assert_same_bits(found, expected)


@on_gpu
def test_a_backward_in_another_thread_has_the_same_bits(backend):
    given = batches("bf16")
    expected = evaluate(backend, by_rows, given)
    leaves = [t.detach().requires_grad_() for t in given]
    with jk.use_backend(backend):
        value = by_rows(*leaves)
    device.in_a_thread(value.backward)
    assert_same_bits([value.detach(), *(t.grad for t in leaves if t.grad is not None)], expected)


@on_gpu
def test_a_loss_under_autocast_is_that_of_bf16_embeddings(backend):
    given = batches("fp32")
    with torch.autocast(given[0].device.type, torch.bfloat16):
        found = evaluate(backend, LOSSES["clip_loss"], given)
    expected = evaluate(backend, LOSSES["clip_loss"], [t.bfloat16() for t in given])
    assert found[0].dtype == torch.float32
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-5)


@on_gpu
def test_the_gradient_of_a_temperature_arrives_on_its_device(backend):
    x, y = batches("bf16")
    temperature = torch.tensor(0.1).requires_grad_()
    with jk.use_backend(backend):
        jk.info_nce(x, y, temperature=temperature).backward()
    found = temperature.grad
    assert found is not None and found.device == temperature.device
    assert bool(found.isfinite()) and float(found) != 0


@on_gpu
def test_the_last_key_of_a_tensor_beyond_32_bit_offsets_counts(backend):
    D = 128
    M = MANY // D if executor.REAL else 512
    if executor.REAL and torch.cuda.mem_get_info()[0] < MANY_BYTES:
        pytest.skip(f"less than {MANY_BYTES >> 30} GiB are free")
    x = torch.full((2, D), 1 / D).bfloat16().requires_grad_()
    y = torch.zeros(M, D, dtype=torch.bfloat16)
    y[-1] = 1.0  # the largest score of all, e^20 times the others
    with jk.use_backend(backend):
        row = jk.pairwise_logsumexp(x, y, scale=20.0)
        row.sum().backward()
    expected = math.log(math.exp(20.0) + M - 1)
    assert float(row[0].detach()) == pytest.approx(expected, rel=1e-4)
    assert x.grad is not None
    assert float(x.grad[0, 0]) == pytest.approx(
        20 * math.exp(20.0 - expected), rel=0.01
    )  # 20 times the weight of the key


@on_gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are not two GPUs")
def test_tensors_of_another_gpu_than_the_current_one_stay_there(backend):
    given = batches("bf16")
    found = evaluate(backend, by_rows, [t.to(torch.device("cuda", 1)) for t in given])
    assert all(t.device.index == 1 for t in found)
    if torch.cuda.get_device_name(0) == torch.cuda.get_device_name(1):
        assert_same_bits([t.to(given[0].device) for t in found], evaluate(backend, by_rows, given))
