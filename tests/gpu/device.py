"""CUDA as the checks of behaviour use it. Without a GPU the executor runs the same calls, without streams or graphs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch

from tests import executor


def wait() -> None:
    if executor.REAL:
        torch.cuda.synchronize()


@contextlib.contextmanager
def another_stream() -> Iterator[None]:
    """A stream that is not the default one; the two wait for each other at both ends."""
    if not executor.REAL:
        yield
        return
    usual, other = torch.cuda.current_stream(), torch.cuda.Stream()
    other.wait_stream(usual)
    with torch.cuda.stream(other):
        yield
    usual.wait_stream(other)


def delay() -> None:
    """Keeps the current stream busy for some 50 ms, so that work on another stream overtakes what is launched here."""
    if executor.REAL:
        torch.cuda._sleep(10**8)


@contextlib.contextmanager
def without_waiting() -> Iterator[None]:
    """Whatever makes the host wait for the device raises. The pretended GPU refuses that always."""
    if not executor.REAL:
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def captured(call: Callable[[], list[torch.Tensor]]) -> tuple[list[torch.Tensor], Callable[[], None]]:
    """The outputs of a call in a CUDA graph, and what replays the graph into them; on the executor the call is made again."""
    if not executor.REAL:
        outputs = call()

        def again() -> None:
            for old, new in zip(outputs, call(), strict=True):
                old.copy_(new)

        return outputs, again
    with another_stream():
        for _ in range(2):  # what is compiled and allocated once must be, before a capture
            call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = call()
    return outputs, graph.replay


def in_a_thread(call: Callable[[], Any]) -> None:
    """A new thread makes the call; its exception is raised here. On the executor this thread does: another would not pretend."""
    if not executor.REAL:
        call()
        return
    failed: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
