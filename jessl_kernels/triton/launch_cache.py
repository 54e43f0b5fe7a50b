"""Launches of kernels. Triton searches its compiled kernels at every launch, in about 25 µs, which is longer than many kernels
run. Here the result of the search is kept, by everything that the search depends on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from triton.compiler import CompiledKernel

ALIGNED_BYTES = 16  # code for addresses that are multiples of 16 loads whole vectors

_found: dict[tuple, tuple[CompiledKernel, list[Any]]] = {}


def launch_cached(kernel: Any, grid: tuple[int, ...], *args: Any, **constants: Any) -> None:
    """kernel[grid](*args, **constants) on the current device and stream.

    args       all parameters that are not constants, in order; the first is a tensor on the current device
    constants  the kernel's constants, and Triton's options: warps, stages

    Triton's settings for debugging reach a kernel only if they are set before its first launch.
    """
    if torch.version.hip is not None:  # on AMD code also depends on the bytes of a tensor
        kernel[grid](*args, **constants)
        return
    key = (kernel.fn, args[0].device, *constants.items(), *map(_kind, args))
    known = _found.get(key)
    if known is not None:
        compiled, last = known
        compiled[(*grid, 1, 1)](*args, *last)  # it needs at least three numbers of programs
        return
    compiled = kernel[grid](*args, **constants)
    if isinstance(compiled, CompiledKernel):
        _found[key] = compiled, [constants[parameter.name] for parameter in kernel.params[len(args) :]]


def _kind(arg: Any) -> Any:
    """The properties of an argument that code is specialised on, or finer: arguments that differ in them share no code."""
    if type(arg) is int:
        return arg == 1, arg % 16 == 0, -(2**31) <= arg < 2**31
    if isinstance(arg, Tensor):
        return arg.dtype, arg.data_ptr() % ALIGNED_BYTES == 0
    if isinstance(arg, tuple):
        return tuple(map(_kind, arg))
    if arg is not None:
        raise TypeError(f"a {type(arg).__name__} cannot be an argument of a kernel, only a constant")
    return None
