"""outcomes.txt: of each function how many mutants were caught, how many survived, and the source that they were made from."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from . import sources
from .operators import Mutant
from .survivors import EXPLAINED

FILE = Path(__file__).with_name("outcomes.txt")
HEAD = (
    "# Written by `python -m tests.mutants`. Mutants of each function: caught by a test; not told from the original, for a reason",
    "# in survivors.py; not caught, without a reason; not run. Source: a digest of the function that the mutants were made from.",
    f"# {'function':28}{'caught':>8}{'reason':>8}{'none':>8}{'not run':>8}  source",
)


class Measured(NamedTuple):
    caught: int
    explained: int
    unexplained: int
    not_run: int
    source: str


def digest(function: str) -> str:
    """Of the function's code, whatever its comments."""
    return hashlib.sha256(sources.code(sources.functions()[function].node).encode()).hexdigest()[:8]


def read() -> dict[str, Measured]:
    lines = FILE.read_text().splitlines() if FILE.exists() else []
    rows = (line.split() for line in lines if not line.startswith("#"))
    return {name: Measured(*map(int, numbers), source) for name, *numbers, source in rows}


def changed() -> list[str]:
    """Functions whose mutants were made from another source than today's, or never."""
    known = read()
    return [name for name in sources.functions() if name not in known or known[name].source != digest(name)]


def write(mutants: list[Mutant], outcomes: dict[str, str | None]) -> None:
    """The functions of these mutants anew; of others what the file says. outcomes  of those that ran, by key"""
    found: dict[str, Counter[str]] = {mutant.function: Counter() for mutant in mutants}
    for mutant in mutants:
        found[mutant.function][_kind(mutant.key, outcomes)] += 1
    rows = read() | {
        name: Measured(n["caught"], n["explained"], n["unexplained"], n["not run"], digest(name))
        for name, n in found.items()
    }
    lines = (f"{name:30}{''.join(f'{n:8}' for n in row[:-1])}  {row.source}" for name, row in rows.items())
    kept = [line for line in lines if line.split()[0] in sources.functions()]
    FILE.write_text("\n".join([*HEAD, *kept]) + "\n")


def _kind(key: str, outcomes: dict[str, str | None]) -> str:
    if outcomes.get(key) is not None:
        return "caught"
    if key in EXPLAINED:
        return "explained"
    return "unexplained" if key in outcomes else "not run"
