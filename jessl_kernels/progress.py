"""A bar of steps that are done, by rich if it is installed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

Report = Callable[[int, str], None]


@contextlib.contextmanager
def bar(function: str, wanted: bool | None, total: int, label: str) -> Iterator[Report]:
    """What to call with the number of steps that are done and a new label.

    wanted  True, False, or None: on a terminal, if rich is there; there is none where stderr is closed
    """
    silent = sys.stderr is None or sys.stderr.closed or (wanted is None and not sys.stderr.isatty())
    if silent or wanted is False:
        yield lambda done, label: None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        if wanted:
            raise ImportError(f"{function}: progress=True needs rich: pip install rich, or progress=False") from None
        yield lambda done, label: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done, label: progress.update(task, completed=done, description=label)
