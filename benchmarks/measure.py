"""What runs in a process of its own: check, then time, the contenders of a cell; or the peak memory of one; or the machine.

Each function is a generator of events, (name, payload), which `processes.supervise` receives as they happen: so that what
was found before a process dies, or is stopped, is not lost.

    ("begin", (contender, what it does, longest it may take))    then the clock of the limit starts again
    ("error", (contender, value error, gradient error or None, rows))
    ("difference", (contender, of the value, of the gradient))    at full size, from ours, where a problem is skipped in
    ("seconds", (contender, seconds))
    ("failed", (contender, status, why))                          this contender is out; the others go on
    ("product", seconds)  ("peak_mib", …)  ("machine", …)
"""

from __future__ import annotations

import ctypes
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .cells import Cell
from .contenders import Contender, contenders
from .problems import PROBLEMS, Problem, errors, evaluate, in_double

Event = tuple[str, Any]

# Errors against fp64 are taken at the cell's own N up to here, where the fp64 matrix form takes seconds; beyond at fewer rows,
# and the values at full size are compared with each other.
CHECKED_ROWS, CHECKED_IF_LARGER = 4096, 1024
# fp32 rounds scores up to 1/τ = 10 by 1e-6; what is 1e-4 off computes something else.
WRONG, DIFFERENT_AT_FULL_SIZE = 1e-4, 1e-3
SLOW = 3.0  # seconds; such a call needs no warm-up beside its own length, and is timed once
# An event wakes the process that supervises this one, on a core that the next call wants: 0.2 ms, seen in calls of one or two.
# So a cell whose calls are all shorter than this many seconds tells what it timed at its end.
QUICK = 0.02
# Python itself takes some tens of calls until it runs a function at its speed.
MOST_ROUNDS, FEWEST_ROUNDS = 200, 3
MIDDLING = 1024  # rows from which a product stands between the rounds: it takes longer than all of a smaller cell
PRODUCT = 4096  # the side of the square matrices whose product is the measured peak
COMPILING = 120.0  # seconds that compiling, or the truth in fp64, may take beyond the limit of one call
WARM_UP_ROWS = 256


def time_cell(cell: Cell, names: tuple[str, ...], *, box: float, limit: float) -> Iterator[Event]:
    """Errors of each contender, then seconds of all that are right, interleaved, for about `box` seconds."""
    problem, batches = PROBLEMS[cell.problem], PROBLEMS[cell.problem].batches(cell.N, cell.D)
    functions: dict[str, Any] = {}
    yield from _check(cell, problem, names, functions, limit)
    ours: Any = None
    first: dict[str, float] = {}
    values: dict[str, float] = {}
    for name in list(functions):
        yield "begin", (name, "first call", limit + COMPILING * contenders(cell.problem)[name].compiles)
        try:
            start = time.perf_counter()
            answer = evaluate(problem, functions[name], batches)
            first[name] = time.perf_counter() - start
            values[name] = float(answer[0])
            if contenders(cell.problem)[name].compiles:
                start = time.perf_counter()
                evaluate(problem, functions[name], batches)
                first[name] = time.perf_counter() - start
        except (RuntimeError, MemoryError) as error:
            del functions[name]
            yield "failed", (name, *_reason(error))
            continue
        if problem.skips:
            ours = ours or answer
            yield "difference", (name, *errors(answer, ours))
    judge = values.get("matrix", statistics.median(values.values())) if values else 0.0
    for name, value in values.items():
        if name in functions and not abs(value - judge) <= DIFFERENT_AT_FULL_SIZE * max(1.0, abs(judge)):
            del functions[name]
            yield "failed", (name, "wrong", f"value {value:.6g} at full size, should be {judge:.6g}")
    first = {name: first[name] for name in functions}
    for name in functions:
        if first[name] > SLOW:
            yield "seconds", (name, first[name])
    timed = _interleaved(cell, problem, batches, functions, rounds(first, box), limit)
    if max(first.values(), default=SLOW) < QUICK:
        yield "begin", (None, "timing", limit + box)
        yield from [event for event in timed if event[0] != "begin"]
    else:
        yield from timed


def _interleaved(
    cell: Cell, problem: Problem, batches: list[Tensor], functions: dict[str, Any], counts: dict[str, int], limit: float
) -> Iterator[Event]:
    """Seconds of each contender in as many rounds as `counts` has for it, spread over all rounds."""
    order, most = random.Random(cell.N), max(counts.values(), default=0)
    for round_ in range(most):
        if round_ == 0 and cell.N >= MIDDLING:
            yield "begin", (None, "product", limit + COMPILING)  # not on the clock of the contender before it
            yield "product", product_seconds()
        # Who comes before leaves caches and threads in some state; in random order nobody always has the same one before it.
        for name in order.sample(list(functions), len(functions)):
            if round_ * counts[name] // most < (round_ + 1) * counts[name] // most:
                yield "begin", (name, "timing", limit)
                try:
                    start = time.perf_counter()
                    evaluate(problem, functions[name], batches)
                    yield "seconds", (name, time.perf_counter() - start)
                except (RuntimeError, MemoryError) as error:
                    counts[name] = 0
                    yield "failed", (name, *_reason(error))


def rounds(first: dict[str, float], box: float) -> dict[str, int]:
    """How many rounds each contender takes part in, by the seconds of its first call: of the fast ones each fills the same
    share of the box, so that one whose rivals are slow is not judged by three calls; of a slow one the first call counts."""
    share = box / max(1, sum(seconds <= SLOW for seconds in first.values()))
    return {
        name: max(FEWEST_ROUNDS, min(MOST_ROUNDS, int(share / seconds))) if seconds <= SLOW else 0
        for name, seconds in first.items()
    }


def _check(
    cell: Cell, problem: Problem, names: tuple[str, ...], functions: dict[str, Any], limit: float
) -> Iterator[Event]:
    """Enter into `functions` those whose value and gradient are right."""
    checked = cell.N if cell.N <= CHECKED_ROWS else CHECKED_IF_LARGER
    batches = problem.batches(checked, cell.D)
    yield "begin", (None, "fp64", limit + COMPILING)
    truth = in_double(problem, batches)
    for name in names:
        contender: Contender = contenders(cell.problem)[name]
        yield "begin", (name, "check", limit + COMPILING * contender.compiles)
        try:
            function = contender.make()
            value_error, gradient_error = errors(evaluate(problem, function, batches), truth)
        except ImportError as error:
            yield "failed", (name, "not installed", str(error).splitlines()[0])
            continue
        except (RuntimeError, MemoryError) as error:
            yield "failed", (name, *_reason(error))
            continue
        yield "error", (name, value_error, gradient_error, checked)
        if not (value_error < WRONG and (gradient_error is None or gradient_error < WRONG)):
            gradient = "" if gradient_error is None else f", of the gradient {gradient_error:.1e}"
            yield "failed", (name, "wrong", f"error of the value {value_error:.1e}{gradient}")
            continue
        functions[name] = function


def peak_memory(cell: Cell, name: str, *, limit: float) -> Iterator[Event]:
    """Growth of this process beyond its inputs and a small warm-up, in one call."""
    problem, contender = PROBLEMS[cell.problem], contenders(cell.problem)[name]
    batches = problem.batches(cell.N, cell.D)
    yield "begin", (name, "memory", limit + COMPILING * contender.compiles)
    try:
        function = contender.make()
        # What compiles does so for each shape, and the compiler's memory is not the contender's.
        rows = cell.N if contender.compiles else min(WARM_UP_ROWS, cell.N)
        evaluate(problem, function, problem.batches(rows, cell.D))
        forget_peak()
        before = resident_peak_mib()
        evaluate(problem, function, batches)
        yield "peak_mib", resident_peak_mib() - before
    except (RuntimeError, MemoryError) as error:
        yield "failed", (name, *_reason(error))


def resident_peak_mib() -> float:
    """Of this process alone (Linux): ru_maxrss would begin at what the starting process had held."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def forget_peak() -> None:
    """Set the peak back to what is resident now (Linux), so that making the inputs does not count.

    Freed memory that malloc keeps (up to 32 MiB a block) is given back first: reused, it would not show.
    """
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def product_seconds() -> float:
    """One product of two 4096 × 4096 matrices of fp32, on all of torch's threads."""
    a, b = torch.full((2, PRODUCT, PRODUCT), 0.5)
    out = torch.zeros(PRODUCT, PRODUCT)  # touched, so that no page is faulted in while the clock runs
    start = time.perf_counter()
    torch.mm(a, b, out=out)
    return time.perf_counter() - start


def machine() -> Iterator[Event]:
    """Products on one thread and on all."""
    yield "begin", (None, "machine", COMPILING)
    product_seconds()
    several = [product_seconds() for _ in range(3)]
    torch.set_num_threads(1)
    yield "machine", {"products": several, "one_thread": [product_seconds() for _ in range(3)]}


def _reason(error: RuntimeError | MemoryError) -> tuple[str, str]:
    text = str(error).strip() or type(error).__name__
    text = text.rpartition("DefaultCPUAllocator: ")[2].partition(" Error code")[0].splitlines()[0][:200]
    signs = ("allocate", "bad_alloc", "not enough memory", "out of memory")
    out_of_memory = isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)
    return ("out of memory" if out_of_memory else "failed"), text
