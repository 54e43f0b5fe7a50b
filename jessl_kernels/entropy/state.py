"""A file with the sums of a sweep that was interrupted, and with the data and the settings that they are of."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._checks import fail

FORMAT = "jessl_kernels entropy 1"


@dataclass(frozen=True)
class Progress:
    """done      pairs of blocks that are summed
    log_sums  (N,) the log-sum-exp of each row over them, in fp64 on the CPU
    seconds   that they took, in all runs
    """

    done: int
    log_sums: Tensor
    seconds: float

    def after(self, found: Iterable[tuple[int, Tensor]], seconds: float) -> Progress:
        """With the log-sum-exps of one more pair: of the rows from a first one on."""
        log_sums = self.log_sums.clone()
        for first, of_rows in found:
            here = log_sums[first : first + len(of_rows)]
            torch.logaddexp(here, of_rows, out=here)
        return Progress(self.done + 1, log_sums, self.seconds + seconds)


@dataclass
class State:
    """The progress of a sweep, and its file.

    file      None: it is not saved
    settings  words and numbers that tell one problem from another
    """

    file: Path | None
    settings: dict[str, Any]
    progress: Progress

    def save(self) -> None:
        """Written under another name and then renamed, so that there is never half of a state."""
        if self.file is None:
            return
        from ..files import write  # with NumPy, which nothing else here needs

        buffer = io.BytesIO()
        torch.save({"format": FORMAT, "settings": self.settings, **vars(self.progress)}, buffer)
        write({self.file: buffer.getvalue()})


def state_of(function: str, path: Any, settings: dict[str, Any], log_sums: Tensor) -> State:
    """The state in a file, if there is one, or a new one. ValueError for the state of other data or other settings.

    log_sums  those of no pairs
    """
    fresh = Progress(0, log_sums, 0.0)
    if path is None:
        return State(None, settings, fresh)
    from ..files import target

    file = target(f"{function}: state", str(path), ())
    if not file.exists():
        return State(file, settings, fresh)
    remedy = "name another file, or delete it"
    try:
        told = torch.load(file, weights_only=True)
        known = told["format"] == FORMAT
        theirs, found = told["settings"], Progress(told["done"], told["log_sums"], told["seconds"])
    except Exception:  # of many kinds, by what the file is
        known = False
    if not known:
        fail(function, "state", path, f"which is no state of an entropy, must be one or must not be there: {remedy}")
    for name, mine in settings.items():
        if theirs.get(name) != mine:
            if name == "data":
                fail(function, "state", path, f"which is of other data, must be of the same: {remedy}")
            was = f"which was made with {name} {theirs.get(name)}"
            fail(function, "state", path, f"{was}, must be of the same settings ({name} is {mine}): {remedy}")
    return State(file, settings, found)
