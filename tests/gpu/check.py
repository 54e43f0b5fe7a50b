"""`make gpu-check`: what this package does on this machine's GPU, in one command of about nine minutes.

    environment  the GPU, its driver, torch and Triton
    suite        the tests of the triton backend, and of the cuda backend where it was built, on real CUDA tensors
    behaviour    same bits twice, CUDA graphs, torch.compile, streams, threads, a second GPU, tensors beyond 2³¹ elements
    sanitizer    a few tests under compute-sanitizer
    times        times and peak memory of every operation against its rivals (python -m benchmarks --device cuda)

It runs in the present Python, which needs torch, triton and the extra "test"; it builds and installs nothing. Each
section is a process of its own with its own seconds, since an illegal access on a GPU ends its process. --dry runs the same
code without a GPU, on the executor of the tests.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
SECONDS = {"environment": 40, "suite": 220, "behaviour": 70, "sanitizer": 50, "times": 150}
GRACE = 20  # seconds that a section has to write down what it found once it is interrupted
# A process holds half a GiB of the GPU's memory and a core; all of them compile some 1,800 kernels, half a second each.
MOST_PROCESSES = 12
FEW = [
    "tests/unit/test_rivals.py",
    "-k",
    "random_unit_vectors or opposite",
]  # fused kernels in bf16, strips in fp32, ragged
MOST_LINES = 8


@dataclass
class Section:
    """What became of one: status "ok", "failed", "stopped" at its limit, or "not run" with why."""

    name: str
    status: str
    why: str = ""
    seconds: float = 0.0
    outcomes: dict[str, int] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.gpu.check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-check"), help="folder for check.md, logs and times")
    parser.add_argument("--dry", action="store_true", help="no GPU: a few tests and tiny sizes, nothing measured")
    parser.add_argument(
        "--only", type=sections, default=SECONDS, metavar="NAME[=SECONDS],…", help=f"of {', '.join(SECONDS)}"
    )
    chosen = parser.parse_args(arguments)
    out = chosen.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    found: list[Section] = []
    for name, seconds in chosen.only.items():
        print(f"{name} …", end=" ", flush=True)
        found.append(run(name, seconds, out, chosen.dry))
        print(f"{found[-1].status}, {found[-1].seconds:.0f} s", flush=True)
        (out / "check.md").write_text(report(found, out, chosen.dry))
        if name == "environment" and found[-1].status == "failed":
            print("no GPU answers: nothing else is run (--dry needs none)")
            break
    print(f"report: {out / 'check.md'}")
    return 0 if all(section.status in ("ok", "not run") for section in found) else 1


def sections(text: str) -> dict[str, int]:
    """ "suite,times=300" as names and seconds; the environment is always asked first, as it says whether a GPU answers."""
    chosen = {"environment": SECONDS["environment"]}
    for part in text.split(","):
        name, _, seconds = part.partition("=")
        if name not in SECONDS or (seconds and not seconds.isdigit()):
            raise argparse.ArgumentTypeError(
                f"{part!r} is not one of {', '.join(SECONDS)}, nor one of them with =SECONDS"
            )
        chosen[name] = int(seconds or SECONDS[name])
    return chosen


def command(name: str, seconds: int, out: Path, dry: bool) -> list[str] | str:
    """What a section runs, or why it cannot."""
    python = sys.executable
    pytest = [python, "-m", "pytest", "-q", "-m", "gpu", "--continue-on-collection-errors", "-p", "no:cacheprovider"]
    pytest += [f"--junitxml={out / name}.xml"]
    if name == "environment":
        ask = "import torch, sys; sys.exit(0 if torch.cuda.is_available() else 'torch.cuda.is_available() is False')"
        return [python, "-c", f"from jessl_kernels.__main__ import report; print(report()); {'' if dry else ask}"]
    if name == "suite":
        if dry:
            return [*pytest, *FEW]
        workers = str(max(1, min(MOST_PROCESSES, os.cpu_count() or 1)))
        return [*pytest, "-n", workers, "--dist", "worksteal", "tests/unit", "tests/property", "tests/gpu/test_tf32.py"]
    if name == "behaviour":
        alone = (
            ["-k", "clip_loss or not same_bits"] if dry else ["-n", "1"]
        )  # xdist goes on where a test ends its process
        return [*pytest, *alone, "tests/gpu/test_behaviour.py"]
    if name == "sanitizer":
        tool = sanitizer()
        if dry or tool is None:
            return "there is no GPU to watch" if dry else "compute-sanitizer is neither on the PATH nor under CUDA_HOME"
        return [tool, "--tool", "memcheck", "--error-exitcode", "9", "--target-processes", "all", *pytest, *FEW]
    device = "dry" if dry else "cuda"
    minutes = str((seconds - GRACE) / 60)
    return [
        python,
        "-m",
        "benchmarks",
        "--device",
        device,
        "--fresh",
        "--minutes",
        minutes,
        "--out",
        str(out / "times"),
    ]


def sanitizer() -> str | None:
    """On the PATH, or where a CUDA toolkit keeps it."""
    homes = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")] + ["/usr/local/cuda"]
    places = [os.environ.get("PATH", ""), *(os.path.join(home, "bin") for home in homes if home)]
    return shutil.which("compute-sanitizer", path=os.pathsep.join(places))


def run(name: str, seconds: int, out: Path, dry: bool) -> Section:
    """A section in a process group of its own, interrupted at its limit and killed if it does not end then."""
    what = command(name, seconds, out, dry)
    if isinstance(what, str):
        return Section(name, "not run", what)
    # The same hash seed gives every process of the suite the same order of parameters.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    if name == "sanitizer":  # every tensor an allocation of its own, so that reading past one is outside of all
        environment["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"
    results, started = out / f"{name}.xml", time.monotonic()
    results.unlink(missing_ok=True)
    with (out / f"{name}.log").open("w") as log:
        process = subprocess.Popen(what, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
        code: int | None = None
        for patience, sign in ((seconds, signal.SIGINT), (GRACE, signal.SIGKILL), (None, None)):
            try:
                status = process.wait(patience)
                code = status if sign == signal.SIGINT else None
                break
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, sign)
    section = Section(
        name, "ok" if code == 0 else "stopped" if code is None else "failed", seconds=time.monotonic() - started
    )
    if section.status != "ok":
        section.why = f"stopped after {seconds} s" if code is None else f"exit status {code}: {out / name}.log"
    if results.exists():
        count(section, results)
    return section


def count(section: Section, results: Path) -> None:
    """Outcomes and failures from pytest's own record; a section without a test that passed proves nothing."""
    for case in ElementTree.parse(results).iter("testcase"):
        bad = next((child for child in case if child.tag in ("failure", "error")), None)
        skipped = any(child.tag == "skipped" for child in case)
        outcome = "failed" if bad is not None else "skipped" if skipped else "passed"
        section.outcomes[outcome] = section.outcomes.get(outcome, 0) + 1
        if bad is not None:
            lines = [line for line in (bad.text or "").splitlines() if line.startswith("E ")] or [
                bad.get("message", "")
            ]
            section.failures.append((f"{case.get('classname')}::{case.get('name')}", "\n".join(lines[:MOST_LINES])))
    if not section.outcomes.get("passed"):
        section.status, section.why = "failed", section.why or "no test passed"


def report(found: list[Section], out: Path, dry: bool) -> str:
    on = (
        "**Dry run: nothing here ran on a GPU, nothing was measured.**"
        if dry
        else "On the GPU named under Environment."
    )
    lines = ["# GPU check", "", on, "", "| section | | seconds | tests |", "|---|---|---|---|"]
    for section in found:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in section.outcomes.items())
        status = f"{section.status}: {section.why}" if section.why else section.status
        lines.append(f"| {section.name} | {status} | {section.seconds:.0f} | {counts} |")
    lines += ["", "## Environment", "", "```", (out / "environment.log").read_text().strip()]
    if not dry and (tool := shutil.which("nvidia-smi")):
        asked = "--query-gpu=name,driver_version,clocks.sm,clocks.max.sm,power.limit,temperature.gpu"
        lines.append(subprocess.run([tool, asked, "--format=csv"], capture_output=True, text=True).stdout.strip())
    lines.append("```")
    for section in found:
        for test, why in section.failures:
            lines += [
                "",
                f"- {section.name}: `{test}`",
                "",
                "  ```",
                *(f"  {line}" for line in why.splitlines()),
                "  ```",
            ]
    if (out / "times" / "report.md").exists():
        lines += ["", "Times: [times/report.md](times/report.md)"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
