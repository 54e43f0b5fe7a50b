"""A bar of the training's steps, by rich if it is installed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from .training import Point


@contextlib.contextmanager
def bar(wanted: bool | None, steps: int) -> Iterator[Callable[[Point], None]]:
    """What to call after each evaluation.

    wanted  True, False, or None: on a terminal, if rich is there; there is none where stderr is closed
    """
    silent = sys.stderr is None or sys.stderr.closed or (wanted is None and not sys.stderr.isatty())
    if silent or wanted is False:
        yield lambda point: None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        if wanted:
            raise ImportError("estimate: progress=True needs rich: pip install rich, or progress=False") from None
        yield lambda point: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("training", total=steps)
        yield lambda point: progress.update(task, completed=point.step, description=f"{point.stopping:.3f} nats")
