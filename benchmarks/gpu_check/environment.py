"""What the numbers of the report were found on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.util import find_spec
from typing import Any

from .device import Gpu
from .journal import NotRun, Step

ASKED = ("name", "driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit", "temperature.gpu")
PACKAGES = ("pytest", "hypothesis", "ttsem", "inf_cl", "memeff", "siglip_kernel", "open_clip", "lightly", "pykeops")


def steps(device: Gpu) -> list[Step]:
    return [
        Step("versions", versions),
        Step("device", lambda: properties(device)),
        Step("nvidia-smi", nvidia_smi),
        Step("backends", backends),
    ]


def versions() -> dict[str, Any]:
    import torch
    import triton

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": triton.__version__,
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "compiler": next(filter(shutil.which, ("gcc", "clang", "cc")), "none: Triton builds its launchers with one"),
        "commit": commit(),
        "installed": [name for name in PACKAGES if find_spec(name)],
    }


def commit() -> str:
    """Of the checkout, with a + where files differ from it."""
    try:
        ask = ("git", "describe", "--always", "--dirty=+", "--exclude=*")
        return subprocess.run(ask, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def properties(device: Gpu) -> dict[str, Any]:
    import torch

    found = torch.cuda.get_device_properties(device.where)
    return {
        "gpu": found.name,
        "capability": f"{found.major}.{found.minor}",
        "processors": found.multi_processor_count,
        "memory": found.total_memory,
        "devices": device.count(),
    }


def nvidia_smi() -> dict[str, Any]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        raise NotRun("nvidia-smi is not on the PATH")
    ask = [tool, f"--query-gpu={','.join(ASKED)}", "--format=csv,noheader"]
    said = subprocess.run(ask, capture_output=True, text=True, check=True, timeout=20).stdout
    return {"gpus": [dict(zip(ASKED, line.split(", "), strict=False)) for line in said.strip().splitlines()]}


def backends() -> dict[str, Any]:
    import jessl_kernels as jk

    return {"says": str(jk.backends())}
