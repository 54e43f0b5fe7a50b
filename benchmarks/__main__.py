"""`python -m benchmarks`: every public operation against its matrix form, torch.compile of it, and what people use instead.

Writes report.md, results.csv and charts to --out, from the log in its cells.jsonl. An interrupted run goes on where it
stopped; each contender is checked against fp64 before it is timed. An hour on a CPU, minutes with --quick.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import cells
from .charts import draw
from .device import DEVICES
from .log import Log, open_log, read, setting
from .measure import rate_device
from .problems import PROBLEMS
from .processes import Limits, available_mib, supervise
from .report import markdown
from .rows import read_csv, rows, write_csv
from .run import run

RESULTS = Path(__file__).with_name("results")
GRIDS = {"cpu": cells.full, "cuda": cells.gpu, "dry": cells.dry}
BOX = {"cpu": 2.0, "cuda": 0.5, "dry": 0.0}  # seconds for the rounds of a cell


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--device",
        choices=DEVICES,
        default="cpu",
        help="dry: the GPU's cells on the executor of the tests, without times",
    )
    add("--quick", action="store_true", help="small sizes of every operation, to see that all works on a CPU")
    add("--long", action="store_true", help="also NT-Xent at 262,144 rows, minutes for one call")
    add("--only", nargs="+", choices=list(PROBLEMS), metavar="PROBLEM", help=f"of {', '.join(PROBLEMS)}")
    add("--rows", nargs="+", type=int, metavar="N", help="only cells of these N")
    add("--dim", nargs="+", type=int, metavar="D", help="only cells of these D")
    add("--dtype", nargs="+", choices=("float32", "bfloat16"), help="only cells of these dtypes")
    add("--out", type=Path, help="folder of the results (default benchmarks/results/DEVICE, or …/quick)")
    add("--fresh", action="store_true", help="forget the results that the folder holds")
    add(
        "--render",
        action="store_true",
        help="measure nothing: write report and charts again from the folder's results.csv",
    )
    add("--minutes", type=float, default=60.0, help="cells that have not begun by then are left out (default 60)")
    add("--limit", type=float, default=60.0, help="seconds that one call may take (default 60)")
    add("--memory", type=float, help="GiB that a process may add on a CPU (default 85 %% of what is available)")
    add("--threads", type=int, default=torch.get_num_threads(), help="of torch (default: torch's choice)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    chosen = options(arguments)
    out = chosen.out or RESULTS / ("quick" if chosen.quick else chosen.device)
    console = Console(stderr=True)
    if chosen.render:
        if not (out / "results.csv").exists():
            console.print(f"{out / 'results.csv'} does not exist", markup=False)
            return 1
    else:
        if chosen.fresh:
            (out / "cells.jsonl").unlink(missing_ok=True)
        try:
            write_csv(rows(measure(chosen, out / "cells.jsonl", console)), out / "results.csv")
        except ValueError as error:
            console.print(str(error), markup=False)
            return 1
    found = read_csv(out / "results.csv")
    (out / "report.md").write_text(markdown(found, draw(found, out)) + "\n")
    console.print(f"report: {out / 'report.md'}", markup=False)
    return 0 if all(row.status not in ("failed", "wrong", "died") for row in found if row.contender == "ours") else 1


def grid(chosen: argparse.Namespace) -> list[cells.Cell]:
    wanted = cells.quick() if chosen.quick else GRIDS[chosen.device]()
    wanted += cells.long() if chosen.long else []
    return [
        cell
        for cell in wanted
        if (not chosen.only or cell.problem in chosen.only)
        and (not chosen.rows or cell.N in chosen.rows)
        and (not chosen.dim or cell.D in chosen.dim)
        and (not chosen.dtype or cell.dtype in chosen.dtype)
    ]


def measure(chosen: argparse.Namespace, path: Path, console: Console) -> Log:
    started = time.monotonic()
    memory = None
    if chosen.device == "cpu":
        memory = 1024 * chosen.memory if chosen.memory else 0.85 * available_mib()
    limits = Limits(chosen.device, chosen.limit, memory, chosen.threads)
    log, wanted, before = open_here(path, limits, chosen), grid(chosen), console.is_terminal
    columns = (TextColumn("{task.description:<56}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:

        def done(key: str) -> None:
            progress.advance(task)
            if not before:  # where no bar is drawn
                console.print(f"{key} ({time.monotonic() - started:.0f} s)", markup=False)

        task = progress.add_task("", total=len(wanted), completed=sum(cell.key in log.cells for cell in wanted))
        try:
            left = run(
                log,
                wanted,
                limits,
                box=BOX[chosen.device] / (2 if chosen.quick else 1),
                deadline=started + 60 * chosen.minutes,
                report=lambda doing: progress.update(task, description=doing),
                done=done,
            )
        except KeyboardInterrupt:  # the report has what was measured until then
            left = [cell for cell in wanted if cell.key not in log.cells]
    if left:
        console.print(f"no time was left for {len(left)} cells; the same command goes on with them", style="yellow")
    log.leave([(cell.problem, cell.N, cell.D, cell.dtype) for cell in left])
    return log


def open_here(path: Path, limits: Limits, chosen: argparse.Namespace) -> Log:
    """The log at `path`; a new one begins with the rates of this device."""
    found = read(path)
    outcome = supervise(rate_device, (limits.seconds, found is None), limits)
    if "device" not in dict(outcome.events):
        raise ValueError(f"the device cannot be used: {outcome.why}")
    device, rates = dict(outcome.events)["device"]
    threads = limits.threads if chosen.device == "cpu" else 0
    same = setting(device, threads, limit=chosen.limit, memory=chosen.memory, quick=chosen.quick)
    return open_log(path, same, rates)


if __name__ == "__main__":
    sys.exit(main())
