"""`python -m benchmarks.gpu_check --out DIR`: validates the package on the GPU that is there; see the package's docstring."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from . import __doc__ as explained
from .journal import DEVICE_LOST, DeviceLost, Journal, Step, run
from .report import write

# Seconds of each, in order; what is left of all goes to the last.
LIMITS = {"environment": 40, "suite": 240, "sanitizer": 50, "behaviour": 80, "timing": 600}
MINUTES = 8.9
LEAVING = 20.0  # seconds that a section has from its deadline, when nothing more is begun, until it is ended
LATE = "stopped at the section's time limit"
MOST_STARTS = 6  # of one section whose process dies
PATIENCE = {"environment": 40.0, "behaviour": 45.0, "timing": 75.0}  # seconds of one step; the others have their own
WITHOUT_DEVICE = ("suite", "sanitizer")


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check",
        description=explained,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for report.md, report.json and the logs")
    add("--dry", action="store_true", help="no GPU: tiny sizes on the executor of the tests, nothing measured")
    add("--only", nargs="+", choices=list(LIMITS), metavar="SECTION", help=f"of {', '.join(LIMITS)}")
    add("--named", nargs="+", default=[], metavar="WORDS", help="only steps whose name holds one of these")
    add("--minutes", type=float, default=MINUTES, help=f"for all of it (default {MINUTES}); more reach more sizes")
    add("--section", choices=list(LIMITS), help=argparse.SUPPRESS)
    add("--deadline", type=float, default=0.0, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    chosen = options(arguments)
    chosen.out = chosen.out.resolve()
    return section(chosen) if chosen.section else everything(chosen)


def everything(chosen: argparse.Namespace) -> int:
    """All sections in turn; the report is written after each, so that an interrupted run leaves what it found."""
    chosen.out.mkdir(parents=True, exist_ok=True)
    started, sections = time.time(), {}
    names = [name for name in LIMITS if name == "environment" or not chosen.only or name in chosen.only]
    for name in names:
        Journal(chosen.out / f"{name}.jsonl").path.unlink(missing_ok=True)
        sections[name] = {"status": "not reached", "steps": []}
    try:
        for name in names:
            left = started + 60 * chosen.minutes - time.time() - LEAVING
            print(f"{name} …", end=" ", flush=True)
            sections[name] = supervised(name, chosen, min(LIMITS[name], left) if left > 0 else 0.0)
            print(f"{sections[name]['status']}, {sections[name]['seconds']:.0f} s", flush=True)
            write(chosen.out, chosen.dry, sections)
            if name == "environment" and not answers(sections[name]):
                print("no GPU answers: nothing else is run (--dry needs none)")
                break
    finally:
        write(chosen.out, chosen.dry, sections)
    print(f"report: {chosen.out / 'report.md'}")
    return 0 if all(found["status"] == "ok" for found in sections.values()) else 1


def answers(environment: dict[str, Any]) -> bool:
    return any(step["name"] == "device" and step["status"] == "ok" for step in environment["steps"])


def supervised(name: str, chosen: argparse.Namespace, limit: float) -> dict[str, Any]:
    """One section in a process of its own, and in another where that dies: it goes on with the step after."""
    journal, started = Journal(chosen.out / f"{name}.jsonl"), time.time()
    deadline, log, problems = started + limit, chosen.out / f"{name}.log", []
    for _ in range(MOST_STARTS):
        command = [sys.executable, "-m", __package__, "--section", name, "--out", str(chosen.out)]
        command += ["--deadline", str(deadline), *(["--dry"] if chosen.dry else [])]
        command += ["--named", *chosen.named] if chosen.named and name != "environment" else []
        with log.open("a") as said:
            process = subprocess.Popen(
                command, cwd=Path(__file__).resolve().parents[2], stdout=said, stderr=said, start_new_session=True
            )
            try:
                why = watched(process, journal, deadline + LEAVING, PATIENCE.get(name))
            finally:
                end(process)
        code = process.returncode
        died_in = [step for step, entry in journal.steps().items() if entry["status"] == "begun"]
        for step in died_in:
            journal.write(name=step, status="failed" if why != LATE else "not finished", why=why)
        if code == 0 or why == LATE or time.time() > deadline:
            break
        if not died_in and code != DEVICE_LOST:
            problems.append(f"{why}: {tail(log)}")
            break
    return judged(journal, problems, round(time.time() - started, 1))


def watched(process: subprocess.Popen, journal: Journal, latest: float, patience: float | None) -> str:
    """Wait for a process and say how it ended, or why it must end: it is late, or hangs in a step."""
    heard = time.time()
    while process.poll() is None:
        time.sleep(0.05)
        if journal.path.exists():
            heard = max(heard, journal.path.stat().st_mtime)
        if time.time() > latest:
            return LATE
        if patience is not None and time.time() > heard + patience:
            return f"stopped: it took more than {patience:.0f} s"
    return f"its process ended with status {process.returncode}"


def end(process: subprocess.Popen) -> None:
    """It and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").strip().splitlines()[-3:])


def judged(journal: Journal, problems: list[str], seconds: float) -> dict[str, Any]:
    """A step that cannot be made here, and a size for which no time was left, are no failures."""
    steps = list(journal.steps().values())
    statuses = [step["status"] for step in steps]
    bad = [status for status in statuses if status not in ("ok", "not run", "not reached")]
    if problems or "failed" in bad:
        status = "failed"
    elif bad or not steps or statuses[0] == "not reached":
        status = "not finished"
    else:
        status = "ok"
    return {"status": status, "seconds": seconds, "why": "; ".join(problems), "steps": steps}


def section(chosen: argparse.Namespace) -> int:
    """What runs in the process of a section."""
    name = chosen.section
    module, journal = import_module(f".{name}", __package__), Journal(chosen.out / f"{name}.jsonl")
    try:
        if name in WITHOUT_DEVICE:
            steps = module.steps(chosen.out, chosen.dry, chosen.deadline)
            run(wanted(steps, chosen.named), journal, chosen.deadline)
            return 0
        from .device import opened

        with opened(chosen.dry) as device:
            run(wanted(module.steps(device), chosen.named), journal, chosen.deadline)
    except DeviceLost:
        # Without the interpreter's tidying up, which would ask the device.
        os._exit(DEVICE_LOST)
    return 0


def wanted(steps: list[Step], named: list[str]) -> list[Step]:
    return [step for step in steps if not named or any(words in step.name for words in named)]


if __name__ == "__main__":
    sys.exit(main())
