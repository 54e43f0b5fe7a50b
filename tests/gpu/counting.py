"""Work that was executed, counted: products, exponentials, bytes and launches of a call of the triton backend, without a GPU.

ttsem executes each launch on the CPU from the intermediate representation that a GPU's code is made from. Its handlers are
wrapped here, so nothing is estimated: every product, exponential, load and store of every program is added up. Products and
elementwise calls of the library are seen by torch's dispatcher.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from triton.runtime.jit import JITFunction

from jessl_kernels.triton import shapes
from tests.executor import restored

EXPONENTIALS = ("math.exp", "math.exp2")
MATRIX_UNITS = {"bf16": "bf16", "f16": "bf16", "f32": "tf32", "f64": "fp64"}
PAGE = 16  # bits of an address within a page of those that a launch touched
# These move no data. fill_ is the executor's, which puts NaN into memory that nobody has written to.
NOTHING = {
    "empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided", "detach", "alias", "set_", "resize_", "fill_",
}  # fmt: skip


@dataclass
class Step:
    """One kernel, or one kind of library call, over all its launches.

    flops   of matrix products, by the unit that computes them: bf16 (fp16 too), tf32, fp32, fp64
    memory  bytes that come from memory or go to it: each byte that a launch touches counts once
    """

    flops: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    exponentials: float = 0.0
    memory: float = 0.0
    launches: int = 0


Work = dict[str, Step]  # by the name of the kernel


def total(work: Work) -> Step:
    result = Step()
    for step in work.values():
        for unit, flops in step.flops.items():
            result.flops[unit] += flops
        result.exponentials += step.exponentials
        result.memory += step.memory
        result.launches += step.launches
    return result


@contextlib.contextmanager
def counting() -> Iterator[Work]:
    """Within the block, inside a session of the executor, work is counted by the name of its kernel."""
    from ttsem.ops import OPS

    counter, handlers, run = _Counter(), dict(OPS), JITFunction.run

    def counted(handler: Callable) -> Callable:
        def handle(interp: Any, op: Any, args: list[Any]) -> list[Any]:
            results = handler(interp, op, args)
            counter.operation(op, args, results)
            return results

        return handle

    def launched(kernel: JITFunction, *args: Any, **options: Any) -> Any:
        if options.get("warmup"):
            return run(kernel, *args, **options)
        with counter.step(kernel.__name__):
            return run(kernel, *args, **options)

    for name in (*EXPONENTIALS, "tt.load", "tt.store"):
        OPS[name] = counted(handlers[name])
    OPS["tt.dot"] = counted(_plain_dot)
    try:
        with mock.patch.object(JITFunction, "run", launched), _Library(counter):
            yield counter.work
    finally:
        OPS.update(handlers)


@contextlib.contextmanager
def pretended(*, hopper: bool = True) -> Iterator[None]:
    """A GPU whose kernels the executor runs, of compute capability 9.0, or else 8.0; after the block nothing stays changed."""
    from ttsem.sanitize import session

    capability = (9, 0) if hopper else (8, 0)
    with restored(), session(10 * capability[0], races="off"):
        torch.cuda.get_device_capability = lambda device=None: capability
        with (
            mock.patch.object(torch.version, "cuda", "12.8"),
            mock.patch.object(shapes, "hopper", lambda device: hopper),
        ):
            yield


class _Counter:
    """Steps by name, and the step that is running now."""

    def __init__(self) -> None:
        self.work: Work = defaultdict(Step)
        self.running: Step | None = None
        self._touched: dict[tuple[str, int], np.ndarray] = {}

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Step]:
        self.running, self._touched = self.work[name], {}
        try:
            yield self.running
            self.running.launches += 1
            self.running.memory += sum(int(page.sum()) for page in self._touched.values())
        finally:
            self.running = None

    def operation(self, op: Any, args: list[Any], results: list[Any]) -> None:
        step, name = self.running, op.name
        if step is None:
            return
        if name in EXPONENTIALS:
            step.exponentials += int(np.size(results[0]))
        elif name == "tt.dot":
            unit = MATRIX_UNITS[op.operand_types[0].scalar.name]
            if unit == "tf32" and op.attrs.get("inputPrecision", 0) not in (0, "tf32"):
                unit = "fp32"
            step.flops[unit] += 2 * int(np.size(results[0])) * np.shape(args[0])[-1]
        elif name == "tt.load":
            self._touch("load", args[0], args[1] if len(args) > 1 else None, results[0].itemsize)
        else:
            self._touch("store", args[0], args[2] if len(args) > 2 else None, np.asarray(args[1]).itemsize)

    def _touch(self, way: str, pointers: Any, mask: Any, itemsize: int) -> None:
        at = np.asarray(pointers, dtype=np.int64)
        at = at.reshape(-1) if mask is None else at[np.broadcast_to(np.asarray(mask, bool), at.shape)]
        if not at.size:
            return
        for page in range(at.min() >> PAGE, (at.max() >> PAGE) + 1):
            here = at[at >> PAGE == page] & ((1 << PAGE) - 1)
            if here.size:
                self._touched.setdefault((way, page), np.zeros(1 << PAGE, np.uint8))[here] = itemsize


class _Library(TorchDispatchMode):
    """Products and elementwise calls outside of kernels. Products of half precision run as on a GPU: summed in fp32."""

    def __init__(self, counter: _Counter):
        super().__init__()
        self.counter = counter

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        if self.counter.running is not None or func.is_view or name in NOTHING:
            return func(*args, **kwargs)
        is_product = name in ("mm", "addmm", "addmm_", "bmm")
        result = _product(name, args, kwargs) if is_product else func(*args, **kwargs)
        with self.counter.step("product of the library" if is_product else "torch, elementwise") as step:
            step.memory += sum(
                t.numel() * t.itemsize for t in tree_leaves((args, result)) if isinstance(t, torch.Tensor)
            )
            if is_product:
                a = _factors(name, args)[0]
                unit = {torch.bfloat16: "bf16", torch.float16: "bf16", torch.float64: "fp64"}.get(a.dtype, "fp32")
                step.flops[unit] += 2 * result.numel() * a.shape[-1]
        return result


def _factors(name: str, args: tuple) -> tuple[torch.Tensor, torch.Tensor]:
    return args[-2:] if name.startswith("addmm") else args[:2]


def _product(name: str, args: tuple, kwargs: dict) -> torch.Tensor:
    """The CPU has no product of half precision into fp32, and is slow where it has one of half precision."""
    a, b = _factors(name, args)
    made = torch.matmul(a.float(), b.float())
    if name.startswith("addmm"):
        made = made + args[0]
        return args[0].copy_(made) if name.endswith("_") else made.to(args[0].dtype)
    out_dtype = next((v for v in args[2:] if isinstance(v, torch.dtype)), a.dtype)
    return made.to(out_dtype) if kwargs.get("out") is None else kwargs["out"].copy_(made)


def _plain_dot(interp: Any, op: Any, args: list[Any]) -> list[Any]:
    """The executor sums as tensor cores do, which takes it most of its time; to be counted a product need only be close."""
    from ttsem.values import from_float, to_float

    a, b, c = (to_float(arg, kind).astype(np.float32) for arg, kind in zip(args, op.operand_types, strict=False))
    return [from_float(a @ b + c, op.result_types[0])]
