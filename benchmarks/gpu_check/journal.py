"""What the steps of a section found: a line of JSON each, written as soon as it is known, so that a dead process loses one."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOT_REACHED = "not reached"
DEVICE_LOST = 3  # exit status of a section whose GPU answers nothing but errors any more


class NotRun(Exception):
    """A step that cannot be made here, for the reason given: not a failure."""


class DeviceLost(Exception):
    """After this error every call to the device fails, and only a new process can go on."""


@dataclass(frozen=True)
class Step:
    """do  returns what it found, as JSON has it; raises AssertionError with words, or NotRun"""

    name: str
    do: Callable[[], dict[str, Any]]


class Journal:
    """The lines of one section."""

    def __init__(self, path: Path):
        self.path = path

    def write(self, **entry: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def steps(self) -> dict[str, dict[str, Any]]:
        """The last that is known of each step, by name, in the order in which they began."""
        if not self.path.exists():
            return {}
        lines = [json.loads(line) for line in self.path.read_text().splitlines() if line.endswith("}")]
        return {entry["name"]: entry for entry in lines}


def run(steps: list[Step], journal: Journal, deadline: float) -> None:
    """Run the steps that have not begun yet, as far as the journal knows, but none after the deadline."""
    known = journal.steps()
    for step in steps:
        if step.name not in known:
            journal.write(name=step.name, status=NOT_REACHED)
    for step in steps:
        if known.get(step.name, {}).get("status", NOT_REACHED) != NOT_REACHED or time.time() > deadline:
            continue
        journal.write(name=step.name, status="begun")
        started = time.monotonic()
        entry = outcome(step.do)
        journal.write(name=step.name, took=round(time.monotonic() - started, 2), **entry)
        if entry.pop("lost", False):
            raise DeviceLost(step.name)


def outcome(do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What became of a step."""
    try:
        return {"status": "ok", **do()}
    except NotRun as why:
        return {"status": "not run", "why": str(why)}
    except AssertionError as error:
        return {"status": "failed", "why": first_lines(error), "traceback": traceback.format_exc()}
    except Exception as error:
        found = {"status": "failed", "why": f"{type(error).__name__}: {first_lines(error)}"}
        return {**found, "traceback": traceback.format_exc(), **({"lost": True} if is_lost(error) else {})}


def first_lines(error: BaseException, most: int = 3) -> str:
    return "\n".join(str(error).strip().splitlines()[:most])[:600]


def is_lost(error: BaseException) -> bool:
    """Whether the device is gone for this process. Out of memory and what cannot be captured leave it usable."""
    text = str(error)
    signs = ("illegal memory access", "device-side assert", "misaligned address", "unspecified launch failure")
    return isinstance(error, DeviceLost) or any(sign in text for sign in (*signs, "illegal instruction", "Xid"))
