"""SwAV and DINO against their matrix forms: CPU seconds of value and gradient, interleaved, and growth of peak memory.

python -m benchmarks.prototypes                       1,024 rows, 65,536 prototypes, 128 dimensions
python -m benchmarks.prototypes 256 4096 64           others
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import jessl_kernels as jk

ROUNDS = 3


def sinkhorn(scores: Tensor, iterations: int = 3) -> Tensor:
    """Codes (N, K) by exponentials, in place."""
    q = scores.div(0.05).exp_().T
    q /= q.sum()
    for _ in range(iterations):
        q /= q.sum(dim=1, keepdim=True)
        q /= q.sum(dim=0, keepdim=True)
    return q.T


def _swapped(pairs: tuple[tuple[Tensor, Tensor], ...]) -> Tensor:
    """The mean cross entropy of targets with scores at a temperature of 0.1."""
    return torch.stack([-(q * F.log_softmax(s / 0.1, dim=1)).sum(dim=1).mean() for q, s in pairs]).mean()


def swav_matrix(z: list[Tensor], t: list[Tensor], c: Tensor, keys: Tensor) -> Tensor:
    """`swav` by matrices."""
    scores = [F.normalize(v, dim=1) @ c.T for v in z]
    with torch.no_grad():
        codes = [sinkhorn(s.detach()) for s in scores]
    pairs = ((codes[1], scores[0]), (codes[0], scores[1]))
    return _swapped(pairs)


def dino_matrix(z: list[Tensor], t: list[Tensor], c: Tensor, keys: Tensor) -> Tensor:
    """`dino` by matrices."""
    scores = [F.normalize(v, dim=1) @ c.T for v in z]
    with torch.no_grad():
        targets = [((F.normalize(v, dim=1) @ keys.T) / 0.04).softmax(dim=1) for v in t]
    pairs = ((targets[1], scores[0]), (targets[0], scores[1]))
    return _swapped(pairs)


FORMS: dict[str, Callable[..., Tensor]] = {
    "swav": lambda z, t, c, keys: jk.er.swav(z, c),
    "swav, matrix": swav_matrix,
    "dino": lambda z, t, c, keys: jk.er.dino(z, t, c, keys),
    "dino, matrix": dino_matrix,
}


def run(form: str, rows: int, count: int, dimensions: int) -> tuple[float, float]:
    """CPU seconds of value and gradient, and the value."""
    torch.manual_seed(0)
    z, t = ([torch.randn(rows, dimensions) for _ in range(2)] for _ in range(2))
    c, keys = (F.normalize(torch.randn(count, dimensions), dim=1) for _ in range(2))
    leaves = [*(v.requires_grad_() for v in z), c.requires_grad_()]
    start = time.process_time()  # of all threads: what other processes do does not count
    value = FORMS[form](z, t, c, keys)
    torch.autograd.grad(value, leaves)
    return time.process_time() - start, value.item()


def peak() -> int:
    """The most memory that this process has held, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def growth(form: str, rows: int, count: int, dimensions: int) -> float:
    """MiB beyond inputs and gradients, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.prototypes", "--memory", form, *map(str, (rows, count, dimensions))]
    freed = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}  # the allocator would keep some of the tensors freed
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=freed)
    inputs = 3 * count * dimensions + 6 * rows * dimensions  # prototypes, keys, a gradient; views, targets, gradients
    return (json.loads(done.stdout) - 4 * inputs) / 2**20


def main(rows: int = 1024, count: int = 65536, dimensions: int = 128) -> None:
    """Print a line for each form."""
    size = rows, count, dimensions
    found: dict[str, list[tuple[float, float]]] = {form: [] for form in FORMS}
    for _ in range(ROUNDS + 1):
        for form in FORMS:
            found[form].append(run(form, *size))
    print(f"{rows:,} rows, {count:,} prototypes, {dimensions} dimensions, {torch.get_num_threads()} threads")
    for form, results in found.items():
        seconds = statistics.median(s for s, _ in results[1:])
        print(f"{form:13} {seconds:6.2f} CPU s   value {results[0][1]:.5f}", flush=True)
    for form in FORMS:
        print(f"{form:13} {growth(form, *size):6.0f} MiB beyond inputs and gradients", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        run(sys.argv[2], 16, 512, int(sys.argv[5]))  # libraries load their buffers
        before = peak()
        run(sys.argv[2], *map(int, sys.argv[3:]))
        print(json.dumps(peak() - before))
    else:
        main(*map(int, sys.argv[1:]))
