"""From the log to the rows of results.csv: one for each cell and contender, with everything that is derived from seconds.

The CSV is all that report and charts read, so a committed one is rendered again without a run.
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .contenders import contender
from .log import Log
from .problems import PROBLEMS

# Below so many rows the CPU's kernels may keep the scores between their sweeps, and compute one product fewer than counted.
RECOMPUTED = 4096
MACHINE = "machine"  # the problem of the rows that hold rates of bare operations


@dataclass(frozen=True)
class Row:
    """seconds, p20, p80  median and percentiles of the rounds
    ratio     seconds over those of ours
    rate      flops a second: ours of those that the mathematics needs in O(N·D) memory, others' of those where scores are kept;
              of the machine: of the bare operation
    fraction  rate over that of the library's product, or of ours where that is the best rate seen; from RECOMPUTED rows on
    peak_mib  beyond the inputs: growth of a process of its own, or of torch's allocator on a GPU
    value_difference, gradient_difference  from ours at full size, where pairs are skipped
    """

    problem: str
    N: int
    D: int
    dtype: str
    contender: str
    status: str
    why: str = ""
    seconds: float | None = None
    p20: float | None = None
    p80: float | None = None
    rounds: int = 0
    ratio: float | None = None
    rate: float | None = None
    fraction: float | None = None
    memory_status: str = ""
    peak_mib: float | None = None
    value_error: float | None = None
    gradient_error: float | None = None
    checked_rows: int | None = None
    value_difference: float | None = None
    gradient_difference: float | None = None
    when: str = ""
    commit: str = ""
    device: str = ""
    threads: int = 0
    torch: str = ""
    jessl_kernels: str = ""
    python: str = ""


def rows(log: Log) -> list[Row]:
    """In the order of problem, dtype, N, D; rates of the machine first."""
    shared = {key: log.same[key] for key in ("commit", "device", "threads", "torch", "jessl_kernels", "python")}
    roofs = {dtype: _roof(log, dtype) for dtype in {cell["dtype"] for cell in log.cells.values()}}
    found = [
        Row(MACHINE, 0, 0, "", name, "ok", rate=rate, **shared)
        for name, rate in {**log.rates, **{f"best {d}": rate for d, rate in sorted(roofs.items()) if rate}}.items()
    ]
    for cell in log.cells.values():
        ours = cell["results"].get("ours", {}).get("seconds")
        for name, result in cell["results"].items():
            found.append(_row(cell, name, result, statistics.median(ours) if ours else None, roofs, shared))
    found += [Row(*cell, "ours", "not reached", **shared) for cell in log.left]
    order = [MACHINE, *PROBLEMS]
    return sorted(found, key=lambda row: (order.index(row.problem), row.dtype != "float32", row.N, row.D))


def _row(cell: Any, name: str, result: Any, base: float | None, roofs: dict[str, float | None], shared: Any) -> Row:
    seconds = sorted(result["seconds"]) if result["status"] == "ok" else []
    median = statistics.median(seconds) if seconds else None
    problem, own = PROBLEMS[cell["problem"]], contender(cell["problem"], name).products
    flops = problem.flops(cell["N"], cell["D"], kept=name != "ours")
    if own:  # it computes something else, and is not compared
        flops, base = flops / problem.kept * own, None
    rate = flops / median if median else None
    roof, peak = roofs[cell["dtype"]], result.get("peak_bytes")
    same = {key: cell[key] for key in ("problem", "N", "D", "dtype", "when")}
    errors = ("value_error", "gradient_error", "checked_rows", "value_difference", "gradient_difference")
    return Row(
        contender=name,
        status=result["status"],
        why=result.get("why", result.get("memory_why", "")),
        seconds=median,
        p20=percentile(seconds, 0.2),
        p80=percentile(seconds, 0.8),
        rounds=len(seconds),
        ratio=median / base if median and base else None,
        rate=rate,
        fraction=rate / roof if rate and roof and cell["N"] >= RECOMPUTED else None,
        memory_status=result.get("memory_status", "ok" if peak is not None else ""),
        peak_mib=None if peak is None else peak / 2**20,
        **same,
        **{key: result.get(key) for key in errors},
        **shared,
    )


def _roof(log: Log, dtype: str) -> float | None:
    """The best rate seen: the library's product, median of all that stood between the rounds, or ours where it is above that."""
    products = [rate for cell in log.cells.values() if cell["dtype"] == dtype for rate in cell["product_rates"]]
    rates = [statistics.median(products)] if products else []
    for cell in log.cells.values():
        # Ours alone: a tree leaves pairs out, and would seem to compute faster than any machine.
        seconds = cell["results"].get("ours", {}).get("seconds")
        problem = PROBLEMS[cell["problem"]]
        if seconds and cell["dtype"] == dtype and cell["N"] >= RECOMPUTED and not problem.skips:
            rates.append(problem.flops(cell["N"], cell["D"]) / statistics.median(seconds))
    return max(rates, default=None)


def percentile(ordered: list[float], share: float) -> float | None:
    """By linear interpolation between the ordered numbers; None if there are none."""
    if not ordered:
        return None
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])


def write_csv(found: Iterable[Row], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        for row in found:
            writer.writerow({key: f"{v:.4g}" if isinstance(v, float) else v for key, v in asdict(row).items()})


def read_csv(path: Path) -> list[Row]:
    numbers = {
        field.name: float if "float" in str(field.type) else int
        for field in fields(Row)
        if "str" not in str(field.type)
    }

    def value(name: str, text: str) -> Any:
        if name not in numbers:
            return text
        return numbers[name](text) if text else None

    with path.open(newline="") as file:
        return [Row(**{name: value(name, text) for name, text in line.items()}) for line in csv.DictReader(file)]


def time_text(seconds: float | None) -> str:
    """Three figures with a unit."""
    if seconds is None:
        return "–"
    for unit, parts in (("s", 1), ("ms", 1e3)):
        if seconds * parts >= 0.9995:
            return f"{seconds * parts:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
