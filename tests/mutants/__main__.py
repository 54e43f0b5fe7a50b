"""Run every mutant, print what came of it, and write outcomes.txt; fails if one survives that has no reason to.

With --log it can be stopped, and goes on where it was. Mutants that have a reason to survive are taken to do so; --explained
runs them too.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

# Neither torch's own threads nor a GPU's context outlive a fork.
os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

from . import bench, operators, outcomes, sources
from .bench import Outcome
from .operators import Mutant
from .survivors import EXPLAINED

TESTS = ["tests/unit", "tests/gpu/test_words.py"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[], help="functions, or single mutants as they are printed")
    parser.add_argument("--log", type=Path, help="a file of outcomes, of which those of today's functions count")
    parser.add_argument("--explained", action="store_true", help="run mutants that have a reason to survive, too")
    parser.add_argument("--tests", nargs="+", help="run these tests instead, and write no outcomes.txt")
    asked = parser.parse_args()
    print(f"changed since their mutants ran, or some not run: {', '.join(outcomes.due()) or 'none'}")
    named = {name.split(":")[0] for name in asked.only}
    mutants = [m for m in operators.chosen(named or None) if not asked.only or {m.function, m.key} & set(asked.only)]
    found = _logged(asked.log)

    def told(mutant: Mutant, outcome: Outcome, seconds: float) -> None:
        found[mutant.key] = outcome
        if asked.log is not None:
            with asked.log.open("a") as log:
                log.write(json.dumps([mutant.key, outcomes.digest(mutant.function), outcome]) + "\n")
        reason = EXPLAINED.get(mutant.key, "SURVIVES, UNEXPLAINED")
        print(f"{len(found):5}/{len(mutants)}  {mutant.key}  [{outcome or reason}, {seconds:.1f} s]", flush=True)

    left = [m for m in mutants if m.key not in found and (asked.explained or m.key not in EXPLAINED)]
    complete = not left or bench.run(left, told, asked.tests or TESTS)
    if asked.tests is None and not {m.key for m in mutants} & set(asked.only):
        outcomes.write(mutants, found)
    caught = sum(found.get(m.key) is not None for m in mutants)
    unexplained = [m.key for m in mutants if m.key in found and found[m.key] is None and m.key not in EXPLAINED]
    print(f"{len(mutants)} mutants, {caught} caught, {len(unexplained)} that survive without a reason")
    return 0 if complete and not unexplained else 1


def _logged(log: Path | None) -> dict[str, Outcome]:
    """What came of mutants of functions as they are today."""
    lines = log.read_text().splitlines() if log is not None and log.exists() else []
    today = {name: outcomes.digest(name) for name in sources.functions()}
    found = {}
    for key, digest, outcome in map(json.loads, lines):
        if today.get(key.split(":")[0]) == digest:
            found[key] = outcome
    return found


if __name__ == "__main__":
    raise SystemExit(main())
