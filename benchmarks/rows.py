"""From the store to the rows of the CSV: one for each cell and contender, with everything that is derived from seconds."""

from __future__ import annotations

import csv
import json
import statistics
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from .cells import Cell
from .problems import PROBLEMS
from .store import Store

# What one e^t costs in lane operations: the instructions of exp_over in csrc/cpu/simd/math.h, AVX-512.
EXP = 13
# Below, our core may keep the scores between its passes, and compute a product less than is counted.
RECOMPUTED = 4096


@dataclass(frozen=True)
class Row:
    """seconds, p20, p80  median and percentiles of the rounds
    ratio  seconds over those of ours
    gflops  of the flops that the mathematics needs
    fraction  of the measured peak of torch's matrix product
    peak_mib  growth of a process of its own
    value_difference, gradient_difference  from ours at full size, where pairs are skipped
    """

    problem: str
    N: int
    D: int
    dtype: str
    contender: str
    status: str
    why: str
    seconds: float | None
    p20: float | None
    p80: float | None
    rounds: int
    ratio: float | None
    gflops: float | None
    fraction: float | None
    memory_status: str
    peak_mib: float | None
    value_error: float | None
    gradient_error: float | None
    checked_rows: int | None
    value_difference: float | None
    gradient_difference: float | None
    when: str
    commit: str
    cpu: str
    level: str
    simd: str
    threads: int
    torch: str
    jessl_kernels: str
    python: str


@dataclass(frozen=True)
class Peaks:
    """Of this machine, from the store, in flops per second.

    product  torch's matrix product of 4096³ on the run's threads, median of all that stood between the runs
    one_thread  the same on one thread
    best  the best rate of our kernels in any cell of RECOMPUTED rows or more, or `product` if that is more
    """

    product: float
    products: int
    one_thread: float
    best: float
    best_of: str

    @property
    def lanes(self) -> float:
        """Lane operations per second on all threads: a multiply-add of one lane is two flops. By the best rate."""
        return self.best / 2


def peaks(store: Store) -> Peaks:
    products, machine = store.products(), store.setting["machine"]
    flops = 2 * 4096**3
    product = flops / statistics.median(products)
    one_thread = flops / statistics.median(machine["one_thread"])
    best, best_of = product, "torch's matrix product"
    for cell in store.cells.values():
        # Ours alone: a tree leaves pairs out, and would seem to compute faster than any machine.
        seconds = cell["results"].get("ours", {}).get("seconds")
        if seconds and cell["N"] >= RECOMPUTED and _flops(cell) / statistics.median(seconds) > best:
            best, best_of = _flops(cell) / statistics.median(seconds), f"ours, `{cell['key']}`"
    return Peaks(product, len(products), one_thread, best, best_of)


def roof_seconds(problem: str, N: int, D: int, known: Peaks) -> float:
    """What a density would take at the best rate in few dimensions, where e^t and differences are the work.

    N²/2 pairs, each one e^t and 2D lane operations for the value; two e^t and 8D + 4 with the gradient.
    """
    each = EXP + 2 * D if problem == "kde_value" else 2 * EXP + 8 * D + 4
    return N * N / 2 * each / known.lanes


def rows(store: Store) -> list[Row]:
    """In the order of problem, N, D."""
    known, same = peaks(store), store.setting["same"]
    found = []
    for cell in store.cells.values():
        ours = cell["results"].get("ours", {})
        base = statistics.median(ours["seconds"]) if ours.get("seconds") else None
        for name, result in cell["results"].items():
            seconds = sorted(result["seconds"]) if result["status"] == "ok" else []
            median = statistics.median(seconds) if seconds else None
            rate = _flops(cell) / median if median else None
            found.append(
                Row(
                    cell["problem"],
                    cell["N"],
                    cell["D"],
                    "float32",
                    name,
                    result["status"],
                    result.get("why", result.get("memory_why", "")),
                    median,
                    percentile(seconds, 0.2),
                    percentile(seconds, 0.8),
                    len(seconds),
                    median / base if median and base else None,
                    rate / 1e9 if rate else None,
                    rate / known.product if rate else None,
                    result.get("memory_status", "ok" if "peak_mib" in result else ""),
                    result.get("peak_mib"),
                    result.get("value_error"),
                    result.get("gradient_error"),
                    result.get("checked_rows"),
                    result.get("value_difference"),
                    result.get("gradient_difference"),
                    cell["when"],
                    *(same[key] for key in ("commit", "cpu", "level", "simd", "threads")),
                    *(same[key] for key in ("torch", "jessl_kernels", "python")),
                )
            )
    return sorted(found, key=lambda row: (list(PROBLEMS).index(row.problem), row.N, row.D))


def percentile(ordered: list[float], share: float) -> float | None:
    """By linear interpolation between the ordered numbers; None if there are none."""
    if not ordered:
        return None
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])


def write_csv(found: list[Row], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        for row in found:
            writer.writerow({key: f"{v:.6g}" if isinstance(v, float) else v for key, v in asdict(row).items()})


def write_json(store: Store, found: list[Row], path: Path) -> None:
    content = {"setting": store.setting, "peaks": asdict(peaks(store)), "rows": [asdict(row) for row in found]}
    path.write_text(json.dumps(content, indent=1) + "\n")


def _flops(cell: dict) -> float:
    return Cell(cell["problem"], cell["N"], cell["D"], ()).flops
