"""Seconds and memory of SimCLR's loss with its gradient at a batch size, here and in the matrix form, in one process.

python -m experiments.large_batch.cost 4096       # prints them as JSON
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import jessl_kernels as jk

from .losses import TEMPERATURE, matrix_nt_xent
from .training import DIM

LIMIT_MIB = 4096  # of the process: a matrix form that needs more is computed, not run
MATRICES = 3  # scores, their log-softmax and its gradient: what the matrix form holds at its peak
OTHER_MIB = 400  # of the process beside the matrices: torch, embeddings and their gradients
ROUNDS = 5


def matrix_mib(batch: int) -> float:
    """Memory of the matrix form beyond embeddings and their gradients."""
    return MATRICES * (2 * batch) ** 2 * 4 / 2**20


def run(batch: int, seed: int) -> dict[str, float]:
    """Measured in a process of its own, where no earlier trial has left memory that is used anew."""
    command = [sys.executable, "-m", "experiments.large_batch.cost", str(batch), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def measure(batch: int, seed: int, rounds: int = ROUNDS) -> dict[str, float]:
    """Both forms in turn, medians of their seconds; memory once for each, before any is timed."""
    torch.manual_seed(seed)
    z = [torch.randn(batch, DIM, requires_grad=True) for _ in range(2)]
    forms: dict[str, Callable[..., Tensor]] = {"here": jk.nt_xent, "matrix form": matrix_nt_xent}
    found = {"matrix form MiB, computed": matrix_mib(batch)}
    if matrix_mib(batch) + OTHER_MIB > LIMIT_MIB:
        del forms["matrix form"]
    few = [one[:16].detach().requires_grad_() for one in z]
    for form in forms.values():  # libraries load and threads start at a first call
        stage(form, few)
    for name, form in forms.items():
        found[f"{name} MiB"] = growth(lambda form=form: stage(form, z))
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, form in forms.items():
            start = time.perf_counter()
            stage(form, z)
            seconds[name].append(time.perf_counter() - start)
    return found | {f"{name} seconds": statistics.median(taken) for name, taken in seconds.items()}


def stage(form: Callable[..., Tensor], z: list[Tensor]) -> None:
    """Value and gradient."""
    torch.autograd.grad(form(*z, temperature=TEMPERATURE), z)


def growth(call: Callable[[], object]) -> float:
    """The most memory that a call held beside what was there, in MiB. Linux alone resets a process's peak."""
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    call()
    return status("VmHWM") - before


def status(field: str) -> float:
    """A size in MiB from what Linux says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)))
