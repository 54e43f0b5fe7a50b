"""The tests with the marker `kernels`, run against one mutant after the other.

pytest collects once, in this process, which also runs every test once on the real kernels: it notes which functions a
test reaches and how long it takes, and what it has compiled stays in memory. Each mutant is a fork of this process, so that
nothing of a mutant outlives it.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import os
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any
from unittest import mock

import pytest
from _pytest.runner import runtestprotocol
from triton.runtime.jit import JITFunction

from tests import yardstick
from tests.yardstick import Result, expected

from . import sources
from .operators import Mutant
from .planted import plant

PROCESSES = 2
# A mutant may loop for ever: a test has so many seconds, or times what it takes on the real kernels.
LEAST, TIMES = 20, 5
Outcome = str | None  # the test that catches a mutant; None where it survives
Told = Callable[[Mutant, Outcome, float], None]  # with the seconds it took of a processor


@dataclass
class Test:
    """A test, and what was seen of it on the real kernels."""

    item: pytest.Item
    reached: frozenset[str]  # functions of its kernels
    seconds: float


class Bench:
    """A plugin of pytest that runs `mutants` in place of its loop over tests, and yields each outcome to `told`.

    order  tests that caught other mutants of the function go first, then those that caught others, then the quick ones
    """

    def __init__(self, mutants: list[Mutant], told: Told):
        self.mutants, self.told = mutants, told
        self.tests: list[Test] = []
        self.seen: set[str] = set()  # functions that a test has reached
        self.expected: dict[tuple[str, int], Any] = {}  # by test and call: no mutant changes what an oracle says
        self.caught: Counter[tuple[str, str]] = Counter()  # by function and test

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if _parameters(item).get("backend", "triton") == "triton"]

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        assert session.testsfailed == 0 and session.items, "pytest could not collect the tests"
        for item in session.items:
            self.seen = set()
            start = process_time()
            assert _passes(item), f"{item.nodeid} fails on the real kernels"
            self.tests.append(Test(item, frozenset(self.seen), process_time() - start))
        print(f"{len(self.tests)} tests in {sum(t.seconds for t in self.tests):.0f} s", flush=True)
        gc.freeze()  # so that children share its memory
        self._run()
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Within the executor, which a fixture puts in place."""
        launch, count = JITFunction.run, itertools.count()

        def noted(kernel: JITFunction, *args: object, **options: object) -> object:
            self.seen |= sources.reached(kernel.src)
            return launch(kernel, *args, **options)

        def remembered(*args: Any) -> Any:
            key = item.nodeid, next(count)
            if key not in self.expected:
                self.expected[key] = expected(*args)
            truth, matrix = self.expected[key]
            return _on_gpu(truth), [_on_gpu(result) for result in matrix]

        with mock.patch.object(JITFunction, "run", noted), mock.patch.object(yardstick, "expected", remembered):
            yield

    def _run(self) -> None:
        left, running = iter(self.mutants), {}
        while True:
            while len(running) < PROCESSES and (mutant := next(left, None)) is not None:
                running |= self._started(mutant)
            if not running:
                return
            pid, status, usage = os.wait3(0)
            mutant, answer = running.pop(pid)
            with open(answer) as file:
                outcome: Outcome = f"signal {status}" if os.WIFSIGNALED(status) else json.load(file)
            if outcome is not None:
                self.caught[mutant.function, outcome] += 1
                self.caught["", outcome] += 1
            self.told(mutant, outcome, usage.ru_utime + usage.ru_stime)

    def _started(self, mutant: Mutant) -> dict[int, tuple[Mutant, int]]:
        answer, question = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:  # whatever happens but in a test leaves no answer, and ends the run
                os.write(question, json.dumps(self._outcome(mutant)).encode())
            except BaseException:
                traceback.print_exc()
            os._exit(0)
        os.close(question)
        return {pid: (mutant, answer)}

    def _outcome(self, mutant: Mutant) -> Outcome:
        """The first test that fails, of those that reach the mutated function."""
        reaching = (test for test in self.tests if mutant.function in test.reached)
        tests = sorted(reaching, key=lambda test: self._rank(mutant.function, test))
        with tempfile.TemporaryDirectory() as folder:
            os.environ["TRITON_CACHE_DIR"] = folder
            plant(Path(folder), mutant.module, mutant.source)
            for test in tests:
                with _limited(max(LEAST, TIMES * test.seconds)):
                    if not _passes(test.item):
                        return test.item.nodeid
        return None

    def _rank(self, function: str, test: Test) -> float:
        name = test.item.nodeid
        return -(0.1 + self.caught[function, name] + 0.2 * self.caught["", name]) / test.seconds


def run(mutants: list[Mutant], told: Told, tests: list[str]) -> bool:
    """Whether it came to its end. tests  where pytest looks for them, or their names"""
    options = ["-m", "kernels", "-qq", "--no-header", "--no-summary", "--capture=no", "-p", "no:cacheprovider"]
    return pytest.main([*options, *tests], plugins=[Bench(mutants, told)]) == 0


def _parameters(item: pytest.Item) -> dict[str, object]:
    return getattr(getattr(item, "callspec", None), "params", {})


def _passes(item: pytest.Item) -> bool:
    """An exception of any kind, the executor's too, says that it does not."""
    return all(report.outcome == "passed" for report in runtestprotocol(item, nextitem=None, log=False))


def _on_gpu(result: Result) -> Result:
    """The pretended GPU of one test knows nothing of another's tensors."""
    moved = {name: t.to("cuda") for name, t in result.gradients.items()}
    return Result([t.to("cuda") for t in result.values], moved)


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Of this process's own time."""

    def too_long(*_: object) -> None:
        raise TimeoutError(f"longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
