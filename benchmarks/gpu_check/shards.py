"""A pytest plugin: the tests of the triton backend, a k-th of them, each result written down at once.

    python -m pytest -p benchmarks.gpu_check.shards --shard 0/4 --results FILE tests/unit

A module of tests that wants a package which is not installed counts as one skipped test, and not as an error.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import executor

OURS = ("jessl_kernels", "benchmarks", "tests", "torch", "triton")
MOST_LINES = 12
TOGETHER = 16


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gpu_check")
    group.addoption("--shard", default="0/1", help="i/k: the i-th of k parts of the tests")
    group.addoption("--results", default=None, help="file that gets a line of JSON for each test")
    group.addoption("--first", type=int, default=None, help="no more than so many tests")
    group.addoption("--named", default=None, help="only tests whose name holds this")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    option = config.getoption
    named = option("named") or ""
    kept = [item for item in items if _backend(item) == "triton" and named in item.nodeid]
    kept = share(kept, *map(int, str(option("shard")).split("/")))[: option("first")]
    dropped = set(items) - set(kept)
    config.hook.pytest_deselected(items=list(dropped))
    items[:] = kept
    on = torch.cuda.get_device_name() if executor.REAL else "the executor"
    _write(config, test="", outcome="collected", count=len(kept), on=on)


def share(items: list[Any], part: int, of: int) -> list[Any]:
    """Neighbours share kernels, which a process compiles once; runs of them are short enough for all to end together."""
    together = max(1, min(TOGETHER, len(items) // (4 * of)))
    return [item for n, item in enumerate(items) if n // together % of == part]


def _backend(item: pytest.Item) -> Any:
    called = getattr(item, "callspec", None)
    return None if called is None else called.params.get("backend")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    report = yield
    missing = _missing(report)
    if missing is not None:
        path = str(collector.path)
        report.outcome, report.longrepr = "skipped", (path, 0, f"Skipped: {missing} is not installed")
    return report


def _missing(report: pytest.CollectReport) -> str | None:
    """The package of somebody else that a module could not be imported for."""
    text = str(report.longrepr) if report.failed else ""
    name = (
        text.rpartition("ModuleNotFoundError: No module named '")[2].partition("'")[0]
        if "ModuleNotFound" in text
        else ""
    )
    return name if name and name.partition(".")[0] not in OURS else None


class _Results:
    def __init__(self, config: pytest.Config):
        self.config = config

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.outcome != "passed":
            _write(self.config, test=report.nodeid, outcome=_word(report), why=_why(report))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # A test passes when its call does; it fails where any of its phases does.
        if report.when == "call" or report.outcome != "passed":
            entry = {"test": report.nodeid, "outcome": _word(report), "seconds": round(report.duration, 2)}
            _write(self.config, **entry, **({} if report.passed else {"why": _why(report)}))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Results(config), "gpu_check_results")


def _word(report: pytest.TestReport | pytest.CollectReport) -> str:
    return "xfailed" if hasattr(report, "wasxfail") else report.outcome


def _why(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The lines that a reader wants first: those of the error."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    lines = str(report.longrepr).splitlines()
    errors = [line[1:].strip() for line in lines if line.startswith("E ")]
    return "\n".join((errors or lines[-MOST_LINES:])[:MOST_LINES])


def _write(config: pytest.Config, **entry: Any) -> None:
    path = config.getoption("results")
    if path:
        with Path(str(path)).open("a") as file:
            file.write(json.dumps(entry) + "\n")
