"""`make gpu-check` without a GPU: every section of its dry mode runs, and what it could not find out it does not claim."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu_check import __main__ as command
from benchmarks.gpu_check import suite
from benchmarks.gpu_check.journal import DeviceLost, Journal, NotRun, Step, run
from benchmarks.gpu_check.report import DRY, markdown
from tests import executor

ROOT = Path(__file__).resolve().parents[2]


def check(out: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--out", str(out), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def dry(tmp_path_factory):
    pytest.importorskip("ttsem")
    out = tmp_path_factory.mktemp("gpu_check")
    said = check(out, "--dry")
    return said, json.loads((out / "report.json").read_text()), (out / "report.md").read_text()


def test_every_section_runs(dry):
    said, report, text = dry
    assert said.returncode == 0, said.stdout + said.stderr + text
    assert {name: section["status"] for name, section in report["sections"].items()} == dict.fromkeys(
        command.LIMITS, "ok"
    )
    steps = [step for section in report["sections"].values() for step in section["steps"]]
    assert {step["status"] for step in steps} <= {"ok", "not run"}
    assert all(step["why"] for step in steps if step["status"] == "not run")


def test_nothing_is_claimed_as_measured(dry):
    _, report, text = dry
    assert report["label"] == DRY and DRY in text
    assert report["not_run_in_dry_mode"]
    steps = report["sections"]["timing"]["steps"]
    assert all(step["flops_per_second"] is None for step in steps if step["name"].startswith("peak "))
    rows = [row for step in steps for row in step.get("rows", [])]
    for row in rows:
        for name in ("seconds", "p20", "p80", "fraction", "peak_bytes"):
            assert row.get(name) is None, (row["label"], name)
    assert "ms |" not in text and "µs |" not in text and "MiB" not in text


def test_ours_and_the_matrix_form_are_right_in_every_cell_and_the_absent_are_named(dry):
    cells = [step for step in dry[1]["sections"]["timing"]["steps"] if "rows" in step]
    assert {cell["problem"] for cell in cells} == {
        *("clip_loss", "nt_xent", "siglip_loss", "info_nce", "kde_entropy", "sup_con")
    }
    for cell in cells:
        rows = {row["contender"]: row for row in cell["rows"]}
        for name in ("ours", "matrix"):
            assert rows[name]["status"] == "ok" and rows[name]["gradient_error"] < 0.05
    rows = [row for cell in cells for row in cell["rows"] if row["status"] == "not installed"]
    assert all(row["why"] for row in rows)


def test_the_suite_says_what_it_ran_and_on_what(dry):
    (tests,) = dry[1]["sections"]["suite"]["steps"]
    assert tests["ran"] == tests["selected"] == 4
    assert tests["on"] == "the executor"


@pytest.mark.skipif(executor.REAL, reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_fails(tmp_path):
    said = check(tmp_path)
    assert said.returncode == 1
    assert "no GPU answers" in said.stdout
    text = (tmp_path / "report.md").read_text()
    assert "nothing was measured" in text and "torch.cuda.is_available() is False" in text


def test_steps_are_isolated_and_a_lost_device_ends_the_process_but_not_the_section(tmp_path):
    done: list[str] = []

    def ok() -> dict:
        done.append("ok")
        return {"found": 1}

    def illegal() -> dict:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def wrong() -> dict:
        raise ValueError("no such thing")

    def absent() -> dict:
        raise NotRun("there is one GPU")

    steps = [Step("wrong", wrong), Step("absent", absent), Step("illegal", illegal), Step("ok", ok)]
    journal, later = Journal(tmp_path / "steps.jsonl"), time.time() + 60
    with pytest.raises(DeviceLost):
        run(steps, journal, later)
    assert done == []
    run(steps, journal, later)  # as a new process does
    found = {name: step["status"] for name, step in journal.steps().items()}
    assert found == {"wrong": "failed", "absent": "not run", "illegal": "failed", "ok": "ok"}
    assert "no such thing" in journal.steps()["wrong"]["why"] and "traceback" in journal.steps()["wrong"]
    assert command.judged(journal, [], 1.0)["status"] == "failed"


def test_what_is_not_begun_by_the_deadline_is_not_reached(tmp_path):
    journal = Journal(tmp_path / "steps.jsonl")
    run([Step("late", dict)], journal, time.time() - 1)
    assert journal.steps()["late"]["status"] == "not reached"
    assert command.judged(journal, [], 1.0)["status"] == "not finished"


def test_a_suite_that_was_stopped_is_not_finished_and_its_failures_are_told(tmp_path):
    log = tmp_path / "suite.log"
    log.write_text("")
    lines = [
        {"test": "", "outcome": "collected", "count": 3, "on": "a GPU"},
        {"test": "a", "outcome": "passed", "seconds": 0.1},
        {"test": "b", "outcome": "skipped", "seconds": 0.1, "why": "hypothesis is not installed"},
    ]
    results = tmp_path / "suite.jsonl"
    results.write_text("\n".join(map(json.dumps, lines)) + '\n{"test": "c", "outc')
    found = suite.judged(suite.summary([results]), [None], [log], dry=False)
    assert (found["status"], found["ran"], found["selected"]) == ("not finished", 2, 3)
    with results.open("w") as file:
        lines.append({"test": "c", "outcome": "failed", "seconds": 0.1, "why": "AssertionError: NaN"})
        file.write("\n".join(map(json.dumps, lines)) + "\n")
    found = suite.judged(suite.summary([results]), [1], [log], dry=False)
    assert found["status"] == "failed"
    sections = {
        "environment": {"status": "ok", "steps": []},
        "suite": {"status": "failed", "steps": [{"name": "tests", **found}]},
    }
    text = markdown({"label": "", "dry": False, "sections": sections})
    assert "AssertionError: NaN" in text and "hypothesis is not installed" in text


def test_a_suite_on_the_executor_proves_nothing_about_a_gpu(tmp_path):
    log, results = tmp_path / "suite.log", tmp_path / "suite.jsonl"
    log.write_text("")
    lines = [
        {"test": "", "outcome": "collected", "count": 1, "on": "the executor"},
        {"test": "a", "outcome": "passed", "seconds": 0.1},
    ]
    results.write_text("\n".join(map(json.dumps, lines)) + "\n")
    assert suite.judged(suite.summary([results]), [0], [log], dry=False)["status"] == "not finished"
    assert suite.judged(suite.summary([results]), [0], [log], dry=True)["status"] == "ok"
