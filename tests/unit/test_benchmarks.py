"""The benchmark report: every contender computes its problem, an interrupted run goes on, tables say what happened."""

import json
import math
import re
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import cells, measure
from benchmarks.contenders import contenders
from benchmarks.problems import LOSSES, PROBLEMS, errors, evaluate, in_double
from benchmarks.processes import ROOT, Limits, supervise
from benchmarks.report import markdown, time_text
from benchmarks.rows import peaks, percentile, roof_seconds, rows, write_csv
from benchmarks.run import run, why_hopeless
from benchmarks.store import open_store, read

LIMITS = Limits(seconds=30.0, memory_mib=2000.0, threads=1)
SAME = {
    "commit": "0123456789ab",
    "cpu": "some CPU",
    "level": "AVX2",
    "simd": "cpu: avx2",
    "threads": 1,
    "limit": 60.0,
    "torch": "2",
    "jessl_kernels": "0",
    "python": "3",
}
# 100 GFLOP/s on all threads and 50 on one.
MACHINE = {"products": [2 * 4096**3 / 100e9], "one_thread": [2 * 4096**3 / 50e9]}


def setting(**changed):
    return {"same": {**SAME, **changed}, "machine": MACHINE, "memory_mib": 1024}


def result(seconds, **more):
    errors_ = {"value_error": 1e-7, "gradient_error": 2e-7, "checked_rows": 64}
    return {"status": "ok", "seconds": seconds, "peak_mib": 12.0, **errors_, **more}


def record(problem, N, D, **results):
    of = {"problem": problem, "N": N, "D": D, "key": f"{problem}/{N}/{D}"}
    return {**of, "results": results, "product_seconds": [], "took": 1.0, "when": "2026-01-01T00:00:00+00:00"}


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "cells.jsonl", setting())


# Who compiles for seconds is left to the run itself, which refuses to time what is wrong.
@pytest.mark.parametrize(
    ("problem", "name"), [(p, n) for p in PROBLEMS for n, c in contenders(p).items() if not c.compiles]
)
def test_contender_computes_its_problem(problem, name):
    N, D = (64, 5)
    if problem == "nt_xent_trained" and find_spec("mnist") is None:
        pytest.skip("MNIST comes with the demo's requirements")
    batches = PROBLEMS[problem].batches(N, D)
    function = contenders(problem)[name].make()
    value, gradient = errors(evaluate(PROBLEMS[problem], function, batches), in_double(PROBLEMS[problem], batches))
    assert value < 1e-5
    assert (gradient is None) == (not PROBLEMS[problem].gradient)
    assert gradient is None or gradient < 1e-5


def test_white_points_have_the_identity_for_covariance():
    (z,) = PROBLEMS["kde_value"].batches(50, 3)
    torch.testing.assert_close(torch.cov(z.double().T), torch.eye(3).double(), atol=1e-5, rtol=0)


def test_full_grid_is_what_the_report_promises():
    grid = cells.full()
    keys = {cell.key for cell in grid}
    assert len(keys) == len(grid)
    for loss in LOSSES:
        assert {f"{loss}/{N}/{D}" for N in (64, 256, 1024, 4096) for D in (16, 64, 128, 256, 512, 768)} <= keys
        assert {f"{loss}/{N}/{D}" for N in (8192, 16_384) for D in (128, 512)} <= keys
    alone = [cell for cell in grid if cell.N == 65_536]
    assert {cell.problem for cell in alone} == set(LOSSES)
    assert all(cell.contenders == ("ours",) for cell in alone)
    skipping = {cell.key for cell in grid if cell.contenders == ("ours", "skip_1e-6", "skip_1e-3")}
    assert skipping == {"kde_clustered/100000/2", "kde_clustered/100000/16", "nt_xent_trained/16384/128"}
    with_keops = {cell.key for cell in grid if "keops" in cell.contenders}
    assert with_keops == {f"kde_entropy/16384/{D}" for D in (2, 4, 16, 128)}


def test_interrupted_run_goes_on_with_the_cells_that_are_missing(tmp_path, monkeypatch):
    path, measured = tmp_path / "cells.jsonl", []

    def measure_cell(cell, *_, **__):
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(cell.key)
        return record(cell.problem, cell.N, cell.D, ours=result([0.1]))

    monkeypatch.setattr("benchmarks.run.run_cell", measure_cell)
    grid = [cells.cell("nt_xent", N, 16) for N in (64, 128, 256)]
    options = {"box": 1.0, "deadline": math.inf, "report": lambda _: None, "done": lambda _: None}
    with pytest.raises(KeyboardInterrupt):
        run(open_store(path, setting()), grid, LIMITS, **options)
    with path.open("a") as file:
        file.write('{"kind": "cell", "key": "cut o')
    monkeypatch.setattr("benchmarks.run.run_cell", lambda cell, *_, **__: record(cell.problem, cell.N, cell.D))
    again = open_store(path, setting())
    assert list(again.cells) == measured == ["nt_xent/64/16", "nt_xent/128/16"]
    assert run(again, grid, LIMITS, **options) == []
    assert list(read(path).cells) == ["nt_xent/64/16", "nt_xent/128/16", "nt_xent/256/16"]


def test_run_says_for_which_cells_no_time_was_left(store):
    grid = [cells.cell("nt_xent", 64, 16)]
    left = run(store, grid, LIMITS, box=1.0, deadline=time.monotonic() - 1, report=lambda _: None, done=lambda _: None)
    assert left == grid
    assert not store.cells
    store.leave([cell.key for cell in left])
    again = read(store.path)
    assert again.left == ["nt_xent/64/16"]
    assert "No time was left for: nt_xent/64/16." in markdown(again, [], [])


def test_results_of_another_commit_are_not_mixed(store):
    with pytest.raises(ValueError, match="holds a run with commit '0123456789ab'; this one has commit 'other'"):
        open_store(store.path, setting(commit="other"))


def test_rounds_fill_the_box_and_slow_calls_count_themselves():
    assert measure.rounds({"ours": 0.01, "matrix": 0.09}, box=1.0) == {"ours": 50, "matrix": 5}
    assert measure.rounds({"ours": 1e-5, "matrix": 1e-5}, box=1.0) == {"ours": 200, "matrix": 200}
    assert measure.rounds({"ours": 1.0, "matrix": 2.0, "peer": 9.0}, box=1.0) == {"ours": 3, "matrix": 3, "peer": 0}
    assert measure.rounds({}, box=1.0) == {}


def test_hopeless_is_what_ran_out_or_would_by_the_square_of_rows(store):
    cell = cells.cell("nt_xent", 4096, 16)
    assert why_hopeless(cell, "matrix", store, limit=60) == ""
    store.add(record("nt_xent", 1024, 16, matrix=result([5.0]), lightly={"status": "timeout", "seconds": []}))
    store.add(record("nt_xent", 64, 16, matrix=result([1e-3])))
    store.add(record("dcl", 4096, 16, ours=result([1000.0])))
    assert why_hopeless(cell, "matrix", store, limit=60) == ""
    assert why_hopeless(cell, "matrix", store, limit=40) == "estimated 80 s, limit 40 s"
    assert why_hopeless(cell, "lightly", store, limit=60) == "timeout at N = 1,024, D = 16 already"
    assert why_hopeless(cell, "ours", store, limit=60) == ""


def test_fractions_and_roofs_are_of_the_measured_rates(store):
    flops = 2 * 2 * 4096**2 * 128  # two products
    store.add(record("nt_xent", 4096, 128, ours=result([flops / 150e9]), matrix=result([flops / 50e9])))
    # Here scores may be kept, and one of the products not be computed.
    store.add(record("clip_loss", 1024, 128, ours=result([4 * 2 * 1024**2 * 128 / 400e9])))
    found = {row.contender: row for row in rows(store) if row.problem == "nt_xent"}
    assert found["ours"].fraction == pytest.approx(1.5)
    assert found["matrix"].fraction == pytest.approx(0.5)
    assert found["matrix"].ratio == pytest.approx(3.0)
    known = peaks(store)
    assert known.best == pytest.approx(150e9)
    value = 1024**2 / 2 * (13 + 2 * 4) / 75e9
    gradient = 1024**2 / 2 * (2 * 13 + 8 * 4 + 4) / 75e9
    assert roof_seconds("kde_value", 1024, 4, known) == pytest.approx(value)
    assert roof_seconds("kde_entropy", 1024, 4, known) == pytest.approx(gradient)


def test_percentiles_lie_between_the_ordered_numbers():
    assert percentile([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0.2) == pytest.approx(2.0)
    assert percentile([1.0, 3.0], 0.8) == pytest.approx(2.6)
    assert percentile([7.0], 0.8) == 7.0
    assert percentile([], 0.5) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "–"), (2e-5, "20 µs"), (0.01234, "12.3 ms"), (0.9999, "1.00 s"), (61.23, "61.2 s")]
)
def test_times_have_three_figures(seconds, text):
    assert time_text(seconds) == text


def test_report_shows_who_lost_who_ran_out_and_where_we_are_slower(store, tmp_path):
    failed = {"status": "out of memory", "why": "tried to allocate 9 bytes", "seconds": []}
    peer = {"status": "timeout", "why": "first call took more than 60 s", "seconds": []}
    store.add(record("nt_xent", 64, 128, ours=result([2e-3]), matrix=result([1e-3]), compiled=failed, lightly=peer))
    found = rows(store)
    text = markdown(store, found, [])
    line = next(line for line in text.splitlines() if line.startswith("| 64 | 128 |"))
    assert "| 2 ms |" in line
    assert "| 1 ms, **×0.50** | out of memory | timeout |" in line
    assert "- torch.compile, out of memory: tried to allocate 9 bytes (64 × 128)" in text
    assert "| `nt_xent` | 64 | 128 | matrix form | 1 ms, ×0.50 |" in text
    write_csv(found, tmp_path / "results.csv")
    first, *lines = (tmp_path / "results.csv").read_text().splitlines()
    assert first.startswith("problem,N,D,dtype,contender,status")
    assert len(lines) == 4


def test_report_shows_what_skipping_gains_and_what_it_changes(store):
    skips = result([0.1], value_difference=3e-7, gradient_difference=2e-6)
    none = result([2.0], value_difference=0.0, gradient_difference=0.0)
    store.add(record("kde_clustered", 1000, 2, ours=none, **{"skip_1e-6": skips}))
    text = markdown(store, rows(store), [])
    assert "| `kde_clustered` | 1,000 | 2 | skip_below=1e-6 | 100 ms | ×20.00 | 12 MiB | 3e-07, 2e-06 |" in text
    assert "## `kde_clustered`" not in text  # in its own section alone


def test_fraction_above_one_is_explained(store):
    store.add(record("nt_xent", 4096, 128, ours=result([2 * 2 * 4096**2 * 128 / 180e9])))
    assert "up to 1.80 of it" in markdown(store, rows(store), [])


def sleep():
    yield "begin", ("slow", "timing", 0.2)
    time.sleep(60)


def leave():
    yield "begin", ("gone", "timing", 30)
    sys.exit(3)


def allocate():
    yield "begin", ("large", "timing", 30)
    try:
        torch.zeros(10**9)
    except RuntimeError as error:
        yield "failed", measure._reason(error)


def test_processes_are_stopped_and_limited_and_their_events_kept():
    small = Limits(seconds=1.0, memory_mib=500.0, threads=1)
    slow = supervise(sleep, (), {}, small)
    assert (slow.ended, slow.during) == ("timeout", "slow")
    gone = supervise(leave, (), {}, small)
    assert (gone.ended, gone.why, gone.during) == ("died", "the process ended by exit status 3", "gone")
    ((_, _), (_, (status, why))) = supervise(allocate, (), {}, small).events
    assert status == "out of memory"
    assert why.startswith("can't allocate memory")


def test_server_of_processes_does_not_load_our_package():
    # Forked after it was loaded, they would be timed on threads of our own, which no user's process computes on.
    loads = "import sys, benchmarks.preload; sys.exit('jessl_kernels' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loads], cwd=ROOT).returncode == 0


def test_quick_calls_are_not_disturbed_by_words_between_them(monkeypatch):
    monkeypatch.setattr(measure, "QUICK", 10.0)  # whatever else this machine is doing
    found = [
        event for event, _ in measure.time_cell(cells.cell("nt_xent", 64, 16), ("ours", "matrix"), box=0.1, limit=10)
    ]
    assert found.count("seconds") >= 2 * measure.FEWEST_ROUNDS
    assert set(found[found.index("seconds") :]) == {"seconds"}


def test_wrong_contender_is_not_timed(monkeypatch):
    problem = PROBLEMS["nt_xent"]
    wrong = measure.Contender("wrong", lambda: lambda z1, z2: 1.001 * problem.matrix(z1, z2))
    monkeypatch.setattr(measure, "contenders", lambda name: {**contenders(name), "matrix": wrong})
    found = list(measure.time_cell(cells.cell("nt_xent", 64, 16), ("ours", "matrix"), box=0.01, limit=10))
    timed = {payload[0] for event, payload in found if event == "seconds"}
    failed = {payload[0]: payload[1] for event, payload in found if event == "failed"}
    assert timed == {"ours"}
    assert failed == {"matrix": "wrong"}


@pytest.mark.serial
def test_tiny_grid_from_end_to_end(tmp_path, monkeypatch):
    # Without torch.compile and the peaks of the machine, which take longer than all the rest.
    monkeypatch.setattr(
        cells, "quick", lambda: [cells.cell("sup_con", N, 128, without=("compiled",)) for N in (64, 512)]
    )
    same = {**command.setting.same(1), "limit": 60.0, "memory": 2.0, "box": command.QUICK_BOX}
    store = open_store(tmp_path / "cells.jsonl", {**setting(), "same": same})
    arguments = ["--quick", "--threads", "1", "--memory", "2", "--out", str(tmp_path)]
    assert command.main(arguments) == 0
    cell = read(store.path).cells["sup_con/512/128"]
    assert {name: r["status"] for name, r in cell["results"].items()} == dict.fromkeys(cell["results"], "ok")
    assert list(cell["results"]) == ["ours", "matrix", "metric_learning", "reference"]
    # Beyond its inputs the matrix form keeps matrices of 512 × 512 floats, 1 MiB each.
    assert cell["results"]["matrix"]["peak_mib"] > 1.5
    text = (tmp_path / "report.md").read_text()
    assert re.search(r"^\| 512 \| 128 \| [\d.]+ [mµ]?s \|", text, re.MULTILINE)
    for name in ("time.png", "memory.png", "fraction.png"):
        assert (tmp_path / name).stat().st_size > 10_000
        assert f"({name})" in text
    assert len(json.loads((tmp_path / "results.json").read_text())["rows"]) == 8
    # The second time there is nothing left to measure.
    monkeypatch.setattr("benchmarks.run.run_cell", pytest.fail)
    assert command.main(arguments) == 0
