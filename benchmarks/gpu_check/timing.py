"""Seconds and bytes of value and gradient: every contender is checked against fp64 first, and who is wrong is not timed.

Within a cell all contenders run in turn, with a matrix product of the library between the rounds: fractions are of the rate
that the library reached under the same clocks. An error or a lack of memory is a row.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import jessl_kernels as jk

from ..problems import PROBLEMS, Problem, errors, evaluate, in_double
from .cells import Cell, cells
from .contenders import Contender, contenders
from .device import Gpu
from .journal import DeviceLost, NotRun, Step, first_lines, is_lost

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
CHECKED_ROWS = 4096  # the fp64 matrix form of more takes too much memory
# Errors of value and gradient beyond which something else was computed. bf16 keeps 8 bits, and the matrix form rounds its
# scores to it; in fp32 rivals use TF32 of 11 bits, which scores of 10 make 4e-3 of (inf-cl, memeff). Ours may not.
WRONG = {"bf16": (2e-2, 5e-2), "fp32": (1e-2, 2e-2)}
WRONG_OF_OURS = {"bf16": (1e-3, 2e-2), "fp32": (1e-5, 1e-4)}
EXACT_WORK = 65536 * 65536 * 256  # N²·D up to which the value at full size has an fp64 truth
STRIP_BYTES = 1 << 28  # a GPU wants larger strips than a cache does
BOX = 0.6  # seconds for the rounds of a cell
CALL_LIMIT = 4.0  # a call that takes longer is timed once
HOPELESS = 12.0  # seconds that a call would take at a tenth of the library's rate: not tried
MOST_ROUNDS, FEWEST_ROUNDS = 30, 3
PRODUCT = 8192


def steps(device: Gpu) -> list[Step]:
    roofs = [Step(f"peak {name}", partial(peak, device, name)) for name in ("bf16", "fp32", "tf32")]
    return roofs + [Step(cell.name, partial(measure, device, cell)) for cell in cells(device.dry)]


def limits(cell: Cell, name: str) -> tuple[float, float]:
    return (WRONG_OF_OURS if name == "ours" else WRONG)[cell.dtype]


class Product:
    """The library's product of two square matrices, and its seconds as they come."""

    def __init__(self, device: Gpu, name: str):
        self.device, self.tf32 = device, name == "tf32"
        self.side = 64 if device.dry else PRODUCT
        dtype = torch.bfloat16 if name == "bf16" else torch.float32
        self.a, self.b = (torch.full((self.side, self.side), 0.5, dtype=dtype, device=device.where) for _ in range(2))
        self.out = torch.empty_like(self.a)
        self.seconds: list[float] = []

    def time(self) -> None:
        before = torch.backends.cuda.matmul.fp32_precision
        torch.backends.cuda.matmul.fp32_precision = "tf32" if self.tf32 else "ieee"
        try:
            took = self.device.seconds(lambda: torch.mm(self.a, self.b, out=self.out))
        finally:
            torch.backends.cuda.matmul.fp32_precision = before
        if took is not None:
            self.seconds.append(took)

    @property
    def rate(self) -> float | None:
        """Flops a second."""
        return 2 * self.side**3 / statistics.median(self.seconds) if self.seconds else None


def peak(device: Gpu, name: str) -> dict[str, Any]:
    product = Product(device, name)
    for _ in range(8):
        product.time()
    return {"flops_per_second": product.rate}


def measure(device: Gpu, cell: Cell) -> dict[str, Any]:
    """A row for every contender."""
    problem, product = PROBLEMS[cell.problem], Product(device, cell.dtype)
    rows: dict[str, dict[str, Any]] = {}
    functions = _checked(device, cell, problem, rows)
    given = [device.put(t, DTYPES[cell.dtype]) for t in problem.batches(cell.N, cell.D)]
    product.time()
    product.time()
    calls = {name: partial(evaluate, problem, function, given) for name, function in functions.items()}
    truth, how = _value(device, cell, problem, given)
    first = {name: _first(device, cell, name, calls[name], truth, rows[name], product) for name in calls}
    seconds = {name: [took] for name, took in first.items() if took is not None and took > CALL_LIMIT}
    seconds |= _rounds(device, {name: calls[name] for name in calls if _may(rows[name], first[name])}, rows, product)
    for name, row in rows.items():
        row.update(_figures(cell, problem, contenders(cell.problem)[name], seconds.get(name, []), product.rate))
    result = {"problem": cell.problem, "N": cell.N, "D": cell.D, "dtype": cell.dtype, "rows": list(rows.values())}
    ours = rows["ours"]
    if ours["status"] in ("wrong", "failed"):
        return {**result, "value_truth": how, "status": "failed", "why": f"ours, {ours['status']}: {ours['why']}"}
    return {**result, "value_truth": how}


def _may(row: dict[str, Any], took: float | None) -> bool:
    return row["status"] == "ok" and (took is None or took <= CALL_LIMIT)


def guarded(device: Gpu, row: dict[str, Any], do: Callable[[], Any]) -> Any:
    """What `do` returns; an error becomes the status of the row, and the result None."""
    try:
        return do()
    except ImportError as error:
        row.update(status="not installed", why=first_lines(error, 1))
    except NotRun as why:
        row.update(status="left out", why=str(why))
    except torch.cuda.OutOfMemoryError as error:
        row.update(status="out of memory", why=first_lines(error, 1)[:160])
    except Exception as error:
        if is_lost(error):
            raise DeviceLost(f"{row['label']}: {first_lines(error)}") from error
        row.update(status="failed", why=f"{type(error).__name__}: {first_lines(error, 2)}")
    device.forget()
    return None


def _checked(device: Gpu, cell: Cell, problem: Problem, rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The functions of those whose value and gradient are right."""
    N, given, truth = _truth(device, cell, problem)
    functions: dict[str, Any] = {}
    for name, contender in contenders(cell.problem).items():
        row = rows[name] = {"contender": name, "label": contender.label, "status": "ok", "why": ""}
        if contender.compiles and not cell.compilers:
            row.update(status="left out", why="compiles for each shape: in the foremost cells alone")
            continue
        function = guarded(device, row, contender.make)
        if function is None:
            continue
        if contender.products is None:
            found = guarded(device, row, partial(evaluate, problem, function, given))
            if found is None:
                continue
            of_value, of_gradient = errors(found, truth)
            row.update(checked_rows=N, value_error=of_value, gradient_error=of_gradient)
            most_value, most_gradient = limits(cell, name)
            if not (of_value < most_value and (of_gradient or 0.0) < most_gradient):
                row.update(status="wrong", why=f"error of the value {of_value:.1e}, of the gradient {of_gradient:.1e}")
                continue
        functions[name] = function
    return functions


def _truth(device: Gpu, cell: Cell, problem: Problem) -> tuple[int, list[Tensor], tuple[Tensor, list[Tensor]]]:
    """Rows, batches and the fp64 matrix form of them: at few rows, but where something compiles for a shape at its own."""
    for N in (cell.N if cell.compilers else min(cell.N, CHECKED_ROWS), CHECKED_ROWS):
        given = [device.put(t, DTYPES[cell.dtype]) for t in problem.batches(N, cell.D)]
        try:
            return N, given, in_double(problem, given)
        except torch.cuda.OutOfMemoryError:
            device.forget()
    raise NotRun(f"the fp64 matrix form of {CHECKED_ROWS} rows does not fit into memory")


def _value(device: Gpu, cell: Cell, problem: Problem, given: list[Tensor]) -> tuple[float, str]:
    """The value at full size by other code than the kernels': strips in plain torch, in fp64 where that takes a second."""
    wide = cell.N * cell.N * cell.D <= EXACT_WORK
    with jk.use_backend("chunked", workspace=STRIP_BYTES), torch.no_grad():
        value = float(problem.ours(*(t.double() if wide else t.float() for t in given)))
    device.forget()
    return value, "strips in fp64" if wide else "strips in fp32"


def _first(
    device: Gpu, cell: Cell, name: str, call: Callable[[], Any], truth: float, row: dict[str, Any], product: Product
) -> float | None:
    """Seconds of one call after a call that compiles; its value is held against the truth, its memory measured."""
    flops = (contenders(cell.problem)[name].products or PROBLEMS[cell.problem].products) * 2 * cell.N**2 * cell.D
    if product.rate and flops / (0.1 * product.rate) > HOPELESS:
        row.update(status="left out", why=f"{flops:.1e} flops may take more than {HOPELESS:.0f} s")
        return None
    found = guarded(device, row, call)
    if found is None:
        return None
    value = float(found[0])
    del found
    if contenders(cell.problem)[name].products is None:
        row["full_size_error"] = abs(value - truth) / max(1.0, abs(truth))
        if not row["full_size_error"] < limits(cell, name)[0]:
            row.update(status="wrong", why=f"value {value:.6g} at full size, the truth is {truth:.6g}")
            return None
    row["peak_bytes"] = guarded(device, row, lambda: device.peak_bytes(call))
    return guarded(device, row, lambda: device.seconds(call)) if row["status"] == "ok" else None


def _rounds(
    device: Gpu, calls: dict[str, Callable[[], Any]], rows: dict[str, dict[str, Any]], product: Product
) -> dict[str, list[float]]:
    """All in turn, with a product between the rounds, for about `BOX` seconds of the device."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    spent, done = 0.0, 0
    while done < (1 if device.dry else MOST_ROUNDS) and (done < FEWEST_ROUNDS or spent < BOX):
        begun = time.monotonic()
        product.time()
        for name, call in calls.items():
            if rows[name]["status"] != "ok":
                continue
            took = guarded(device, rows[name], partial(device.seconds, call))
            if took is not None:
                seconds[name].append(took)
        spent, done = spent + time.monotonic() - begun, done + 1
    return seconds


def _figures(
    cell: Cell, problem: Problem, contender: Contender, seconds: list[float], rate: float | None
) -> dict[str, Any]:
    """Median and 20th to 80th percentile; the share of the library's rate on the flops that the mathematics needs."""
    if not seconds:
        return {"seconds": None, "p20": None, "p80": None, "rounds": 0, "fraction": None}
    ordered = sorted(seconds)
    median = statistics.median(ordered)
    p20, p80 = (ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.2, 0.8))
    flops = (contender.products or problem.products) * 2 * cell.N**2 * cell.D
    fraction = flops / median / rate if rate else None
    return {"seconds": median, "p20": p20, "p80": p80, "rounds": len(ordered), "fraction": fraction}
