"""The processes of a run: one checks and times the contenders of a cell, one weighs a contender, one rates the device.

Each function is a generator of events, (name, payload), which `processes.supervise` receives as they happen: so what was
found before a process dies, or is stopped, is not lost.

    ("begin", (contender, what it does, longest it may take))    then the clock of the limit starts again
    ("error", (contender, value error, gradient error or None, rows))
    ("difference", (contender, of the value, of the gradient))    at full size, from ours, where a problem is skipped in
    ("seconds", (contender, seconds))
    ("failed", (contender, status, why))                          this contender is out; the others go on
    ("product", flops a second)  ("peak_bytes", …)  ("device", (name, rates))
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

import jessl_kernels as jk

from .cells import Cell
from .contenders import Contender, NotPossible, contenders
from .device import Cpu
from .problems import PROBLEMS, Problem, errors, evaluate, in_double
from .processes import Event

# Errors against fp64 are taken at the cell's own N up to here, where the fp64 matrix form takes seconds; beyond at fewer rows,
# and the value at full size is judged by strips in plain torch.
CHECKED_ROWS, CHECKED_IF_LARGER = 4096, 1024
DIFFERENT_AT_FULL_SIZE = 1e-3
STRIP_BYTES = 1 << 26
# Errors of value and gradient beyond which something else was computed. fp32 rounds scores up to 1/τ = 10 by 1e-6. bf16 keeps
# 8 bits, and the matrix form rounds its scores to it. TF32, of rivals on a GPU, keeps 11 bits: scores of 10 are off by 4e-3.
WRONG = {"float32": (1e-4, 1e-4), "bfloat16": (2e-2, 5e-2), "tf32": (1e-2, 2e-2)}
WRONG_OF_OURS = {"float32": (1e-4, 1e-4), "bfloat16": (1e-3, 2e-2)}
SLOW = 3.0  # seconds; such a call needs no warm-up beside its own length, and is timed once
# Sending an event wakes the supervisor, which takes a core for 0.2 ms. So a cell whose calls are all shorter than this many
# seconds sends what it timed at its end.
QUICK = 0.02
# Python itself takes some tens of calls until it runs a function at its speed.
MOST_ROUNDS, FEWEST_ROUNDS = 200, 3
MIDDLING = 1024  # rows from which a product stands between the rounds: it takes longer than all of a smaller cell
COMPILING = 120.0  # seconds that compiling, or the truth in fp64, may take beyond the limit of one call
WARM_UP_ROWS = 256


def rate_device(device: Cpu, limit: float, rates: bool) -> Iterator[Event]:
    yield "begin", (None, "rates of the device", limit + COMPILING)
    yield "device", (device.name, device.bare_rates() if rates else {})


def time_cell(device: Cpu, cell: Cell, names: tuple[str, ...], box: float, limit: float) -> Iterator[Event]:
    """Errors of each contender, then seconds of all that are right, interleaved, for about `box` seconds."""
    problem, who = PROBLEMS[cell.problem], contenders(cell.problem, device.kind)
    functions: dict[str, Callable[..., Tensor]] = {}
    yield from _check(device, cell, problem, {name: who[name] for name in names}, functions, limit)
    batches = _batches(device, cell, cell.N)
    calls = {name: partial(evaluate, problem, function, batches) for name, function in functions.items()}
    first: dict[str, float] = {}
    if device.kind == "cuda":  # torch's allocator knows what a call took; on a CPU that takes a process of its own
        for name, call in calls.items():
            yield from _weigh(device, name, call, limit + COMPILING * who[name].compiles)
    yield from _first(device, cell, problem, batches, calls, first, limit)
    for name in calls:
        if first[name] > SLOW:
            yield "seconds", (name, first[name])
    timed = _interleaved(device, cell, calls, rounds(first, box), limit)
    if device.kind == "cpu" and max(first.values(), default=SLOW) < QUICK:
        yield "begin", (None, "timing", limit + box)
        yield from [event for event in timed if event[0] != "begin"]
    else:
        yield from timed


def _batches(device: Cpu, cell: Cell, N: int) -> list[Tensor]:
    return [device.put(t, getattr(torch, cell.dtype)) for t in PROBLEMS[cell.problem].batches(N, cell.D)]


def _check(
    device: Cpu,
    cell: Cell,
    problem: Problem,
    who: dict[str, Contender],
    functions: dict[str, Callable[..., Tensor]],
    limit: float,
) -> Iterator[Event]:
    """Enter into `functions` those whose value and gradient are right."""
    checked = cell.N if cell.N <= CHECKED_ROWS else CHECKED_IF_LARGER
    batches = _batches(device, cell, checked)
    yield "begin", (None, "fp64", limit + COMPILING)
    truth = in_double(problem, batches)
    for name, contender in who.items():
        yield "begin", (name, "check", limit + COMPILING * contender.compiles)
        try:
            function = contender.make()
            found = None if contender.products else evaluate(problem, function, batches)
        except ImportError as error:
            yield "failed", (name, "not installed", str(error).splitlines()[0])
            continue
        except Exception as error:
            yield "failed", (name, *_reason(device, error))
            continue
        if found is not None:
            value_error, gradient_error = errors(found, truth)
            yield "error", (name, value_error, gradient_error, checked)
            most = _wrong(device, cell, name)
            if not (value_error < most[0] and (gradient_error or 0.0) < most[1]):
                gradient = "" if gradient_error is None else f", of the gradient {gradient_error:.1e}"
                yield "failed", (name, "wrong", f"error of the value {value_error:.1e}{gradient}")
                continue
        functions[name] = function


def _wrong(device: Cpu, cell: Cell, name: str) -> tuple[float, float]:
    if name == "ours":
        return WRONG_OF_OURS[cell.dtype]
    return WRONG["tf32" if (device.kind, cell.dtype) == ("cuda", "float32") else cell.dtype]


def _first(
    device: Cpu,
    cell: Cell,
    problem: Problem,
    batches: list[Tensor],
    calls: dict[str, Callable[[], Any]],
    first: dict[str, float],
    limit: float,
) -> Iterator[Event]:
    """Seconds of a first call at full size, whose value is judged; who fails leaves `calls`."""
    yield "begin", (None, "value by strips", limit + COMPILING)
    judge = _judged(device, cell, problem, batches)
    who = contenders(cell.problem, device.kind)
    ours: Any = None
    for name, call in list(calls.items()):
        yield "begin", (name, "first call", limit + COMPILING * who[name].compiles)
        try:
            if device.kind == "cuda" or who[name].compiles:
                float(call()[0])  # and waited for
            start = time.perf_counter()
            answer = call()
            value, first[name] = float(answer[0]), time.perf_counter() - start
        except Exception as error:
            del calls[name]
            yield "failed", (name, *_reason(device, error))
            continue
        if problem.skips:
            ours = ours or answer
            yield "difference", (name, *errors(answer, ours))
        most = max(DIFFERENT_AT_FULL_SIZE, _wrong(device, cell, name)[0])
        if judge is not None and not who[name].products and not abs(value - judge) <= most * max(1.0, abs(judge)):
            del calls[name], first[name]
            yield "failed", (name, "wrong", f"value {value:.6g} at full size, should be {judge:.6g}")


def _judged(device: Cpu, cell: Cell, problem: Problem, batches: list[Tensor]) -> float | None:
    """The value by other code than our kernels': strips in plain torch. None where the check had the full size."""
    if cell.N <= CHECKED_ROWS or problem.skips:
        return None
    wide = cell.flops <= device.exact
    try:
        with jk.use_backend("chunked", workspace=STRIP_BYTES), torch.no_grad():
            return float(problem.ours(*(t.double() if wide else t.float() for t in batches)))
    except torch.OutOfMemoryError:
        return None
    finally:
        device.forget()


def _interleaved(
    device: Cpu, cell: Cell, calls: dict[str, Callable[[], Any]], counts: dict[str, int], limit: float
) -> Iterator[Event]:
    """Seconds of each contender in as many rounds as `counts` has for it, spread over all rounds."""
    order, most = random.Random(cell.N), max(counts.values(), default=0)
    for round_ in range(most):
        if round_ == 0 and cell.N >= MIDDLING:
            yield "begin", (None, "product", limit + COMPILING)  # not on the clock of the contender before it
            for _ in range(1 if device.kind == "cpu" else 5):
                yield "product", device.product_rate(cell.dtype)
        # Who comes before leaves caches and threads in some state; in random order nobody always has the same one before it.
        for name in order.sample(list(calls), len(calls)):
            if round_ * counts[name] // most < (round_ + 1) * counts[name] // most:
                yield "begin", (name, "timing", limit)
                try:
                    yield "seconds", (name, device.seconds(calls[name]))
                except Exception as error:
                    counts[name] = 0
                    yield "failed", (name, *_reason(device, error))


def rounds(first: dict[str, float], box: float) -> dict[str, int]:
    """How many rounds each contender takes part in, by the seconds of its first call: of the fast ones each fills the same
    share of the box, so that one whose rivals are slow is not judged by three calls; of a slow one the first call counts."""
    share = box / max(1, sum(seconds <= SLOW for seconds in first.values()))
    return {
        name: max(FEWEST_ROUNDS, min(MOST_ROUNDS, int(share / seconds))) if seconds <= SLOW else 0
        for name, seconds in first.items()
    }


def weigh(device: Cpu, cell: Cell, name: str, limit: float) -> Iterator[Event]:
    """Growth of this process beyond its inputs and a small warm-up, in one call."""
    problem, contender = PROBLEMS[cell.problem], contenders(cell.problem, device.kind)[name]
    batches = _batches(device, cell, cell.N)
    yield "begin", (name, "memory", limit + COMPILING * contender.compiles)
    try:
        function = contender.make()
        # A compiler compiles for each shape, and its memory is not the contender's.
        rows = cell.N if contender.compiles else min(WARM_UP_ROWS, cell.N)
        evaluate(problem, function, _batches(device, cell, rows))
    except Exception as error:
        yield "failed", (name, *_reason(device, error))
        return
    yield from _weigh(device, name, partial(evaluate, problem, function, batches), limit)


def _weigh(device: Cpu, name: str, call: Callable[[], Any], limit: float) -> Iterator[Event]:
    yield "begin", (name, "memory", limit)
    try:
        yield "peak_bytes", (name, device.peak_bytes(call))
    except Exception as error:
        yield "failed", (name, *_reason(device, error))


def _reason(device: Cpu, error: BaseException) -> tuple[str, str]:
    """Status and words. What a lost device answers to everything after it ends the process, and with it the contender."""
    text = str(error).strip() or type(error).__name__
    if any(sign in text for sign in ("illegal memory access", "device-side assert", "misaligned address", "Xid")):
        raise SystemExit(3) from error
    device.forget()
    if isinstance(error, NotPossible):
        return "not possible", text
    text = text.rpartition("DefaultCPUAllocator: ")[2].partition(" Error code")[0].splitlines()[0][:200]
    signs = ("allocate", "bad_alloc", "not enough memory", "out of memory")
    out_of_memory = isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)
    return ("out of memory" if out_of_memory else "failed"), text
