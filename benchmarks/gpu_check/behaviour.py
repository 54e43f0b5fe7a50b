"""What a training loop asks of a loss on a GPU beside its value: the same bits twice, graphs, streams, threads, compilers."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import torch
from torch import Tensor

import jessl_kernels as jk

from ..problems import PROBLEMS, Problem, evaluate
from .device import Gpu
from .journal import NotRun, Step

LOSSES = ("info_nce", "clip_loss", "nt_xent", "siglip_loss", "kde_entropy", "sup_con")
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
SIZE, DRY_SIZE = (3000, 128), (24, 16)  # no multiple of a tile; few enough for the executor
WIDE, DRY_WIDE = (1000, 512), (24, 272)  # dimensions beyond the fused kernels: strips
# Elements of a tensor whose last row lies beyond 32-bit offsets, and what the test needs of them: bf16, with a copy.
MANY, MANY_BYTES = 2**31 + 2**20, 10 << 30

Answer = tuple[Tensor, list[Tensor]]


def _by_rows(x: Tensor, y: Tensor) -> Tensor:
    return jk.pairwise_logsumexp(x, y, scale=10.0).square().sum()


# Upstream gradients are not known in the forward pass, so that the backward launches kernels.
BY_ROWS = Problem(_by_rows, _by_rows, PROBLEMS["clip_loss"].batches, 4)


def steps(device: Gpu) -> list[Step]:
    """Same bits first: the later steps compare bits."""
    made = []
    for name in LOSSES:
        for dtype in DTYPES:
            made.append(Step(f"same bits twice: {name}, {dtype}", partial(twice, device, name, dtype)))
    for name in ("nt_xent", "clip_loss"):
        made.append(Step(f"does not wait for the device: {name}", partial(never_waits, device, name)))
        made.append(Step(f"CUDA graph, replayed on other numbers: {name}", partial(graph, device, name)))
        made.append(Step(f"torch.compile(fullgraph=True): {name}", partial(compiled, device, name)))
    return [
        *made,
        Step("CUDA graph of strips: siglip_loss, fp32", partial(graph, device, "siglip_loss", "fp32", False)),
        Step("another stream", lambda: on_a_stream(device)),
        Step("backward in another thread", lambda: in_a_thread(device)),
        Step("autocast to bf16", lambda: autocast(device)),
        Step("a learnt temperature", lambda: learnt(device)),
        Step("tensors beyond 2³¹ elements", lambda: beyond_32_bits(device)),
        Step("second GPU, from the first", lambda: second(device)),
    ]


def batches(device: Gpu, name: str, dtype: str, wide: bool = False) -> list[Tensor]:
    size = (DRY_WIDE if wide else DRY_SIZE) if device.dry else WIDE if wide else SIZE
    return [device.put(t, DTYPES[dtype]) for t in PROBLEMS[name].batches(*size)]


def ours(problem: Problem, given: list[Tensor]) -> Answer:
    with jk.use_backend("triton"):
        return evaluate(problem, problem.ours, given)


def flat(answer: Answer) -> list[Tensor]:
    return [answer[0], *answer[1]]


def same(first: Answer, then: Answer, what: str) -> None:
    for place, (a, b) in enumerate(zip(flat(first), flat(then), strict=True)):
        assert bool(a.isfinite().all()), f"{what}: {'the value' if place == 0 else 'a gradient'} is not finite"
        different = int((a != b).sum())
        assert different == 0, f"{what}: {different} of {a.numel()} numbers differ, by {float((a - b).abs().max()):.3g}"


def close(found: Answer, expected: Answer, most: float) -> None:
    for a, b in zip(flat(found), flat(expected), strict=True):
        error = float((a.double() - b.double()).norm() / b.double().norm())
        assert error < most, f"off by {error:.3g} of its norm"


def twice(device: Gpu, name: str, dtype: str) -> dict[str, Any]:
    for wide in (dtype == "fp32",) if device.dry else (False, True):
        given = batches(device, name, dtype, wide)
        first = ours(PROBLEMS[name], given)
        for _ in range(1 if device.dry else 3):
            same(first, ours(PROBLEMS[name], given), "in strips" if wide else "one run and another")
    return {}


def never_waits(device: Gpu, name: str) -> dict[str, Any]:
    given = batches(device, name, "bf16")
    ours(PROBLEMS[name], given)
    with device.without_waiting():
        ours(PROBLEMS[name], given)
    return {}


def graph(device: Gpu, name: str, dtype: str = "bf16", bits: bool = True) -> dict[str, Any]:
    """Captured on some numbers and replayed on others: the answer must be that of a call on the others.

    bits  False where the library's products take part, which may choose another algorithm during a capture
    """
    given = batches(device, name, dtype)
    outputs, replay = device.captured(lambda: flat(ours(PROBLEMS[name], given)))
    for t in given:
        t.copy_(t.flip(0) * 0.5)
    expected = ours(PROBLEMS[name], given)
    for _ in range(2):
        for t in outputs:
            t.fill_(torch.nan)
        replay()
        device.wait()
        found = outputs[0], outputs[1:]
        same(found, expected, "the graph and a call") if bits else close(found, expected, 1e-5)
    return {}


def compiled(device: Gpu, name: str) -> dict[str, Any]:
    """Another order of operations around the kernels: not the same bits, but the same numbers."""
    problem, given = PROBLEMS[name], batches(device, name, "bf16")
    expected = ours(problem, given)
    function: Any = torch.compile(problem.ours, fullgraph=True, backend=device.compiler())
    if device.dry:
        # Dynamo does not trace through the modes by which the executor pretends.
        function = problem.ours
    with jk.use_backend("triton"):
        found = evaluate(problem, function, given)
    close(found, expected, 1e-2)
    return {}


def on_a_stream(device: Gpu) -> dict[str, Any]:
    """Forward, and backward too, which autograd runs in a thread of its own."""
    given = batches(device, "clip_loss", "bf16")
    for problem in (PROBLEMS["clip_loss"], BY_ROWS):
        expected = ours(problem, given)
        with device.another_stream():
            # Not yet made when the default stream would read it, if a kernel were launched there.
            late = [torch.stack([t * 0 for _ in range(50)]).sum(dim=0) + t for t in given]
            found = ours(problem, late)
        device.wait()
        same(found, expected, "another stream and the default one")
    return {}


def in_a_thread(device: Gpu) -> dict[str, Any]:
    """A backward that launches kernels, called from a new thread: autograd runs it in a thread of its own for the device."""
    given = batches(device, "clip_loss", "bf16")
    expected = ours(BY_ROWS, given)
    leaves = [t.detach().requires_grad_() for t in given]
    with jk.use_backend("triton"):
        value = BY_ROWS.ours(*leaves)
    failed: list[BaseException] = []

    def pull() -> None:
        try:
            value.backward()
        except BaseException as error:
            failed.append(error)

    if device.dry:
        pull()  # another thread would not pretend
    else:
        thread = threading.Thread(target=pull)
        thread.start()
        thread.join()
    if failed:
        raise failed[0]
    gradients = [t.grad for t in leaves if t.grad is not None]
    same((value.detach(), gradients), expected, "a backward in a thread and one here")
    return {}


def autocast(device: Gpu) -> dict[str, Any]:
    """The loss of fp32 embeddings under autocast is that of the same in bf16."""
    given = batches(device, "clip_loss", "fp32")
    with torch.autocast("cuda", torch.bfloat16):
        found = ours(PROBLEMS["clip_loss"], given)
    expected = ours(PROBLEMS["clip_loss"], [t.bfloat16() for t in given])
    assert found[0].dtype == torch.float32
    assert abs(float(found[0] - expected[0])) < 1e-5 * abs(float(expected[0])), (
        f"{found[0]:.8g}, in bf16 {expected[0]:.8g}"
    )
    return {}


def learnt(device: Gpu) -> dict[str, Any]:
    """Its gradient arrives on the device, in its own dtype."""
    x, y = batches(device, "info_nce", "bf16")
    temperature = device.put(torch.tensor(0.1)).requires_grad_()
    with jk.use_backend("triton"):
        jk.info_nce(x, y, temperature=temperature).backward()
    found = temperature.grad
    assert found is not None and found.device == temperature.device and bool(found.isfinite()) and float(found) != 0
    return {}


def beyond_32_bits(device: Gpu) -> dict[str, Any]:
    """A few queries against so many keys that offsets do not fit into 32 bits: the last keys must count."""
    D = 128
    M = 4096 if device.dry else MANY // D
    if not device.dry and device.free_bytes() < MANY_BYTES:
        raise NotRun(f"{device.free_bytes() / 2**30:.0f} GiB are free, it needs {MANY_BYTES / 2**30:.0f}")
    x = device.put(torch.ones(2, D), torch.bfloat16) / D
    y = torch.zeros(M, D, dtype=torch.bfloat16, device=device.where)
    y[-1] = 1.0  # the largest score of all, e^20 times the others
    with jk.use_backend("triton"):
        row = jk.pairwise_logsumexp(x.requires_grad_(), y, scale=20.0)
        row.sum().backward()
    expected = float(torch.logaddexp(torch.tensor(20.0), torch.tensor(float(M - 1)).log()))
    assert abs(float(row[0]) - expected) < 1e-4 * expected, f"{float(row[0]):.7g}, must be {expected:.7g}"
    # ∂/∂x is 20 times the weight of the last key.
    weight, gradient = torch.tensor(20.0 - expected).exp(), x.grad
    assert gradient is not None
    assert abs(float(gradient[0, 0]) - 20 * float(weight)) < 0.01 * 20 * float(weight), "gradient of x"
    device.forget()
    return {}


def second(device: Gpu) -> dict[str, Any]:
    """Tensors on another GPU than the current one, in the backward too."""
    if device.count() < 2:
        raise NotRun("there is one GPU")
    problem, given = BY_ROWS, batches(device, "clip_loss", "bf16")
    there = [t.to(torch.device("cuda", 1)) for t in given]
    found = ours(problem, there)
    assert all(t.device.index == 1 for t in flat(found)), "an answer is not on the device of its inputs"
    kinds = {torch.cuda.get_device_name(i) for i in (0, 1)}
    if len(kinds) == 1:
        value, *gradients = (t.to(device.where) for t in flat(found))
        same((value, gradients), ours(problem, given), "the second GPU and the first")
    return {}
