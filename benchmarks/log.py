"""The log of a run as JSON lines, which outlives a lost process: its setting, each cell as it is complete, and the rest.

An interrupted run goes on where it stopped. Cells of another commit, machine or setting do not mix: `open_log` refuses.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import jessl_kernels

from .processes import ROOT


class Log:
    """same   what all cells of the file have in common: device, versions, limits
    rates  of bare operations on the device, a second
    cells  by key, each as `run.run_cell` made it
    left   problem, N, D and dtype of the cells for which the last run had no time
    """

    def __init__(self, path: Path, same: dict[str, Any], rates: dict[str, float]):
        self.path, self.same, self.rates = path, same, rates
        self.cells: dict[str, dict[str, Any]] = {}
        self.left: list[tuple[str, int, int, str]] = []

    def add(self, cell: dict[str, Any]) -> None:
        self.cells[cell["key"]] = cell
        _append(self.path, {"kind": "cell", **cell})

    def leave(self, cells: list[tuple[str, int, int, str]]) -> None:
        self.left = cells
        _append(self.path, {"kind": "left", "cells": cells})


def read(path: Path) -> Log | None:
    """None if nothing is there. A last line that was cut off by an interruption is left out."""
    log = None
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if record["kind"] == "setting":
            log = Log(path, record["same"], record["rates"])
        elif log is not None and record["kind"] == "left":
            log.left = [tuple(cell) for cell in record["cells"]]
        elif log is not None:
            log.cells[record["key"]] = record
    return log


def open_log(path: Path, same: dict[str, Any], rates: dict[str, float]) -> Log:
    """The log at `path`, to go on with, or a new one. ValueError if it holds results of another setting."""
    found = read(path)
    if found is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        _append(path, {"kind": "setting", "same": same, "rates": rates})
        return Log(path, same, rates)
    other = sorted(key for key in same if same[key] != found.same.get(key))
    if other:
        was, now = (", ".join(f"{key} {of.get(key)!r}" for key in other) for of in (found.same, same))
        raise ValueError(f"{path} holds a run with {was}; this one has {now}: choose another --out, or --fresh")
    if not path.read_text().endswith("\n"):  # the line that was cut off must not swallow the next one
        with path.open("a") as file:
            file.write("\n")
    return found


def setting(device: str, threads: int, **limits: Any) -> dict[str, Any]:
    """What the numbers depend on beside the code that is timed. device: its name."""
    return {
        "device": device,
        "commit": commit(),
        "threads": threads,
        "torch": torch.__version__,
        "jessl_kernels": jessl_kernels.__version__,
        "python": platform.python_version(),
        **limits,
    }


def commit() -> str:
    """Of the checkout, with "+" and a hash of the changes if a tracked file differs from it; "unknown" without git."""
    try:
        name, changes = _git("rev-parse", "--short=12", "HEAD"), _git("diff", "HEAD")
        return name + (f"+{hashlib.sha256(changes.encode()).hexdigest()[:8]}" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    ask = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()


def _append(path: Path, record: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")
