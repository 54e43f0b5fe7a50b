"""`python -m jessl_kernels`: the facts about this installation that a bug report needs."""

from __future__ import annotations

import argparse
import os
import platform
import sys

import torch

from . import __version__, backends


def report() -> str:
    """Versions, machine and backends, one line each."""
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    lines = {
        "jessl_kernels": __version__,
        "python": sys.version.split()[0],
        "torch": f"{torch.__version__}, CUDA {torch.version.cuda or 'no'}",
        "platform": platform.platform(),
        "cpu": f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads of {os.cpu_count()} cores",
        "gpu": ", ".join(devices) or "none",
    }
    try:
        computing = str(backends())
    except ValueError as wrong:  # a wrong JESSL_BACKEND or JESSL_SIMD: the report says so and goes on
        computing = str(wrong)
    return "\n".join([*(f"{name:<14} {value}" for name, value in lines.items()), "", computing])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m jessl_kernels", description=__doc__)
    parser.add_argument("--version", action="version", version=f"jessl_kernels {__version__}")
    parser.parse_args()
    print(report())
