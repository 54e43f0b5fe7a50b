"""The run: cell after cell until the grid or the time is at an end."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from .cells import Cell
from .log import Log
from .measure import time_cell, weigh
from .processes import Limits, supervise

Report = Callable[[str], None]
HOPELESS = 1.5  # times the limit: what is estimated to take more is not tried
LARGE = 4096  # rows from which the memory of a rival grows as the number of pairs
FINAL = ("out of memory", "timeout")


def run(
    log: Log, cells: list[Cell], limits: Limits, *, box: float, deadline: float, report: Report, done: Report
) -> list[Cell]:
    """Measure the cells that the log lacks. Returns those for which no time was left (time.monotonic() is the clock)."""
    left = []
    for cell in cells:
        if cell.key in log.cells:
            continue
        if time.monotonic() > deadline:
            left.append(cell)
            continue
        log.add(run_cell(cell, log, limits, box=box, report=report))
        done(cell.key)
    return left


def run_cell(cell: Cell, log: Log, limits: Limits, *, box: float, report: Report) -> dict[str, Any]:
    """Check, time, and weigh the contenders of a cell."""
    started = time.monotonic()
    limits = replace(limits, seconds=cell.limit or limits.seconds)
    results: dict[str, dict[str, Any]] = {name: {"status": "ok", "seconds": []} for name in cell.contenders}
    for name in cell.contenders:
        hopeless = why_hopeless(cell, name, log, limits)
        if hopeless:
            results[name].update(status="skipped", why=hopeless)
    products = _time(cell, results, limits, box, report)
    for name, result in results.items():
        if result["status"] == "ok" and limits.device == "cpu":
            _weigh(cell, name, result, limits, report)
    return {
        "key": cell.key,
        "problem": cell.problem,
        "N": cell.N,
        "D": cell.D,
        "dtype": cell.dtype,
        "results": results,
        "product_rates": products,
        "took": round(time.monotonic() - started, 2),
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _time(cell: Cell, results: dict[str, Any], limits: Limits, box: float, report: Report) -> list[float]:
    """Fill in errors and seconds; a contender with which the process ends is noted, and the others start again."""
    while names := tuple(name for name in results if results[name]["status"] == "ok"):
        arguments = (cell, names, box, limits.seconds)
        outcome = supervise(time_cell, arguments, limits, lambda doing: report(f"{cell.key}  {doing}"))
        products = []
        for name in names:
            results[name]["seconds"] = []
        for event, payload in outcome.events:
            if event == "error":
                name, value_error, gradient_error, rows = payload
                results[name].update(value_error=value_error, gradient_error=gradient_error, checked_rows=rows)
            elif event == "difference":
                results[payload[0]].update(value_difference=payload[1], gradient_difference=payload[2])
            elif event == "seconds" and payload[1] is not None:
                results[payload[0]]["seconds"].append(payload[1])
            elif event == "failed":
                name, status, why = payload
                results[name].update(status=status, why=why)
            elif event == "peak_bytes":
                results[payload[0]]["peak_bytes"] = payload[1]
            elif event == "product" and payload is not None:
                products.append(payload)
        if not outcome.ended:
            return products
        # Where no contender was at work the truth failed, or the device is lost: then the cell has no results.
        for name in [outcome.during] if outcome.during else names:
            results[name].update(status=outcome.ended, why=outcome.why, seconds=[])
    return []


def _weigh(cell: Cell, name: str, result: dict[str, Any], limits: Limits, report: Report) -> None:
    outcome = supervise(weigh, (cell, name, limits.seconds), limits, lambda doing: report(f"{cell.key}  {doing}"))
    for event, payload in outcome.events:
        if event == "peak_bytes":
            result["peak_bytes"] = payload[1]
        elif event == "failed":
            result.update(memory_status=payload[1], memory_why=payload[2])
    if outcome.ended:
        result.update(memory_status=outcome.ended, memory_why=outcome.why)


def why_hopeless(cell: Cell, name: str, log: Log, limits: Limits) -> str:
    """Why this contender cannot finish, by what it did in this problem at no more rows and dimensions; "" if it may."""
    seconds, memory, nearest = 0.0, 0.0, -1.0
    for other in log.cells.values():
        result = other["results"].get(name)
        if result is None or (other["problem"], other["dtype"]) != (cell.problem, cell.dtype):
            continue
        if other["N"] > cell.N or other["D"] > cell.D:
            continue
        if result["status"] in FINAL:
            return f"{result['status']} at N = {other['N']:,}, D = {other['D']} already"
        if result["seconds"] and other["N"] ** 2 * other["D"] > nearest:
            nearest = other["N"] ** 2 * other["D"]
            pairs = (cell.N / other["N"]) ** 2
            seconds = statistics.median(result["seconds"]) * pairs * cell.D / other["D"]
            memory = result.get("peak_bytes", 0) / 2**20 * pairs if name != "ours" and other["N"] >= LARGE else 0.0
    if limits.memory_mib is not None and memory > HOPELESS * limits.memory_mib:
        return f"out of memory: estimated {memory / 1024:.0f} GiB, limit {limits.memory_mib / 1024:.0f} GiB"
    return f"estimated {seconds:.0f} s, limit {limits.seconds:.0f} s" if seconds > HOPELESS * limits.seconds else ""
