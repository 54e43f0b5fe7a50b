"""`make gpu-check` without a GPU: every section of its dry mode runs, and what it could not find out it does not claim."""

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
import torch

from benchmarks.gpu_check import __main__ as command
from benchmarks.gpu_check import contenders, suite, timing
from benchmarks.gpu_check.cells import Cell, cells
from benchmarks.gpu_check.device import Gpu, Pretended
from benchmarks.gpu_check.journal import DeviceLost, Journal, NotRun, Step, run
from benchmarks.gpu_check.report import DRY, markdown
from benchmarks.gpu_check.shards import share
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
    assert {cell["problem"] for cell in cells} == {*("clip_loss", "nt_xent", "siglip_loss", "info_nce", "kde_entropy")}
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


def test_a_process_that_hangs_in_a_step_is_stopped_and_one_that_dies_is_named(tmp_path):
    def watched(code: str, latest: float, patience: float | None) -> str:
        process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        try:
            return command.watched(process, Journal(tmp_path / "none.jsonl"), time.time() + latest, patience)
        finally:
            command.end(process)

    assert watched("import time; time.sleep(60)", 30, 0.3) == "stopped: it took more than 0 s"
    assert watched("import time; time.sleep(60)", 0.3, None) == command.LATE
    assert watched("import os; os.abort()", 30, 30) == "its process ended with status -6"


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


def test_every_test_is_in_one_share_and_shares_are_alike():
    for count, of in ((11, 2), (1461, 8), (3, 12), (0, 4)):
        shares = [share(list(range(count)), part, of) for part in range(of)]
        assert sorted(n for one in shares for n in one) == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 16


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


class Clocked(Pretended):
    """A clock on which every call takes as long, and needs as much."""

    def seconds(self, call):
        call()
        return 0.25

    def peak_bytes(self, call):
        call()
        return 3 << 20


def raising(error: Exception):
    def loss(*batches):
        raise error

    return contenders.Contender(type(error).__name__, lambda: loss)


def absent():
    raise ImportError("No module named 'rival'")


def off_by(factor: float):
    return lambda x, y: factor * timing.PROBLEMS["clip_loss"].matrix(x, y)


@pytest.fixture
def measured(monkeypatch):
    """A cell with a rival of each kind, on a clock."""
    rivals = {
        "ours": contenders.contenders("clip_loss")["ours"],
        "matrix": contenders.contenders("clip_loss")["matrix"],
        "full": raising(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 16 GiB")),
        "broken": raising(RuntimeError("no kernel image")),
        "absent": contenders.Contender("absent", absent),
        "wrong": contenders.Contender("wrong", lambda: off_by(1.1)),
        "other": contenders.Contender("another quantity", lambda: off_by(7.0), products=2),
        "compiled": contenders.Contender("compiled", lambda: off_by(1.0), compiles=True),
    }
    monkeypatch.setattr(timing, "contenders", lambda problem: rivals)
    pytest.importorskip("ttsem")

    def measure():
        with executor.gpu():
            return timing.measure(Clocked(), Cell("clip_loss", 32, 16, "fp32"))

    return measure, rivals


def test_whoever_is_wrong_absent_or_out_of_memory_is_a_row_and_not_timed(measured):
    found = measured[0]()
    rows = {row["contender"]: row for row in found["rows"]}
    assert {name: row["status"] for name, row in rows.items()} == {
        "ours": "ok",
        "matrix": "ok",
        "full": "out of memory",
        "broken": "failed",
        "absent": "not installed",
        "wrong": "wrong",
        "other": "ok",
        "compiled": "left out",
    }
    for name, row in rows.items():
        assert (row["seconds"] is not None) == (name in ("ours", "matrix", "other")), name
    ours = rows["ours"]
    assert ours["seconds"] == ours["p20"] == ours["p80"] == 0.25 and ours["peak_bytes"] == 3 << 20
    # 4 products of 2·32²·16 flops in the time of one of 2·64³.
    assert ours["fraction"] == pytest.approx(4 * 32**2 * 16 / 64**3)
    assert rows["other"]["fraction"] == pytest.approx(2 * 32**2 * 16 / 64**3)
    steps = [{"name": "cell", "status": "ok", **found}]
    sections = {name: {"status": "ok", "steps": steps if name == "timing" else []} for name in command.LIMITS}
    text = markdown({"label": "", "dry": False, "sections": sections})
    for words in (
        "| ours | 250 ms | 250 ms – 250 ms | ×1.00 | 0.25 | 3 MiB |",
        "out of memory: CUDA out of memory",
        "No module",
    ):
        assert words in text


def test_a_cell_in_which_ours_is_wrong_fails(measured):
    measured[1]["ours"] = contenders.Contender("ours", lambda: off_by(1.001))
    found = measured[0]()
    assert found["status"] == "failed" and "ours, wrong" in found["why"]


def test_a_lost_device_is_no_row(measured):
    measured[1]["broken"] = raising(RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(DeviceLost, match="illegal memory access"):
        measured[0]()


def test_sizes_are_asked_for_once_and_the_foremost_come_first():
    grid = cells(dry=False)
    assert len({cell.name for cell in grid}) == len(grid) > 160
    assert {cell.problem for cell in grid[:5]} == {"clip_loss", "nt_xent", "siglip_loss", "info_nce", "kde_entropy"}
    assert {cell.N for cell in grid} >= {4096, 262144} and {cell.D for cell in grid} == {128, 256, 512, 1024}


def test_the_calls_of_a_real_device_fit_torch():
    """No GPU answers them here; but their names and arguments are torch's."""
    functions = (
        *("synchronize", "device_count", "mem_get_info", "empty_cache", "reset_peak_memory_stats", "memory_allocated"),
        *("max_memory_allocated", "current_stream", "get_sync_debug_mode", "set_sync_debug_mode", "stream"),
    )
    classes = ("Event", "Stream", "CUDAGraph", "graph")
    with contextlib.ExitStack() as stack:
        found = {
            name: stack.enter_context(mock.patch.object(torch.cuda, name, autospec=True))
            for name in (*functions, *classes)
        }
        found["memory_allocated"].return_value, found["max_memory_allocated"].return_value = 100, 350
        found["mem_get_info"].return_value = (5, 10)
        found["Event"].return_value = mock.Mock(elapsed_time=lambda _: 500.0)
        device = Gpu()
        device._flushed = torch.empty(1)
        call = mock.Mock(return_value=[torch.ones(1)])
        assert device.seconds(call) == 0.5
        assert device.peak_bytes(call) == 250
        assert device.free_bytes() == 5
        with device.another_stream(), device.without_waiting():
            device.wait()
            assert found["set_sync_debug_mode"].call_args.args == ("error",)
        outputs, replay = device.captured(call)
        replay()
        assert outputs == [torch.ones(1)] and call.call_count == 5
