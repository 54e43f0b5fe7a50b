"""The tests of the triton backend in processes of their own, some at a time: most of their time is Triton's compiler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .journal import Step

ROOT = Path(__file__).resolve().parents[2]
TESTS = ("tests/unit", "tests/property", "tests/gpu/test_tf32.py")
# A process holds half a GiB of the GPU's memory and a core; all of them compile some 1,800 kernels, half a second each.
MOST_PROCESSES = 12
MOST_FAILURES = 40
DRY = ("--first", "4", "--named", "test_rivals")


def steps(out: Path, dry: bool, deadline: float) -> list[Step]:
    return [Step("tests", lambda: run(out, dry, deadline))]


def command(results: Path, part: int, of: int, *more: str) -> list[str]:
    plugins = ("-p", "benchmarks.gpu_check.shards", "-p", "no:cacheprovider", "-p", "no:xdist")
    ours = ("--shard", f"{part}/{of}", "--results", str(results))
    return [sys.executable, "-m", "pytest", "-q", "--continue-on-collection-errors", *plugins, *ours, *more, *TESTS]


def environment() -> dict[str, str]:
    """One thread for each process; the packages of the checkout; the same hash seed, for the same order of parameters."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


def run(out: Path, dry: bool, deadline: float) -> dict[str, Any]:
    of = 1 if dry else max(1, min(MOST_PROCESSES, os.cpu_count() or 1))
    results = [out / f"suite-{part}.jsonl" for part in range(of)]
    logs = [path.with_suffix(".log") for path in results]
    for path in (*results, *logs):
        path.unlink(missing_ok=True)
    running = []
    for part, (path, log) in enumerate(zip(results, logs, strict=True)):
        with log.open("w") as said:
            arguments = command(path, part, of, *(DRY if dry else ()))
            running.append(subprocess.Popen(arguments, cwd=ROOT, env=environment(), stdout=said, stderr=said))
    while time.time() < deadline and any(process.poll() is None for process in running):
        time.sleep(0.2)
    stopped = [process for process in running if process.poll() is None]
    for process in stopped:
        process.kill()
        process.wait()
    codes = [None if process in stopped else process.returncode for process in running]
    return judged(summary(results), codes, logs, dry)


def summary(results: Iterable[Path]) -> dict[str, Any]:
    """What the tests said, from the lines of all processes."""
    entries = [
        json.loads(line)
        for path in results
        if path.exists()
        for line in path.read_text().splitlines()
        if line.endswith("}")
    ]
    counts = Counter(entry["outcome"] for entry in entries if entry["outcome"] != "collected")
    failures = [entry for entry in entries if entry["outcome"] == "failed"]
    why = Counter(entry["why"].splitlines()[0] for entry in entries if entry["outcome"] == "skipped")
    return {
        "on": ", ".join(sorted({entry["on"] for entry in entries if entry["outcome"] == "collected"})),
        "selected": sum(entry["count"] for entry in entries if entry["outcome"] == "collected"),
        "ran": len({entry["test"] for entry in entries if "seconds" in entry}),
        "outcomes": dict(counts),
        "skips": dict(why.most_common()),
        "failures": [{"test": entry["test"], "why": entry["why"]} for entry in failures[:MOST_FAILURES]],
        "failed": len(failures),
        "slowest": sorted(([entry["seconds"], entry["test"]] for entry in entries if "seconds" in entry), reverse=True)[
            :5
        ],
    }


def judged(found: dict[str, Any], codes: list[int | None], logs: list[Path], dry: bool) -> dict[str, Any]:
    """With its status: finished if every process has said what became of all of its tests."""
    problems = []
    for code, log in zip(codes, logs, strict=True):
        if code is None:
            problems.append("stopped at its time limit")
        elif code not in (0, 1):  # pytest: all passed, some failed
            last = "\n".join(log.read_text(errors="replace").strip().splitlines()[-5:])
            problems.append(f"a process ended with status {code}: {last}")
    if found["selected"] == 0 or found["outcomes"].get("passed", 0) == 0:
        problems.append("no test passed: nothing is proved")
    if "executor" in found["on"] and not dry:
        problems.append("tests ran on the executor, and not on a GPU")
    unfinished = bool(problems) or found["ran"] < found["selected"]
    status = "failed" if found["failed"] else "not finished" if unfinished else "ok"
    why = f"{found['failed']} tests failed" if found["failed"] else "; ".join(dict.fromkeys(problems))
    return {**found, "status": status, "why": why, "problems": problems}
