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
HEAD = f"""\
# Written by `python -m tests.mutants`. Mutants of each function: caught by a test, explained in survivors.py, neither, or
# not run. Source: a digest of the function that they were made from.
# {"function":28}{"caught":>10}{"explained":>11}{"survive":>10}{"not run":>10}  source
"""


class Measured(NamedTuple):
    caught: int
    explained: int
    survive: int
    not_run: int
    source: str


def digest(function: str) -> str:
    """Of the function's code, whatever its comments."""
    return hashlib.sha256(sources.code(sources.functions()[function].node).encode()).hexdigest()[:8]


def read() -> dict[str, Measured]:
    lines = FILE.read_text().splitlines() if FILE.exists() else []
    rows = (line.split() for line in lines if not line.startswith("#"))
    return {name: Measured(*map(int, numbers), source) for name, *numbers, source in rows}


def due() -> list[str]:
    """Functions that have changed since their mutants ran, or of which some have not run."""
    known = read()
    return [f for f in sources.functions() if f not in known or known[f].not_run or known[f].source != digest(f)]


def write(mutants: list[Mutant], outcomes: dict[str, str | None]) -> None:
    """The functions of these mutants anew, and of others what the file says. outcomes  of those that ran, by key"""
    known = read()
    for name in {mutant.function for mutant in mutants}:
        found = Counter(_kind(mutant.key, outcomes) for mutant in mutants if mutant.function == name)
        known[name] = Measured(*(found[kind] for kind in Measured._fields[:-1]), digest(name))
    rows = [(name, known[name]) for name in sources.functions() if name in known]
    FILE.write_text(
        HEAD + "".join(f"{name:30}{a:10}{b:11}{c:10}{d:10}  {source}\n" for name, (a, b, c, d, source) in rows)
    )


def _kind(key: str, outcomes: dict[str, str | None]) -> str:
    if outcomes.get(key) is not None:
        return "caught"
    if key in EXPLAINED:
        return "explained"
    return "survive" if key in outcomes else "not_run"
