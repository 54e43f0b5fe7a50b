"""Memory and time of one loss step, value and gradient: this package against the N×N form that everybody writes.

`compare` starts a process for each contender and size, under a limit on its address space, so that "out of memory" is an error
of that process, reported as it was raised, and memory is that of the size alone. A contender stops at its first failure.

    python examples/loss_cost.py '{"contender": "matrix", "loss": "info_nce", "dim": 64, …}'     one such process
"""

from __future__ import annotations

import contextlib
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.nn.functional as F
from torch import Tensor

SIZES, QUICK_SIZES = (2048, 4096, 8192, 16384, 32768), (1024, 4096, 16384)  # pairs
LIMIT_GIB, QUICK_LIMIT_GIB = 8, 2
TIMEOUT = 60  # seconds for one size
CONTENDERS = ("matrix", "package")


def _pair_matrix(z1: Tensor, z2: Tensor, scale: Tensor) -> Tensor:
    return scale * F.normalize(z1, dim=1) @ F.normalize(z2, dim=1).T


def _both_views(z1: Tensor, z2: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (2N, 2N) of all views, −inf on the diagonal, and the column of each row's other view (2N,)."""
    z = torch.cat([F.normalize(z1, dim=1), F.normalize(z2, dim=1)])
    scores = (scale * z @ z.T).fill_diagonal_(-math.inf)
    return scores, torch.arange(len(z)).roll(len(z1))


def info_nce(z1: Tensor, z2: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Both directions of InfoNCE; CLIP's loss is the same function."""
    logits, target = _pair_matrix(z1, z2, scale), torch.arange(len(z1))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def nt_xent(z1: Tensor, z2: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """SimCLR's loss: find one row among 2N − 1."""
    return F.cross_entropy(*_both_views(z1, z2, scale))


def dcl(z1: Tensor, z2: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """NT-Xent with the positive left out of the sum."""
    scores, other = _both_views(z1, z2, scale)
    positive = scores.gather(1, other[:, None])
    return (scores.scatter(1, other[:, None], -math.inf).logsumexp(1) - positive.squeeze(1)).mean()


def siglip(z1: Tensor, z2: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """A logistic regression on each of the N² pairs."""
    logits = _pair_matrix(z1, z2, scale) + bias
    return -F.logsigmoid(logits * (2 * torch.eye(len(logits)) - 1)).sum() / len(logits)


MATRIX_FORMS = {"info_nce": info_nce, "clip": info_nce, "nt_xent": nt_xent, "dcl": dcl, "siglip": siglip}


def compare(loss: str, dim: int, backend: str | None = None, *, quick: bool = False) -> dict[str, Any]:
    """Both contenders' rows, by name, and the limits; a row has pairs, and seconds, peak_mib and value, or an error."""
    # A machine with little free memory would kill the process, or others, before a limit of 8 GiB takes effect.
    available = psutil.virtual_memory().available / 2**30
    limit = min(QUICK_LIMIT_GIB if quick else LIMIT_GIB, 0.8 * available)
    job = {"loss": loss, "dim": dim, "backend": backend, "limit_gib": limit}
    costs: dict[str, Any] = {"limit_gib": limit, "timeout_s": TIMEOUT}
    sizes = QUICK_SIZES if quick else SIZES
    return costs | {contender: _rows(job | {"contender": contender}, sizes) for contender in CONTENDERS}


def _rows(job: dict[str, Any], sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for pairs in sizes:
        rows.append({"pairs": pairs, **_measured(job | {"pairs": pairs})})
        if "error" in rows[-1]:
            break
    return rows


def _measured(job: dict[str, Any]) -> dict[str, Any]:
    """What a process of its own printed, or how it ended."""
    try:
        done = subprocess.run(
            [sys.executable, __file__, json.dumps(job)], capture_output=True, text=True, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {TIMEOUT} s"}
    if done.returncode == 0:
        return json.loads(done.stdout)
    if done.returncode == -9:
        return {"error": "out of memory: killed by the system"}
    return {"error": f"exit {done.returncode}: {(done.stderr.strip().splitlines() or [''])[-1]}"}


def _work(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds, memory and value of one contender at one size; or the error that it raised."""
    function, context = _contender(job)
    with context:
        step(function, 256, job["dim"])  # the first call starts threads and loads code, which are no cost of the loss
        limit = int(job["limit_gib"] * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        base = peak_memory_mib()
        repeats = 3 if job["pairs"] <= 8192 else 1  # a step that takes long is hardly a matter of chance
        try:
            seconds, values = zip(*(step(function, job["pairs"], job["dim"]) for _ in range(repeats)), strict=True)
        except (RuntimeError, MemoryError) as error:  # torch raises RuntimeError where memory ends
            what = " ".join(str(error).split()) or "no further message"
            memory = isinstance(error, MemoryError) or "memory" in what
            return {"error": f"out of memory: {what}" if memory else what}
        return {"seconds": statistics.median(seconds), "peak_mib": peak_memory_mib() - base, "value": values[0]}


def _contender(job: dict[str, Any]) -> tuple[Callable[..., Tensor], Any]:
    if job["contender"] == "matrix":
        return MATRIX_FORMS[job["loss"]], contextlib.nullcontext()
    # Imported only here: the matrix form must not pay for these, and train_two_views imports this file.
    import train_two_views

    import jessl_kernels as jk

    return train_two_views.LOSSES[job["loss"]], jk.use_backend(job["backend"])


def step(function: Callable[..., Tensor], pairs: int, dim: int) -> tuple[float, float]:
    """Seconds and value of one call with its gradients, on `pairs` noisy pairs."""
    generator = torch.Generator().manual_seed(0)
    z1 = torch.randn(pairs, dim, generator=generator)
    z2 = z1 + torch.randn(pairs, dim, generator=generator)
    scale, bias = torch.tensor(1 / 0.1), torch.tensor(-math.log(pairs))
    arguments = [t.requires_grad_() for t in (z1, z2, scale, bias)]
    start = time.perf_counter()
    value = function(*arguments)
    value.backward()
    return time.perf_counter() - start, value.item()


def peak_memory_mib() -> float:
    """The most memory this process has held so far: its resident set."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, whose ru_maxrss would also count what the process had held that started this one
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


if __name__ == "__main__":
    print(json.dumps(_work(json.loads(sys.argv[1]))))
