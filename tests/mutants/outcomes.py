"""A mutant against the checks."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch
from triton.runtime.jit import JITFunction

from tests import executor

from . import sources
from .checks import CHECKS
from .operators import Mutant
from .planted import planted

LONGEST = 20  # seconds of a processor that a check takes: a mutant may go around for ever
Outcome = str | None  # the check that catches a mutant; None where it survives


class Bench:
    """Checks run one after the other, until one fails; what a check has been seen not to launch is not run for."""

    def __init__(self, folder: Path):
        self.folder, self.made = folder, 0
        self.launched: dict[str, set[str]] = {}

    def catching(self, mutant: Mutant) -> Outcome:
        """The first check that fails, of those that reach the mutated function."""
        kernels = set(sources.kernels_of(mutant.function))
        folder = self.folder / str(self.made)
        self.made += 1
        try:
            with planted(folder, mutant.module, mutant.source):
                return next((name for name in CHECKS if self._reaches(name, kernels) and not self.passes(name)), None)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _reaches(self, check: str, kernels: set[str]) -> bool:
        return check not in self.launched or bool(kernels & self.launched[check])

    def passes(self, check: str) -> bool:
        """Whether it does; an exception of any kind, the sanitizer's too, says that it does not."""
        seen: set[str] = set()
        try:
            with _watched(seen), _limited():
                CHECKS[check]()
        except Exception:
            return False
        self.launched[check] = seen  # all of them: a check that fails may have stopped before
        return True


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """One thread and the executor in place."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder, executor.gpu():
            yield Bench(Path(folder))
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _watched(seen: set[str]) -> Iterator[None]:
    run = JITFunction.run

    def noted(kernel, *args, **options):
        seen.add(kernel.__name__)
        return run(kernel, *args, **options)

    with mock.patch.object(JITFunction, "run", noted):
        yield


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def too_long(*_):
        raise TimeoutError(f"longer than {LONGEST} s")

    before = signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
