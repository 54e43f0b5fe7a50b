"""`python -m tests.gpu.cuda_built`: the library of CUDA kernels that was built here, its size, and the devices that it finds."""

import sys
from pathlib import Path

from jessl_kernels.native import cuda, cuda_status


def report() -> str:
    """The library, its build and its devices, one line each; ImportError if there is no library."""
    status = cuda_status()
    if not status.available:
        raise ImportError(f"jessl_kernels._cuda: {status.reason}")
    library = Path(cuda().__file__)
    lines = {"library": f"{library.name}, {library.stat().st_size / 1e6:.2f} MB"} | status.info
    return "\n".join(f"{name:<14} {what}" for name, what in (lines | {"devices": cuda().devices()}).items())


if __name__ == "__main__":
    try:
        print(report())
    except ImportError as absent:
        sys.exit(str(absent))
