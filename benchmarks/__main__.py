"""`python -m benchmarks`: the README's table. Value and gradient of every loss, ours against the matrix form.

The two sides run in turn in one process, and their medians are compared; peak memory is measured in a process for each. A
side is timed only if its gradient is right. Writes benchmarks/results.csv and prints Markdown.
"""

from __future__ import annotations

import argparse
import csv
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

import jessl_kernels

from .problems import PROBLEMS, gradient_error, value_and_gradient

RESULTS = Path(__file__).with_name("results.csv")
CHECKED_ROWS = 1024  # errors against fp64 are measured at this size
FIELDS = ("loss", "rows", "D", "dtype", "side", "seconds", "p20", "p80", "peak_mib", "gradient_error", "machine")


def machine() -> str:
    """Processor level, threads and versions, for every row."""
    return (
        f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"jessl_kernels {jessl_kernels.__version__}, Python {platform.python_version()}"
    )


def timed(name: str, rows: int, D: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each side, in turn, after one warm-up of both."""
    problem = PROBLEMS[name]
    batches = problem.batches(rows, D)
    seconds: dict[str, list[float]] = {"ours": [], "matrix": []}
    for round_ in range(rounds + 1):
        for side, function in (("ours", problem.ours), ("matrix", problem.matrix)):
            start = time.perf_counter()
            value_and_gradient(function, batches)
            if round_:
                seconds[side].append(time.perf_counter() - start)
    return seconds


def peak_mib(name: str, rows: int, D: int, side: str) -> float:
    """Growth of the peak resident memory of a fresh process, beyond a small warm-up."""
    command = [sys.executable, "-m", "benchmarks", "--peak", name, "--side", side, "--rows", str(rows), "--dim", str(D)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_peak(name: str, rows: int, D: int, side: str) -> None:
    """The child process of `peak_mib`."""
    problem = PROBLEMS[name]
    function = getattr(problem, side)
    value_and_gradient(function, problem.batches(256, D))
    before = resident_peak_mib()
    value_and_gradient(function, problem.batches(rows, D))
    print(resident_peak_mib() - before)


def resident_peak_mib() -> float:
    """Of this process alone (Linux): ru_maxrss would begin at what the starting process had held."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def measure(name: str, rows: int, D: int, rounds: int) -> list[dict]:
    """The rows of the CSV for one problem. RuntimeError if a side's gradient is wrong."""
    problem = PROBLEMS[name]
    small = problem.batches(CHECKED_ROWS, D)
    errors = {side: gradient_error(getattr(problem, side), problem, small) for side in ("ours", "matrix")}
    if not errors["ours"] < 1e-4:
        raise RuntimeError(f"{name}: gradient error {errors['ours']:.3g}, not timed")
    found = []
    for side, seconds in timed(name, rows, D, rounds).items():
        deciles = statistics.quantiles(seconds, n=10)
        cells = (name, rows, D, "float32", side, f"{statistics.median(seconds):.4f}", f"{deciles[1]:.4f}", f"{deciles[7]:.4f}",
                 f"{peak_mib(name, rows, D, side):.1f}", f"{errors[side]:.2g}", machine())  # fmt: skip
        found.append(dict(zip(FIELDS, cells, strict=True)))
    return found


def table(results: list[dict]) -> str:
    """Markdown, a line per loss."""
    lines = [
        "| loss | matrix form | ours | ratio | memory, matrix → ours |",
        "|---|---|---|---|---|",
    ]
    for ours, matrix in zip(results[::2], results[1::2], strict=True):
        theirs, mine = float(matrix["seconds"]), float(ours["seconds"])
        memory = f"{float(matrix['peak_mib']):,.0f} → {float(ours['peak_mib']):,.0f} MiB"
        lines.append(f"| `{ours['loss']}` | {theirs:.2f} s | {mine:.2f} s | ×{theirs / mine:.1f} | {memory} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=8192, help="rows of the score matrix (default 8192)")
    parser.add_argument("--dim", type=int, default=128, help="dimensions of the embeddings (default 128)")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds of each side (default 7)")
    parser.add_argument("--peak", choices=list(PROBLEMS), help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=["ours", "matrix"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print_peak(options.peak, options.rows, options.dim, options.side)
        return
    results = []
    for name in PROBLEMS:
        results += measure(name, options.rows, options.dim, options.rounds)
        print(f"{name}: done", file=sys.stderr)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(results)
    print(f"{options.rows} rows, D = {options.dim}, float32, value and gradient; {machine()}\n")
    print(table(results))


if __name__ == "__main__":
    main()
