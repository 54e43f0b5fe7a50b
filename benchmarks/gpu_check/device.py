"""The GPU as the sections use it, and what stands for it in dry mode: the executor of the tests, with no clock."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

FLUSHED = 256 << 20  # bytes written between two timings: more than any L2 holds


class Gpu:
    """One CUDA device.

    where  the device, for tensors
    """

    dry = False

    def __init__(self, index: int = 0):
        self.where = torch.device("cuda", index)
        self._flushed: Tensor | None = None

    def put(self, t: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        return t.to(self.where, dtype or t.dtype)

    def wait(self) -> None:
        torch.cuda.synchronize(self.where)

    def count(self) -> int:
        return torch.cuda.device_count()

    def free_bytes(self) -> int:
        return torch.cuda.mem_get_info(self.where)[0]

    def forget(self) -> None:
        """Give cached memory back, after an error or before a measurement."""
        gc.collect()
        torch.cuda.empty_cache()

    def seconds(self, call: Callable[[], Any]) -> float | None:
        """Between two events around one call on an idle device with nothing of use in its L2; launches count."""
        if self._flushed is None:
            self._flushed = torch.empty(FLUSHED, dtype=torch.uint8, device=self.where)
        self._flushed.zero_()
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.wait()
        before.record()
        call()
        after.record()
        self.wait()
        return before.elapsed_time(after) / 1e3

    def peak_bytes(self, call: Callable[[], Any]) -> int | None:
        """What one call needs beyond what is allocated before it."""
        self.forget()
        self.wait()
        torch.cuda.reset_peak_memory_stats(self.where)
        before = torch.cuda.memory_allocated(self.where)
        call()
        self.wait()
        return torch.cuda.max_memory_allocated(self.where) - before

    @contextlib.contextmanager
    def another_stream(self) -> Iterator[None]:
        """A stream that is not the default one; the two wait for each other at both ends."""
        usual, other = torch.cuda.current_stream(self.where), torch.cuda.Stream(self.where)
        other.wait_stream(usual)
        with torch.cuda.stream(other):
            yield
        usual.wait_stream(other)

    @contextlib.contextmanager
    def without_waiting(self) -> Iterator[None]:
        """Whatever makes the host wait for the device raises."""
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)

    def captured(self, call: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """The outputs of a call in a CUDA graph, and what replays the graph into them."""
        with self.another_stream():
            for _ in range(2):  # what is compiled and allocated once must be, before a capture
                call()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = call()
        return outputs, graph.replay

    def compiler(self) -> str:
        return "inductor"


class Pretended(Gpu):
    """What stands for it where there is none: results are those of the executor, times and bytes are None."""

    dry = True

    def wait(self) -> None:
        pass

    def count(self) -> int:
        return 1

    def free_bytes(self) -> int:
        return 1 << 34

    def forget(self) -> None:
        gc.collect()

    def seconds(self, call: Callable[[], Any]) -> float | None:
        call()
        return None

    def peak_bytes(self, call: Callable[[], Any]) -> int | None:
        call()
        return None

    @contextlib.contextmanager
    def another_stream(self) -> Iterator[None]:
        yield

    @contextlib.contextmanager
    def without_waiting(self) -> Iterator[None]:
        yield

    def captured(self, call: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        outputs = call()

        def replay() -> None:
            for old, new in zip(outputs, call(), strict=True):
                old.copy_(new)

        return outputs, replay

    def compiler(self) -> str:
        return "eager"


@contextlib.contextmanager
def opened(dry: bool) -> Iterator[Gpu]:
    """The first GPU, or in dry mode what stands for it."""
    if not dry:
        if not torch.cuda.is_available():
            raise RuntimeError(
                "torch.cuda.is_available() is False: no GPU, or a torch built without CUDA; --dry needs none"
            )
        torch.cuda.set_device(0)
        yield Gpu()
        return
    if find_spec("ttsem") is None:
        raise RuntimeError("dry mode runs kernels on ttsem, which is not installed (tests/executor.py)")
    from tests import executor

    with executor.gpu():
        yield Pretended()
