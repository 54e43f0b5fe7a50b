"""A few tests under compute-sanitizer, which sees accesses outside of what is allocated; the executor saw those of the IR."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from .journal import NotRun, Step
from .suite import ROOT, command, environment, summary

FOUND = 9  # its exit status when it has something to report
# Fused kernels in bf16 and strips in fp32, ragged; a process that is watched runs a hundred times slower.
SELECTED = ("--named", "test_rivals", "--first", "6")


def steps(out: Path, dry: bool, deadline: float) -> list[Step]:
    return [Step("memcheck", lambda: run(out, dry, deadline))]


def tool() -> str | None:
    """On the PATH, or where a CUDA toolkit keeps it."""
    homes = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")] + ["/usr/local/cuda"]
    places = [os.environ.get("PATH", ""), *(os.path.join(home, "bin") for home in homes if home)]
    return shutil.which("compute-sanitizer", path=os.pathsep.join(places))


def run(out: Path, dry: bool, deadline: float) -> dict[str, Any]:
    found = tool()
    if found is None:
        raise NotRun("compute-sanitizer is not present, neither on the PATH nor under CUDA_HOME")
    if dry:
        raise NotRun("there is no GPU to watch")
    results, log = out / "sanitizer.results.jsonl", out / "sanitizer.log"
    results.unlink(missing_ok=True)
    # Without torch's cache every tensor is an allocation of its own, so that reading past one is outside of all.
    options = {**environment(), "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    watched = [found, "--tool", "memcheck", "--error-exitcode", str(FOUND), "--target-processes", "all"]
    with log.open("w") as said:
        arguments = [*watched, *command(results, 0, 1, *SELECTED)]
        process = subprocess.Popen(arguments, cwd=ROOT, env=options, stdout=said, stderr=said)
        try:
            code = process.wait(timeout=max(1.0, deadline - time.time()))
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
    text, tests = log.read_text(errors="replace"), summary([results])
    reports = [line for line in text.splitlines() if line.startswith("=========") and "Invalid" in line]
    found_here = {"tests": tests["ran"], "selected": tests["selected"], "reports": reports[:20]}
    if reports or code == FOUND:
        return {**found_here, "status": "failed", "why": f"{len(reports)} invalid accesses: {log.name}"}
    if code == 0 and tests["ran"] == tests["selected"] > 0:
        return found_here
    return {
        **found_here,
        "status": "not finished",
        "why": f"{tests['ran']} of {tests['selected']} tests, exit status {code}",
    }
