"""Results as JSON lines: one for the machine and the settings, one for each cell as soon as it is complete, and one
for what no time was left for.

An interrupted run goes on where it stopped. Cells of another commit, machine or setting do not mix: `open_store` refuses.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Store:
    """setting  what all cells of the file have in common: machine, versions, limits
    cells  by key, each as `run.run_cell` made it
    left   keys of cells for which the last run had no time
    """

    def __init__(self, path: Path, setting: dict[str, Any], cells: dict[str, dict[str, Any]], left: list[str]):
        self.path, self.setting, self.cells, self.left = path, setting, cells, left

    def add(self, cell: dict[str, Any]) -> None:
        self.cells[cell["key"]] = cell
        _append(self.path, {"kind": "cell", **cell})

    def leave(self, keys: list[str]) -> None:
        self.left = keys
        _append(self.path, {"kind": "left", "keys": keys})

    def products(self) -> list[float]:
        """Seconds of every 4096³ product of the run."""
        interleaved = [s for cell in self.cells.values() for s in cell["product_seconds"]]
        return [*self.setting["machine"]["products"], *interleaved]


def read(path: Path) -> Store | None:
    """None if nothing is there. A last line that was cut off by an interruption is left out."""
    if not path.exists():
        return None
    setting, cells, left = None, {}, []
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        match record.pop("kind"):
            case "setting":
                setting = record
            case "left":
                left = record["keys"]
            case "cell":
                cells[record["key"]] = record
    return None if setting is None else Store(path, setting, cells, left)


def open_store(path: Path, setting: dict[str, Any]) -> Store:
    """The store at `path`, to go on with, or a new one. ValueError if it holds results of another setting."""
    found = read(path)
    if found is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        _append(path, {"kind": "setting", **setting})
        return Store(path, setting, {}, [])
    other = {key for key in setting["same"] if setting["same"][key] != found.setting["same"].get(key)}
    if other:
        was = ", ".join(f"{key} {found.setting['same'].get(key)!r}" for key in sorted(other))
        now = ", ".join(f"{key} {setting['same'][key]!r}" for key in sorted(other))
        raise ValueError(f"{path} holds a run with {was}; this one has {now}: choose another --out, or --fresh")
    if not path.read_text().endswith("\n"):  # the line that was cut off must not swallow the next one
        with path.open("a") as file:
            file.write("\n")
    return found


def _append(path: Path, record: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")
