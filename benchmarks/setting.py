"""What the numbers depend on beside the code that is timed."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import jessl_kernels

from .processes import ROOT


def same(threads: int) -> dict[str, Any]:
    """What all cells of one run must have in common."""
    return {
        "commit": commit(),
        "cpu": cpu(),
        "level": torch.backends.cpu.get_cpu_capability(),
        "simd": simd(),
        "threads": threads,
        "torch": torch.__version__,
        "jessl_kernels": jessl_kernels.__version__,
        "python": platform.python_version(),
    }


def commit() -> str:
    """Of the checkout, with "+" and a hash of the changes if a tracked file differs from it; "unknown" without git."""
    try:
        name, changes = _git("rev-parse", "--short=12", "HEAD"), _git("diff", "HEAD")
        return name + (f"+{hashlib.sha256(changes.encode()).hexdigest()[:8]}" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def cpu() -> str:
    """The model's name (Linux)."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def simd() -> str:
    """The backend that computes a loss here, and its instruction set where it has one."""
    (chosen,) = jessl_kernels.explain(jessl_kernels.pairwise_logsumexp, torch.zeros(8, 8), exclude="diagonal").steps
    return f"{chosen.backend}: {chosen.path.rpartition(', ')[2]}"


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()
