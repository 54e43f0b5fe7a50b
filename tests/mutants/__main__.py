"""Run every mutant, print what came of it, write docs/gpu-mutants.md.

A quarter of an hour for 100 of them on an idle core; with --log it can be stopped and goes on where it was.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import warnings
from collections.abc import Iterator
from pathlib import Path

from . import operators, outcomes, table
from .operators import Mutant
from .outcomes import Outcome
from .survivors import EXPLAINED

PROCESSES = 2
_opened = contextlib.ExitStack()
_bench: outcomes.Bench


def _begin() -> None:
    global _bench
    warnings.simplefilter("ignore")  # a mutant overflows where the original does not
    _bench = _opened.enter_context(outcomes.bench())


def _outcome(mutant: Mutant) -> tuple[Mutant, Outcome]:
    return mutant, _bench.catching(mutant)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--most", type=int, help="mutants of each function; the document is not written")
    parser.add_argument(
        "--log", type=Path, help="a file for outcomes as they come; of this source: what it holds is not run again"
    )
    parser.add_argument("--render", action="store_true", help="run nothing: the document from what the log holds")
    asked = parser.parse_args()
    mutants = operators.chosen(asked.most or operators.MOST)
    found = _logged(asked.log)
    left = [mutant for mutant in mutants if mutant.key not in found and not asked.render]
    for mutant, outcome in _run(left):
        found[mutant.key] = outcome
        if asked.log is not None:
            with asked.log.open("a") as log:
                log.write(json.dumps([mutant.key, outcome]) + "\n")
        reason = EXPLAINED.get(mutant.key, "SURVIVES, UNEXPLAINED")
        print(f"{len(found):5}/{len(mutants)}  {mutant.key}  [{outcome or reason}]", flush=True)
    if asked.most is None:
        table.PATH.write_text(table.rendered(found))
    return sum(found.get(m.key, "") is None and m.key not in EXPLAINED for m in mutants)


def _run(mutants: list[Mutant]) -> Iterator[tuple[Mutant, Outcome]]:
    if mutants:
        with multiprocessing.get_context("spawn").Pool(PROCESSES, _begin) as pool:
            yield from pool.imap_unordered(_outcome, mutants)


def _logged(log: Path | None) -> dict[str, Outcome]:
    if log is None or not log.exists():
        return {}
    return {key: outcome for key, outcome, *_ in map(json.loads, log.read_text().splitlines())}


if __name__ == "__main__":
    raise SystemExit(main())
