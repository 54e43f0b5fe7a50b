"""A pretended GPU for the tests of the triton backend. ttsem compiles each launch with Triton's own front end to the intermediate
representation from which a GPU's code is made, and executes that on the CPU.

It rounds bf16 and TF32 as hardware does, which Triton's interpreter does not. It is a sanitizer too: an access outside a tensor,
or to a place that two programs of a launch touch, is an error with kernel and line. While it is in place every tensor claims to
lie on a CUDA device. If there is a real GPU, tests of the triton backend run on it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import placement

REAL = torch.cuda.is_available()  # asked before anything pretends
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch's deterministic mode requires this of cuBLAS


@contextlib.contextmanager
def gpu(memories: int = 2) -> Iterator[None]:
    """memories  of the pretended GPU: 1 for foreign code that makes tensors without naming a device"""
    for name in ("triton",) if REAL else ("triton", "ttsem"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    with placement.poisoned(warn_only=REAL), placement.Placed("cuda") if REAL else _pretended(memories):
        yield


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """After the block torch.cuda and Triton's driver are as before: a session of the executor leaves its answers in both."""
    from triton.runtime import driver

    before, active = dict(vars(torch.cuda)), driver._active
    try:
        yield
    finally:
        driver._active = active
        for name, was in before.items():
            setattr(torch.cuda, name, was)


@contextlib.contextmanager
def _pretended(memories: int) -> Iterator[None]:
    from ttsem.sanitize import session

    _compile_once()
    _poison_what_is_masked()
    with restored(), session(), placement.pretended() if memories == 2 else contextlib.nullcontext():
        yield


@functools.cache
def _compile_once() -> None:
    """Make a kernel's representation once for each specialisation, and keep it where Triton keeps kernels.

    ttsem itself parses it at every launch, two thirds of a test's time. It also requests machine code, a second a kernel, which
    nobody runs here and tests/gpu checks. And it formats each tensor only to see whether it names a CUDA device.
    """
    import torch
    import triton
    from triton.runtime.cache import get_cache_manager
    from ttsem import harness, mlir, sanitize

    texts: dict[str, str] = {}
    is_cuda = sanitize._is_cuda

    def representation(record: harness.LaunchRecord, stage: str, target: Any) -> str:
        specialised = harness._specialize(record.fn, record.args, record.kwargs, target)
        source = triton.__version__, record.fn.cache_key, stage, target
        key = hashlib.sha256(repr((source, specialised)).encode()).hexdigest()
        if key not in texts:
            kept = get_cache_manager(key)
            path = kept.get_file("generic") or kept.put(
                harness._stage_text(record, stage, target), "generic", binary=False
            )
            texts[key] = Path(path).read_text()
        return texts[key]

    mlir.enable_generic_printing()
    mlir.parse = functools.cache(mlir.parse)
    harness.ir_for_launch = representation
    sanitize._is_cuda = lambda device: not isinstance(device, torch.Tensor) and is_cuda(device)


@functools.cache
def _poison_what_is_masked() -> None:
    """On a GPU a masked element without `other` may load as anything. Here it is NaN, or an extreme integer, where ttsem gives
    0."""
    from ttsem.memory import Memory

    read = Memory.load

    def load(memory: Memory, addresses: Any, mask: Any, other: Any, dtype: Any) -> Any:
        kind = np.dtype(dtype)
        if other is None and mask is not None:  # bf16 is represented by unsigned numbers; the largest is a NaN
            other = np.nan if kind.kind == "f" else np.iinfo(kind).max if kind.kind == "u" else np.iinfo(kind).min
        return read(memory, addresses, mask, other, dtype)

    Memory.load = load
