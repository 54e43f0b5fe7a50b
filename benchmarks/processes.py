"""A process for each measurement, with a limit on its address space and on the time of each of its steps.

A process that dies or has to be stopped costs the contender that was at work its result, and nobody else: what it had
reported is kept, and the caller starts again without that contender. An illegal access on a GPU ends a process too.

Processes are forked from a server that has imported torch and computed nothing, so each is as fresh as a new interpreter,
half a second to two seconds sooner.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STARTING = 120.0  # seconds until the first word of a process
Event = tuple[str, Any]


@dataclass(frozen=True)
class Limits:
    """device      that the process opens
    seconds     of one call
    memory_mib  that a process may add to the address space it starts with; None: no limit, as CUDA reserves far more
    threads     of torch
    """

    device: str
    seconds: float
    memory_mib: float | None
    threads: int


@dataclass
class Outcome:
    """events  all that were received, in order
    ended   "" or how the process ended otherwise: "timeout" or "out of memory" or "died"
    why     in words
    during  the contender that was at work then
    """

    events: list[Event] = field(default_factory=list)
    ended: str = ""
    why: str = ""
    during: str | None = None


@cache
def _context() -> Any:
    # The server is a new interpreter: it finds the packages of the checkout by its environment alone.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of compilers beside the clock
    # A contender that was stopped has not tidied up. The resource tracker does; its warning is silenced.
    ignore = "ignore:resource_tracker"
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), ignore]))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.preload"])
    return context


def supervise(
    task: Callable[..., Iterator[Event]],
    arguments: tuple[Any, ...],
    limits: Limits,
    report: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Run `task(device, *arguments)` in a process of its own and gather its events."""
    receiver, sender = _context().Pipe(duplex=False)
    process = _context().Process(target=_child, args=(sender, task, arguments, limits), daemon=True)
    process.start()
    sender.close()
    outcome, patience, doing = Outcome(), STARTING, "start"
    try:
        while True:
            if not receiver.poll(patience):
                outcome.ended, outcome.why = "timeout", f"{doing} took more than {patience:.0f} s"
                return outcome
            name, payload = receiver.recv()
            if name == "done":
                outcome.during = None
                process.join(STARTING)  # it tidies up; killed now, it would leave semaphores behind
                return outcome
            if name == "begin":
                outcome.during, doing, patience = payload
                report(f"{outcome.during or ''} {doing}".strip())
            elif name == "crashed":
                outcome.ended, outcome.why = "failed", payload
                return outcome
            outcome.events.append((name, payload))
    except EOFError:
        process.join()
        outcome.ended, outcome.why = _death(process.exitcode)
        return outcome
    finally:
        receiver.close()
        if process.is_alive():
            process.kill()
        process.join()


def _death(exitcode: int | None) -> tuple[str, str]:
    code = exitcode or 0
    word = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    # The kernel kills, and C++ aborts where nothing catches std::bad_alloc.
    memory = code in (-signal.SIGKILL, -signal.SIGABRT)
    return ("out of memory", f"the process was ended by {word}") if memory else ("died", f"the process ended by {word}")


def _child(sender: Connection, task: Any, arguments: tuple, limits: Limits) -> None:
    import torch

    from .device import opened

    with open(os.devnull, "w") as nothing:  # peers print as they compile
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    torch.set_num_threads(limits.threads)
    if limits.memory_mib is not None:
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        most = held + int(limits.memory_mib * 2**20)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    try:
        with opened(limits.device) as device:
            for event in task(device, *arguments):
                sender.send(event)
        sender.send(("done", None))
    except Exception as error:
        sender.send(("crashed", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"))


def available_mib() -> float:
    """Memory that new processes can have (Linux)."""
    return int(Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()[0]) / 1024
