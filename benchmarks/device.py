"""Where a cell runs: the CPU, a CUDA device, or in dry mode the executor of the tests in its place, which has no clock."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Call = Callable[[], Any]
DEVICES = ("cpu", "cuda", "dry")
SLOW_PRODUCT = 3.0  # seconds


class Cpu:
    """kind     whose contenders take part
    product  the side of the square matrices whose product is the measured peak
    exact    flops up to which the value at full size is judged in fp64
    """

    kind = "cpu"
    where = torch.device("cpu")
    product = 4096
    exact = 0.0

    @property
    def name(self) -> str:
        """The model's name (Linux), and the instructions that torch uses."""
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        return f"{next(names, platform.machine())}, {torch.backends.cpu.get_cpu_capability()}"

    def put(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        return t.to(self.where, dtype)

    def seconds(self, call: Call) -> float | None:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    def peak_bytes(self, call: Call) -> int | None:
        """Growth of this process (Linux), beyond what is resident now.

        Freed memory that malloc keeps, up to 32 MiB a block, is given back first: reused, it would not show.
        """
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _resident_peak()
        call()
        return _resident_peak() - before

    def forget(self) -> None:
        gc.collect()

    def bare_rates(self) -> dict[str, float]:
        """Flops a second of torch's products, on the run's threads and on one."""
        found = {f"product {dtype}": self._median_rate(dtype) for dtype in ("float32", "bfloat16")}
        torch.set_num_threads(1)
        return found | {"product float32, one thread": self._median_rate("float32")}

    def product_rate(self, dtype: str) -> float | None:
        """Flops a second of one product of two square matrices, small ones where large ones would take seconds: without AVX-512
        torch multiplies bf16 at less than a GFLOP/s."""
        rate = self._product(dtype, self.product // 8)
        if rate is not None and 2 * self.product**3 / rate < SLOW_PRODUCT:
            rate = self._product(dtype, self.product)
        return rate

    def _product(self, dtype: str, side: int) -> float | None:
        a, b = torch.full((2, side, side), 0.5, dtype=getattr(torch, dtype), device=self.where)
        out = torch.zeros_like(a)  # touched, so that no page is faulted in while the clock runs
        seconds = self.seconds(lambda: torch.mm(a, b, out=out))
        return 2 * side**3 / seconds if seconds else None

    def _median_rate(self, dtype: str) -> float:
        self.product_rate(dtype)
        return statistics.median([self.product_rate(dtype) or 0.0 for _ in range(3)])


def _resident_peak() -> int:
    """Of this process alone: ru_maxrss would begin at what the starting process had held."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) << 10


class Cuda(Cpu):
    """The first CUDA device."""

    kind = "cuda"
    where = torch.device("cuda", 0)
    product = 8192
    exact = 2.0 * 65_536**2 * 256
    flushed = 256 << 20  # bytes written between two timings: more than any L2 holds

    def __init__(self) -> None:
        self._flushed = torch.empty(self.flushed, dtype=torch.uint8, device=self.where)

    @property
    def name(self) -> str:
        return torch.cuda.get_device_name(self.where)

    def seconds(self, call: Call) -> float | None:
        """Between two events around one call on an idle device with nothing of use in its L2; launches count."""
        self._flushed.zero_()
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(self.where)
        before.record()
        call()
        after.record()
        torch.cuda.synchronize(self.where)
        return before.elapsed_time(after) / 1e3

    def peak_bytes(self, call: Call) -> int | None:
        """What one call needs beyond what is allocated before it, by torch's allocator; a call before it compiles."""
        call()
        self.forget()
        torch.cuda.synchronize(self.where)
        torch.cuda.reset_peak_memory_stats(self.where)
        before = torch.cuda.memory_allocated(self.where)
        call()
        torch.cuda.synchronize(self.where)
        return torch.cuda.max_memory_allocated(self.where) - before

    def forget(self) -> None:
        """Give cached memory back, after an error or before a measurement."""
        gc.collect()
        torch.cuda.empty_cache()

    def bare_rates(self) -> dict[str, float]:
        """Flops a second of the library's products, bytes a second of a copy, read and written, and launches a second."""
        found = {f"product {d}": self._median_rate(d) for d in ("bfloat16", "float32")}
        before = torch.backends.cuda.matmul.fp32_precision
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        found["product tf32"] = self._median_rate("float32")
        torch.backends.cuda.matmul.fp32_precision = before
        source = torch.zeros(1 << 30, dtype=torch.uint8, device=self.where)
        target, few = torch.empty_like(source), torch.zeros(1, device=self.where)
        times = [self.seconds(lambda: target.copy_(source)) or 0.0 for _ in range(4)]
        found["copy"] = 2 * source.numel() / statistics.median(times[1:])
        launches = [self.seconds(lambda: [few.add_(1) for _ in range(1000)]) or 0.0 for _ in range(3)]
        return found | {"launch": 1000 / statistics.median(launches)}


class Dry(Cuda):
    """Results are those of the executor; times, bytes and rates are not there."""

    product = 64

    def __init__(self) -> None:
        pass

    @property
    def name(self) -> str:
        return "no GPU: the executor of the tests, nothing measured"

    def seconds(self, call: Call) -> float | None:
        call()
        return None

    def peak_bytes(self, call: Call) -> int | None:
        call()
        return None

    def forget(self) -> None:
        gc.collect()

    def bare_rates(self) -> dict[str, float]:
        return {}


@contextlib.contextmanager
def opened(name: str) -> Iterator[Cpu]:
    """The device by its name, of DEVICES."""
    if name == "cpu":
        yield Cpu()
    elif name == "cuda":
        if not torch.cuda.is_available():
            raise RuntimeError("torch.cuda.is_available() is False: no GPU, or a torch built without CUDA")
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.cuda.set_device(0)
        yield Cuda()
    else:
        from tests import executor

        with executor.gpu():
            yield Dry()
