"""One program of a launch, on tensors that stand for billions of elements.

Triton's interpreter reads memory in place, while the executor of the other tests copies it. So only one tile of such a tensor
is written, and the system provides memory only for written pages. The interpreter rounds bf16 wrongly, so embeddings are fp16.
"""

from __future__ import annotations

import importlib
import math
import mmap
from collections.abc import Iterator
from typing import Any

import torch
import triton.language as tl
from torch import Tensor
from triton.runtime import interpreter

from jessl_kernels.problem.types import Sums
from jessl_kernels.triton.launch import Pairs, Side
from tests.mutants import sources
from tests.mutants.planted import NAME

FAR = 2**31
ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE, for which Python 3.11 has no name
BM, BN = 16, 32
NO_PAIRS = Pairs(None, None, (), (), (), (), (), ())
PHI = {"PHI": "identity", "LOW": 0.0, "HIGH": 0.0}
LSE, PSI = {"OP": "logsumexp", "TILTS": (1.0,)}, {"OP": "softplus", "TILTS": (1.0,)}
TWO, TWO_PSI = LSE | {"TILTS": (0.5, 1.5)}, PSI | {"TILTS": (0.5, 1.5)}
TILE = {"BM": BM, "BN": BN}
FUSED = {"KIND": "dot", "DTYPE": tl.float32, **PHI, **TILE}
SUMS = {"ATTEND": False, "SHIFT": 0, **FUSED}
ONE = torch.ones((), dtype=torch.float64)

# The interpreter copies all arguments back to their origin, which on the CPU is the same place: every page of them.
interpreter.GridExecutor._restore_args_dev = lambda *_: None
# Kernels take the len of a tuple of coefficients, which the compiler supports and the interpreter does not.
tl.constexpr.__len__ = lambda self: len(self.value)

Place = tuple[int, int]
Outputs = Iterator[Tensor]


class Counted(int):
    """A loop's counter: a tensor in compiled code, but an int in the interpreter."""

    def to(self, dtype: Any) -> Any:
        return tl.full([], int(self), dtype)


def counted(*bounds: Any) -> Iterator[Counted]:
    return map(Counted, range(*map(int, bounds)))


def run(module: str, kernel: str, program: Place, *args: Any, **options: Any) -> None:
    """Run this one program of a launch."""
    found = importlib.import_module(f"{NAME}.{module}")
    for name in sources.modules():
        vars(importlib.import_module(f"{NAME}.{name}"))["range"] = counted
    launched = getattr(found, kernel)
    builder, real = interpreter.interpreter_builder, interpreter.interpreter_builder.set_grid_idx
    dimensions = builder.set_grid_dim
    builder.set_grid_dim = lambda *_: dimensions(program[0] + 1, program[1] + 1, 1)
    builder.set_grid_idx = lambda *_: real(*program, 0)
    try:
        launched[(1,)](*args, **options)
    finally:
        builder.set_grid_dim, builder.set_grid_idx = dimensions, real


def random(*shape: int, dtype: torch.dtype = torch.float16) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def ending(rows: int, end: Tensor) -> Tensor:
    """A tensor of this many rows, of which the last are `end`."""
    whole = room(rows, *end.shape[1:], dtype=end.dtype)
    whole[-len(end) :] = end
    return whole


def room(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Zeros that take no memory until they are written; there may be more than the machine has."""
    bytes_ = math.prod(shape) * dtype.itemsize
    return torch.frombuffer(mmap.mmap(-1, bytes_, flags=ANONYMOUS), dtype=dtype).view(shape)


LSES = 20 + random(BM, dtype=torch.float32)  # so that no weight is too large for fp16


def row_side(lse: Tensor) -> Side:
    """The Side of rows whose gradients are 1."""
    return Side(lse[None], torch.ones(1, len(lse)))


def two_sides(n: int) -> Side:
    """The Side of n rows with two tilts."""
    reference, factor = room(2, n), room(2, n)
    reference[:, -BM:], factor[:, -BM:] = torch.stack([LSES, LSES + 1]), torch.tensor([[1.0], [2.0]])
    return Side(reference, factor)


def parts_of(count: int, n: int, tilts: int = 1, *, lse: bool = True, linear: bool = False) -> Sums:
    """Unwritten parts."""
    total = room(tilts, count, n)
    also = (room(count, n), room(count, n)) if linear else (None, None)
    return Sums(room(tilts, count, n) if lse else None, total, *also)


def ends(parts: Sums, size: int) -> Outputs:
    """The last elements of the parts."""
    for t in parts:
        if t is not None:
            yield t[..., -1, -size:]
