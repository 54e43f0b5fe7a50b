"""Work that was executed, counted: what every kernel and every product of the library did while a function ran without a GPU.

ttsem executes each launch on the CPU from the intermediate representation that a GPU's code is made from. Its handlers are
wrapped here, so that nothing is estimated: each product, exponential, load and store of every program is added up. Calls of the
library are seen by torch's dispatcher.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime.jit import JITFunction

from jessl_kernels.triton import shapes

from .restored import restored
from .work import Step, Work

EXPONENTIALS = ("math.exp", "math.exp2")
SPECIAL = ("math.log", "math.log2", "math.sqrt", "math.rsqrt", "arith.divf", "tt.precise_divf", "tt.precise_sqrt")
ADDITIONS, MULTIPLICATIONS = ("arith.addf", "arith.subf"), ("arith.mulf",)
LANES = (
    "arith.maximumf", "arith.minimumf", "arith.maxnumf", "arith.minnumf", "arith.cmpf", "arith.select", "arith.negf",
    "arith.truncf", "arith.extf", "math.absf",
)  # fmt: skip
MATRIX_UNITS = {"bf16": "bf16", "f16": "bf16", "f32": "tf32", "f64": "fp64"}
TILE = 128  # rows and columns of the tiles by which a product of the library is taken to read its operands
PAGE = 16  # bits of an address within a page of those that a launch touched
# What moves no data; and fill_, by which the executor puts NaN into memory that nobody has written to.
NOTHING = {
    "empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided", "detach", "alias", "set_", "resize_", "fill_",
}  # fmt: skip


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
            # Each byte that a launch reads, or writes, comes from memory once at least.
            self.running.memory += sum(int(page.sum()) for page in self._touched.values())
        finally:
            self.running = None

    def touch(self, what: str, pointers: Any, mask: Any, itemsize: int) -> None:
        at = np.asarray(pointers, dtype=np.int64)
        at = at.reshape(-1) if mask is None else at[np.broadcast_to(np.asarray(mask, bool), at.shape)]
        assert self.running is not None
        if what == "load":
            self.running.loaded += at.size * itemsize
        else:
            self.running.stored += at.size * itemsize
        if not at.size:
            return
        for page in range(at.min() >> PAGE, (at.max() >> PAGE) + 1):
            here = at[at >> PAGE == page] & ((1 << PAGE) - 1)
            if here.size:
                self._touched.setdefault((what, page), np.zeros(1 << PAGE, np.uint8))[here] = itemsize

    def operation(self, op: Any, args: list[Any], results: list[Any]) -> None:
        step, name = self.running, op.name
        if step is None:
            return
        size = int(np.size(results[0])) if results else 0
        if name in EXPONENTIALS:
            step.exponentials += size
        elif name in SPECIAL:
            step.special += size
        elif name in ADDITIONS:
            step.additions += size
        elif name in MULTIPLICATIONS:
            step.multiplications += size
        elif name in LANES:
            step.lanes += size
        elif name == "tt.dot":
            unit = MATRIX_UNITS[op.operand_types[0].scalar.name]
            if unit == "tf32" and op.attrs.get("inputPrecision", 0) not in (0, "tf32"):
                unit = "fp32"
            step.flops[unit] += 2 * size * np.shape(args[0])[-1]
        elif name == "tt.load":
            self.touch("load", args[0], args[1] if len(args) > 1 else None, results[0].itemsize)
        elif name == "tt.store":
            self.touch("store", args[0], args[2] if len(args) > 2 else None, np.asarray(args[1]).itemsize)
        elif name.startswith("tt.atomic"):
            mask = args[2] if name == "tt.atomic_rmw" and len(args) > 2 else None
            step.atomics += int(np.sum(np.broadcast_to(mask, np.shape(args[0])))) if mask is not None else size
            self.touch("load", args[0], mask, results[0].itemsize)
            self.touch("store", args[0], mask, results[0].itemsize)
        elif name.startswith("tt.descriptor"):
            raise NotImplementedError(f"{name} is not counted yet")


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
        if name in ("mm", "addmm", "addmm_", "bmm"):
            return self._product(name, func, args, kwargs)
        result = func(*args, **kwargs)
        inputs = _tensors(args)
        outputs = _tensors(result if isinstance(result, (tuple, list)) else (result,))
        moved = sum(t.numel() * t.itemsize for t in inputs), sum(t.numel() * t.itemsize for t in outputs)
        with self.counter.step("torch, elementwise") as step:
            step.loaded += moved[0]
            step.stored += moved[1]
            step.memory += sum(moved)
        return result

    def _product(self, name: str, func: Any, args: tuple, kwargs: dict) -> Any:
        a, b = args[-2:] if name.startswith("addmm") else args[:2]
        out_dtype = next((v for v in args[2:] if isinstance(v, torch.dtype)), None)
        if name in ("mm", "bmm"):  # the CPU has no product of half precision into fp32, and is slow where it has one
            made = torch.matmul(a.float(), b.float()).to(out_dtype or a.dtype)
            result = made if kwargs.get("out") is None else kwargs["out"].copy_(made)
        else:
            made = torch.matmul(a.float(), b.float()) + args[0]
            result = args[0].copy_(made) if name.endswith("_") else made.to(args[0].dtype)
        batches = a.shape[0] if a.ndim == 3 else 1
        m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
        unit = {torch.bfloat16: "bf16", torch.float16: "bf16", torch.float64: "fp64"}.get(a.dtype, "fp32")
        with self.counter.step("product of the library") as step:
            step.flops[unit] += 2 * batches * m * n * k
            outputs = m * n * result.itemsize
            added = outputs if name.startswith("addmm") else 0
            step.loaded += batches * (m * k * -(-n // TILE) + k * n * -(-m // TILE)) * a.itemsize + added
            step.stored += batches * outputs
            step.memory += batches * ((m * k + k * n) * a.itemsize + outputs + added)
        return result


def _plain_dot(interp: Any, op: Any, args: list[Any]) -> list[Any]:
    """The executor sums as tensor cores do, which takes it most of its time; to be counted a product need only be close."""
    from ttsem.values import from_float, to_float

    a, b, c = (to_float(arg, kind).astype(np.float32) for arg, kind in zip(args, op.operand_types, strict=False))
    return [from_float(a @ b + c, op.result_types[0])]


def _tensors(values: Any) -> list[torch.Tensor]:
    flat = [v for value in values for v in (value if isinstance(value, (tuple, list)) else (value,))]
    return [v for v in flat if isinstance(v, torch.Tensor)]


def library() -> contextlib.AbstractContextManager:
    """A block whose products of the library run as on a GPU, and nothing is kept of what they cost."""
    return _Library(_Counter())


@contextlib.contextmanager
def counting() -> Iterator[Work]:
    """Within the block, inside a session of the executor, what runs is counted: steps by the name of their kernel."""
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
        with counter.step(kernel.__name__) as step:
            step.launches += 1
            return run(kernel, *args, **options)

    names = {*EXPONENTIALS, *SPECIAL, *ADDITIONS, *MULTIPLICATIONS, *LANES}
    for name, handler in handlers.items():
        if name in names or name in ("tt.load", "tt.store") or name.startswith(("tt.atomic", "tt.descriptor")):
            OPS[name] = counted(handler)
    OPS["tt.dot"] = counted(_plain_dot)
    try:
        with mock.patch.object(JITFunction, "run", launched), _Library(counter):
            yield counter.work
    finally:
        OPS.update(handlers)


@contextlib.contextmanager
def pretended(capability: tuple[int, int] = (9, 0), *, amd: bool = False) -> Iterator[None]:
    """A GPU of this compute capability, or of AMD's as far as torch can say, whose kernels the executor runs. Behind it nothing
    stays changed."""
    from ttsem.sanitize import session

    known = capability if capability in ((8, 0), (9, 0), (10, 0)) else (9, 0)
    with restored(), session(10 * known[0] + known[1], races="off"):
        torch.cuda.get_device_capability = lambda device=None: capability
        with (
            mock.patch.object(torch.version, "cuda", None if amd else "12.8"),
            mock.patch.object(torch.version, "hip", "7.0" if amd else None),
            mock.patch.object(shapes, "hopper", lambda device: capability[0] == 9 and not amd),
        ):
            yield
