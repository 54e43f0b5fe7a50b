"""Every mutant against the checks, by processes of their own: what one of them does to its interpreter stays there."""

from __future__ import annotations

import contextlib
import multiprocessing
import warnings
from collections.abc import Iterator

from . import outcomes
from .operators import Mutant
from .outcomes import Outcome

PROCESSES = 2
TASKS = 50  # of a process: what each mutant's modules leave behind in Triton's caches goes with it
_opened = contextlib.ExitStack()
_bench: outcomes.Bench


def _begin() -> None:
    global _bench
    warnings.simplefilter("ignore")  # a mutant overflows where the original does not
    _bench = _opened.enter_context(outcomes.bench())


def _outcome(mutant: Mutant) -> tuple[Mutant, Outcome]:
    return mutant, _bench.catching(mutant)


def run(mutants: list[Mutant]) -> Iterator[tuple[Mutant, Outcome]]:
    if mutants:
        with multiprocessing.get_context("spawn").Pool(PROCESSES, _begin, maxtasksperchild=TASKS) as pool:
            yield from pool.imap_unordered(_outcome, mutants)
