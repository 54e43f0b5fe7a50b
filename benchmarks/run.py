"""The run: cell after cell until the grid or the time is at an end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from .cells import Cell
from .measure import peak_memory, time_cell
from .processes import Limits, supervise
from .store import Store

Report = Callable[[str], None]
HOPELESS = 1.5  # times the limit: what is estimated to take longer is not tried
FINAL = ("out of memory", "timeout")


def run(
    store: Store, cells: list[Cell], limits: Limits, *, box: float, deadline: float, report: Report, done: Report
) -> list[Cell]:
    """Measure the cells that the store lacks. Returns those for which no time was left (time.monotonic() is the clock)."""
    left = []
    for cell in cells:
        if cell.key in store.cells:
            continue
        if time.monotonic() > deadline:
            left.append(cell)
            continue
        store.add(run_cell(cell, store, limits, box=box, report=report))
        done(cell.key)
    return left


def run_cell(cell: Cell, store: Store, limits: Limits, *, box: float, report: Report) -> dict[str, Any]:
    """Check, time, and weigh the contenders of a cell."""
    started = time.monotonic()
    limits = replace(limits, seconds=cell.limit or limits.seconds)
    results: dict[str, dict[str, Any]] = {name: {"status": "ok", "seconds": []} for name in cell.contenders}
    for name in cell.contenders:
        hopeless = why_hopeless(cell, name, store, limits.seconds)
        if hopeless:
            results[name].update(status="skipped", why=hopeless)
    products = _time(cell, results, limits, box, report)
    for name, result in results.items():
        if result["status"] == "ok":
            _weigh(cell, name, result, limits, report)
    return {
        "key": cell.key,
        "problem": cell.problem,
        "N": cell.N,
        "D": cell.D,
        "results": results,
        "product_seconds": products,
        "took": round(time.monotonic() - started, 2),
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _time(cell: Cell, results: dict[str, Any], limits: Limits, box: float, report: Report) -> list[float]:
    """Fill in errors and seconds; a contender with which the process ends is noted, and the others start again."""
    while names := tuple(name for name in results if results[name]["status"] == "ok"):
        options = {"box": box, "limit": limits.seconds}
        outcome = supervise(time_cell, (cell, names), options, limits, lambda what: report(f"{cell.key}  {what}"))
        products = []
        for name in names:
            results[name]["seconds"] = []
        for event, payload in outcome.events:
            if event == "error":
                name, value_error, gradient_error, rows = payload
                results[name].update(value_error=value_error, gradient_error=gradient_error, checked_rows=rows)
            elif event == "difference":
                results[payload[0]].update(value_difference=payload[1], gradient_difference=payload[2])
            elif event == "seconds":
                results[payload[0]]["seconds"].append(payload[1])
            elif event == "failed":
                name, status, why = payload
                results[name].update(status=status, why=why)
            elif event == "product":
                products.append(payload)
        if not outcome.ended:
            return products
        # Before any contender began, it was the truth that failed: then nobody can be checked.
        for name in [outcome.during] if outcome.during else names:
            results[name].update(status=outcome.ended, why=outcome.why, seconds=[])
    return []


def _weigh(cell: Cell, name: str, result: dict[str, Any], limits: Limits, report: Report) -> None:
    outcome = supervise(
        peak_memory, (cell, name), {"limit": limits.seconds}, limits, lambda what: report(f"{cell.key}  {what}")
    )
    for event, payload in outcome.events:
        if event == "peak_mib":
            result["peak_mib"] = round(payload, 2)
        elif event == "failed":
            result.update(memory_status=payload[1], memory_why=payload[2])
    if outcome.ended:
        result.update(memory_status=outcome.ended, memory_why=outcome.why)


def why_hopeless(cell: Cell, name: str, store: Store, limit: float) -> str:
    """Why this contender cannot finish, by what it did in this problem at no more rows and dimensions; "" if it may."""
    estimate, nearest = 0.0, -1.0
    for other in store.cells.values():
        result = other["results"].get(name)
        if result is None or other["problem"] != cell.problem or other["N"] > cell.N or other["D"] > cell.D:
            continue
        size = f"N = {other['N']:,}, D = {other['D']}"
        if result["status"] in FINAL:
            return f"{result['status']} at {size} already"
        if result["seconds"] and other["N"] ** 2 * other["D"] > nearest:
            nearest = other["N"] ** 2 * other["D"]
            growth = (cell.N / other["N"]) ** 2 * cell.D / other["D"]
            estimate = sorted(result["seconds"])[len(result["seconds"]) // 2] * growth
    return f"estimated {estimate:.0f} s, limit {limit:.0f} s" if estimate > HOPELESS * limit else ""
