"""`python -m benchmarks`: every loss against its matrix form, torch.compile of it, and the libraries a user would pick.

Writes report.md, results.csv, results.json and charts to --out, from the cells in its cells.jsonl. An interrupted run goes
on where it stopped; each contender is checked against fp64 before it is timed. An hour, or under three minutes with --quick.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import cells, setting
from .charts import draw
from .measure import machine
from .problems import PROBLEMS
from .processes import Limits, available_mib, supervise
from .report import markdown
from .rows import rows, write_csv, write_json
from .run import run
from .store import Store, open_store, read

RESULTS = Path(__file__).with_name("results")
BOX, QUICK_BOX = 2.0, 1.0  # seconds for the rounds of a cell
MINUTES, QUICK_MINUTES = 60.0, 2.75


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="two sizes of every loss, to see that all works")
    add("--long", action="store_true", help="also NT-Xent at 262,144 rows, minutes for one call")
    add("--only", nargs="+", choices=list(PROBLEMS), metavar="PROBLEM", help=f"of {', '.join(PROBLEMS)}")
    add("--rows", nargs="+", type=int, metavar="N", help="only cells of these N")
    add("--dim", nargs="+", type=int, metavar="D", help="only cells of these D")
    add("--out", type=Path, help="folder of the results (default benchmarks/results, or …/quick)")
    add("--fresh", action="store_true", help="forget the results that the folder holds")
    add("--render", action="store_true", help="measure nothing: write report and charts again from the stored cells")
    add("--minutes", type=float, help="cells that have not begun by then are left out (default 60; --quick: 2.75)")
    add("--limit", type=float, default=60.0, help="seconds that one call may take (default 60)")
    add("--memory", type=float, help="GiB that a process may add (default 85 %% of what is available)")
    add("--threads", type=int, default=torch.get_num_threads(), help="of torch (default: torch's choice)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    chosen = options(arguments)
    out = chosen.out or (RESULTS / "quick" if chosen.quick else RESULTS)
    console = Console(stderr=True)
    path = out / "cells.jsonl"
    if chosen.render:
        store = read(path)
        if store is None:
            console.print(f"{path} holds no results")
            return 1
    else:
        if chosen.fresh:
            path.unlink(missing_ok=True)
        try:
            store = measure(chosen, path, console)
        except ValueError as error:
            console.print(str(error), markup=False)
            return 1
    write(store, out)
    console.print(f"report: {out / 'report.md'}", markup=False)
    return 0


def grid(chosen: argparse.Namespace) -> list[cells.Cell]:
    wanted = cells.quick() if chosen.quick else cells.full()
    wanted += cells.long() if chosen.long else []
    return [
        cell
        for cell in wanted
        if (not chosen.only or cell.problem in chosen.only)
        and (not chosen.rows or cell.N in chosen.rows)
        and (not chosen.dim or cell.D in chosen.dim)
    ]


def measure(chosen: argparse.Namespace, path: Path, console: Console) -> Store:
    started = time.monotonic()
    memory = 1024 * chosen.memory if chosen.memory else 0.85 * available_mib()
    limits = Limits(chosen.limit, memory, chosen.threads)
    box = QUICK_BOX if chosen.quick else BOX
    store = open_here(path, limits, {"limit": chosen.limit, "memory": chosen.memory, "box": box})
    wanted = grid(chosen)
    columns = (TextColumn("{task.description:<48}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:

        def done(key: str) -> None:
            progress.advance(task)
            if not console.is_terminal:  # where no bar is drawn
                console.print(f"{key} ({time.monotonic() - started:.0f} s)", markup=False)

        task = progress.add_task("", total=len(wanted), completed=sum(cell.key in store.cells for cell in wanted))
        left = run(
            store,
            wanted,
            limits,
            box=box,
            deadline=started + 60 * (chosen.minutes or (QUICK_MINUTES if chosen.quick else MINUTES)),
            report=lambda what: progress.update(task, description=what),
            done=done,
        )
    if left:
        names = ", ".join(cell.key for cell in left)
        console.print(
            f"no time was left for {len(left)} cells (the same command goes on with them): {names}", style="yellow"
        )
    store.leave([cell.key for cell in left])
    return store


def open_here(path: Path, limits: Limits, chosen: dict[str, Any]) -> Store:
    """The store at `path`; a new one begins with the peaks of this machine. `chosen` are options that its cells share."""
    found = read(path)
    if found is not None:
        measured = found.setting["machine"]
    else:
        outcome = supervise(machine, (), {}, limits)
        measured = dict(outcome.events).get("machine")
        if measured is None:
            raise ValueError(f"the machine's peaks could not be measured: {outcome.why}")
    record = {
        "same": {**setting.same(limits.threads), **chosen},
        "machine": measured,
        "memory_mib": round(limits.memory_mib),
    }
    return open_store(path, record)


def write(store: Store, out: Path) -> None:
    """Report, tables and charts of what the store holds."""
    found = rows(store)
    charts = draw(store, found, out)
    (out / "report.md").write_text(markdown(store, found, charts) + "\n")
    write_csv(found, out / "results.csv")
    write_json(store, found, out / "results.json")


if __name__ == "__main__":
    sys.exit(main())
