"""Which GPUs the compiled kernels serve: a library may be older than a GPU, or newer than a driver."""

from __future__ import annotations

from functools import cache

import torch

from .. import native


@torch.compiler.assume_constant_result  # a tracer shall not look into the driver
def unserved(index: int) -> str:
    """Why the kernels cannot run on a CUDA device, by its number; "" if they can, or where torch has no device to ask about."""
    return _unserved(index) if torch.cuda.is_available() else ""


@cache
def _unserved(index: int) -> str:
    built = native.cuda_status().info
    found = native.cuda().devices()
    if found.startswith("none"):
        return f"its kernels were built with CUDA {built['toolkit']}, which finds devices: {found}"
    capability = torch.cuda.get_device_capability(index)
    if any(serves(architecture, capability) for architecture in built["architectures"].split()):
        return ""
    return "its kernels were built for {}, and the GPU is {}.{}".format(built["architectures"], *capability)


def serves(architecture: str, capability: tuple[int, int]) -> bool:
    """Whether code for an architecture runs on a GPU of this compute capability: machine code within a generation, from the
    lower number to the higher, and PTX on all later ones; "9.0a" on 9.0 alone.

    >>> serves("8.6", (8, 9)), serves("8.6", (9, 0)), serves("8.0+PTX", (12, 1))
    (True, False, True)
    """
    number, _, ptx = architecture.partition("+")
    major, minor = map(int, number.removesuffix("a").split("."))
    if number.endswith("a"):
        return (major, minor) == capability
    return (major, minor) <= capability and (bool(ptx) or major == capability[0])
