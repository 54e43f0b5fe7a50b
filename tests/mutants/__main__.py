"""Run every mutant and print what came of it; fails if one survives that has no reason to. Part of `make nightly`.

Four minutes on two idle cores; with --log it can be stopped and goes on where it was. A mutant that survives costs all checks,
so those that have a reason are taken to survive; --explained runs them too, four minutes more.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from . import operators
from .outcomes import Outcome
from .running import run
from .survivors import EXPLAINED


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--most", type=int, help="mutants of each function")
    parser.add_argument(
        "--log", type=Path, help="a file for outcomes as they come; of this source: what it holds is not run again"
    )
    parser.add_argument("--explained", action="store_true", help="run mutants that have a reason to survive, too")
    asked = parser.parse_args()
    mutants = operators.chosen(asked.most or operators.MOST)
    found = _logged(asked.log)
    if not asked.explained:
        found |= {mutant.key: None for mutant in mutants if mutant.key in EXPLAINED and mutant.key not in found}
    left = [mutant for mutant in mutants if mutant.key not in found]
    for mutant, outcome in run(left):
        found[mutant.key] = outcome
        if asked.log is not None:
            with asked.log.open("a") as log:
                log.write(json.dumps([mutant.key, outcome]) + "\n")
        reason = EXPLAINED.get(mutant.key, "SURVIVES, UNEXPLAINED")
        print(f"{len(found):5}/{len(mutants)}  {mutant.key}  [{outcome or reason}]", flush=True)
    unexplained = [m.key for m in mutants if found[m.key] is None and m.key not in EXPLAINED]
    caught = sum(found[m.key] is not None for m in mutants)
    print(f"{len(mutants)} mutants, {caught} caught, {len(unexplained)} that survive without a reason")
    return min(len(unexplained), 1)


def _logged(log: Path | None) -> dict[str, Outcome]:
    if log is None or not log.exists():
        return {}
    return {key: outcome for key, outcome, *_ in map(json.loads, log.read_text().splitlines())}


if __name__ == "__main__":
    raise SystemExit(main())
