"""Trials: what one of them measured, what it cost and where it ran, as a line of a file."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import jessl_kernels as jk

Settings = dict[str, Any]
Trial = dict[
    str, Any
]  # {"settings": …, "numbers": …, "seconds": …, "peak_mib": …, "commit": …, "versions": …, "hardware": …}
ROOT = Path(__file__).parents[1]
DIGITS = 5  # significant, of every number in a file


def read(path: Path) -> list[Trial]:
    """The trials of a file, or none."""
    return json.loads(path.read_text(encoding="utf-8"))["trials"] if path.exists() else []


def write(path: Path, study: str, trials: list[Trial]) -> None:
    """A line a trial; beside the file first, then in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(trial, ensure_ascii=False) for trial in trials)
    fresh = path.with_suffix(".new")
    command = f"python -m experiments.{study}.run --{'full' if path.name == 'results.json' else 'quick'}"
    fresh.write_text(f'{{"command": "{command}", "trials": [\n{lines}\n]}}\n', encoding="utf-8")
    os.replace(fresh, path)


def measured(run: Callable[..., dict[str, Any]], settings: Settings) -> Trial:
    """One trial with what it cost and where it ran."""
    _forget_peak()
    start = time.perf_counter()
    numbers = run(**settings)
    return {
        "settings": settings,
        "numbers": {name: rounded(value) for name, value in numbers.items()},
        "seconds": round(time.perf_counter() - start, 1),
        "peak_mib": round(peak_mib()),
        "commit": commit(),
        "versions": f"jessl_kernels {jk.__version__}, torch {torch.__version__}, numpy {np.__version__}, "
        f"Python {platform.python_version()}",
        "hardware": hardware(),
    }


def rounded(value: Any) -> Any:
    """Numbers and lists of them with few digits; what is not finite as a word, since JSON has no NaN."""
    if isinstance(value, (list, tuple)):
        return [rounded(one) for one in value]
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    number = float(value)
    return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else str(number)


def hardware() -> str:
    """The class of the machine, without its name."""
    return f"{torch.backends.cpu.get_cpu_capability()}, {len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads"


def commit() -> str:
    """The commit of the sources, with + where they have changed since; "unknown" outside of a checkout."""
    git = ["git", "-C", str(ROOT)]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        made = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], check=True, capture_output=True, text=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "*.py", "csrc"], capture_output=True)
        return made.stdout.strip() + "+" * (changed.returncode != 0)
    return "unknown"


def peak_mib() -> float:
    """The largest resident set of this process since `_forget_peak`."""
    return float(next(line for line in _status() if line.startswith("VmHWM")).split()[1]) / 2**10


def _status() -> list[str]:
    return Path("/proc/self/status").read_text().splitlines()


def _forget_peak() -> None:
    with contextlib.suppress(OSError):  # where it is not allowed, the peak is that of the trials before as well
        Path("/proc/self/clear_refs").write_text("5")


def shown(settings: Settings) -> str:
    """Settings on one line."""
    return " ".join(f"{key}={value}" for key, value in settings.items())
