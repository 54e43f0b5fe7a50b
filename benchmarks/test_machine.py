"""The benchmark machine: contenders compute their problem, a run survives what happens to it, and the report claims no more."""

import math
import re
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest
import torch

import jessl_kernels as jk
from benchmarks import __main__ as command
from benchmarks import cells, measure
from benchmarks.cells import Cell
from benchmarks.charts import roof_seconds
from benchmarks.contenders import contenders
from benchmarks.device import Cpu
from benchmarks.log import Log, open_log, read
from benchmarks.problems import INFORMATION, LOSSES, PROBLEMS, QUEUE, errors, evaluate, in_double
from benchmarks.processes import ROOT, Limits, supervise
from benchmarks.report import markdown
from benchmarks.rows import percentile, read_csv, rows, time_text, write_csv
from benchmarks.run import run, why_hopeless
from jessl_kernels.literals import BOUND_NAMES

LIMITS = Limits("cpu", seconds=30.0, memory_mib=2000.0, threads=1)
SAME = {
    "device": "some CPU, AVX2",
    "commit": "0123456789ab",
    "threads": 1,
    "torch": "2",
    "jessl_kernels": "0",
    "python": "3",
    "limit": 60.0,
}
RATES = {"product float32": 100e9}
# Not pairwise, or no computation: which backend computes, words for it, and gradient caching, whose cost is the encoder's. Or
# several calls of timed operations: on a whole data set.
NOT_TIMED = {"Exclude", "backends", "cached_backward", "explain", "functional", "nn", "phi", "set_backend"}
NOT_TIMED |= {"entropy_of", "evaluate", "bandwidth_by_likelihood"}  # made of other operations
NOT_TIMED |= {"er"}  # prototypes.py times its losses beside their matrix forms


def result(seconds, **more):
    errors_ = {"value_error": 1e-7, "gradient_error": 2e-7, "checked_rows": 64}
    return {"status": "ok", "seconds": seconds, "peak_bytes": 12 << 20, **errors_, **more}


def record(problem, N, D, dtype="float32", products=(), **results):
    cell = Cell(problem, N, D, dtype)
    of = {"problem": problem, "N": N, "D": D, "dtype": dtype, "key": cell.key}
    return {**of, "results": results, "product_rates": list(products), "took": 1.0, "when": "2026-01-01T00:00:00+00:00"}


@pytest.fixture
def log(tmp_path) -> Log:
    return open_log(tmp_path / "cells.jsonl", SAME, RATES)


def test_every_public_operation_is_timed():
    covered = {name for problem in PROBLEMS.values() for name in problem.covers}
    missing = sorted(set(jk.__all__) - NOT_TIMED - covered)
    assert not missing, f"no problem of benchmarks/problems.py covers {missing}"
    assert covered <= set(jk.__all__) - NOT_TIMED
    assert set(LOSSES) <= set(PROBLEMS)
    # The moving average of "mine" changes nothing that takes time beside "dv".
    assert set(BOUND_NAMES) - {"mine"} == {name.removeprefix("mi_") for name in INFORMATION} - {"joint"}


# Who compiles for seconds is left to the run itself, which refuses to time what is wrong.
@pytest.mark.parametrize(
    ("problem", "name"), [(p, n) for p in PROBLEMS for n, c in contenders(p).items() if not c.compiles]
)
def test_contender_computes_its_problem(problem, name, monkeypatch):
    monkeypatch.setattr("benchmarks.problems.QUEUE", 200)
    if problem == "nt_xent_trained" and find_spec("mnist") is None:
        pytest.skip("MNIST comes with the demo's requirements")
    batches = PROBLEMS[problem].batches(64, 5)
    function = contenders(problem)[name].make()
    value, gradient = errors(evaluate(PROBLEMS[problem], function, batches), in_double(PROBLEMS[problem], batches))
    assert value < 1e-5
    assert (gradient is None) == (not PROBLEMS[problem].gradient)
    assert gradient is None or gradient < 1e-5


def test_white_points_have_the_identity_for_covariance():
    (z,) = PROBLEMS["kde_value"].batches(50, 3)
    torch.testing.assert_close(torch.cov(z.double().T), torch.eye(3).double(), atol=1e-5, rtol=0)


def test_the_grids_hold_each_size_once_and_what_the_report_promises():
    for grid in (cells.full(), cells.gpu(), cells.quick(), cells.dry()):
        assert len({cell.key for cell in grid}) == len(grid)
    full = {cell.key: cell for cell in cells.full()}
    for loss in LOSSES:
        for N, D in ((64, 16), (4096, 512), (8192, 512), (16_384, 128)):
            assert f"{loss} {N} × {D} float32" in full
        assert f"{loss} 4096 × 512 bfloat16" in full
    assert "nt_xent 65536 × 128 float32" in full
    assert "compiled" in full["dcl 4096 × 512 float32"].contenders
    assert "compiled" not in full["dcl 4096 × 16 float32"].contenders
    assert {key.split()[1] for key, cell in full.items() if "keops" in cell.contenders} == {"16384"}
    assert {cell.problem for cell in full.values()} == set(PROBLEMS)
    assert {cell.problem for cell in cells.gpu()[:5]} == set(cells.GPU_LOSSES)
    assert all("scipy" not in cell.contenders for cell in cells.gpu())


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
        run(open_log(path, SAME, RATES), grid, LIMITS, **options)
    with path.open("a") as file:
        file.write('{"kind": "cell", "key": "cut o')
    monkeypatch.setattr("benchmarks.run.run_cell", lambda cell, *_, **__: record(cell.problem, cell.N, cell.D))
    again = open_log(path, SAME, RATES)
    assert list(again.cells) == measured == [cell.key for cell in grid[:2]]
    assert run(again, grid, LIMITS, **options) == []
    assert list(read(path).cells) == [cell.key for cell in grid]


def test_run_says_for_which_cells_no_time_was_left(log):
    grid = [cells.cell("nt_xent", 64, 16)]
    left = run(log, grid, LIMITS, box=1.0, deadline=time.monotonic() - 1, report=lambda _: None, done=lambda _: None)
    assert left == grid
    assert not log.cells
    log.leave([(cell.problem, cell.N, cell.D, cell.dtype) for cell in left])
    assert "No time was left for: `nt_xent` 64 × 16 fp32." in markdown(rows(read(log.path)), [])


def test_results_of_another_commit_are_not_mixed(log):
    with pytest.raises(ValueError, match="holds a run with commit '0123456789ab'; this one has commit 'other'"):
        open_log(log.path, {**SAME, "commit": "other"}, RATES)


def test_rounds_fill_the_box_and_slow_calls_count_themselves():
    assert measure.rounds({"ours": 0.01, "matrix": 0.09}, box=1.0) == {"ours": 50, "matrix": 5}
    assert measure.rounds({"ours": 1e-5, "matrix": 1e-5}, box=1.0) == {"ours": 200, "matrix": 200}
    assert measure.rounds({"ours": 1.0, "matrix": 2.0, "peer": 9.0}, box=1.0) == {"ours": 3, "matrix": 3, "peer": 0}
    assert measure.rounds({}, box=1.0) == {}


def test_hopeless_is_what_ran_out_or_would_by_the_square_of_rows(log):
    def limited(name, N=4096, seconds=60.0, memory_mib=2000.0):
        return why_hopeless(cells.cell("nt_xent", N, 16), name, log, Limits("cpu", seconds, memory_mib, 1))

    assert limited("matrix") == ""
    log.add(record("nt_xent", 1024, 16, matrix=result([5.0]), lightly={"status": "timeout", "seconds": []}))
    log.add(record("nt_xent", 64, 16, matrix=result([1e-3])))
    log.add(record("dcl", 4096, 16, ours=result([1000.0])))
    log.add(record("nt_xent", 4096, 16, dtype="bfloat16", ours=result([1000.0])))
    assert limited("matrix") == ""
    assert limited("matrix", seconds=40) == "estimated 80 s, limit 40 s"
    assert limited("lightly") == "timeout at N = 1,024, D = 16 already"
    assert limited("ours") == ""
    log.add(
        record("nt_xent", 4096, 16, matrix=result([1e-3], peak_bytes=1 << 30), ours=result([1e-3], peak_bytes=1 << 30))
    )
    assert limited("matrix", 16_384, memory_mib=8192) == "out of memory: estimated 16 GiB, limit 8 GiB"
    assert limited("matrix", 16_384, memory_mib=None) == ""
    assert limited("ours", 16_384, memory_mib=8192) == ""


def test_fractions_are_of_the_best_rate_seen(log):
    flops = 2 * 2 * 4096**2 * 128  # two products
    log.add(record("nt_xent", 4096, 128, products=[80e9, 100e9, 120e9], ours=result([flops / 150e9])))
    log.add(record("dcl", 4096, 128, ours=result([flops / 75e9]), matrix=result([flops / 50e9])))
    # With fewer rows scores may be kept, and one of the products not be computed.
    log.add(record("clip_loss", 1024, 128, ours=result([4 * 2 * 1024**2 * 128 / 400e9])))
    found = {(row.problem, row.contender): row for row in rows(log)}
    assert found["machine", "best float32"].rate == pytest.approx(150e9)
    assert found["nt_xent", "ours"].fraction == pytest.approx(1)
    assert found["dcl", "ours"].fraction == pytest.approx(0.5)
    assert found["dcl", "matrix"].fraction == pytest.approx(0.75 * 50 / 150)  # of the products where scores are kept
    assert found["dcl", "matrix"].ratio == pytest.approx(1.5)
    assert found["clip_loss", "ours"].fraction is None


def test_a_density_takes_an_exponential_and_products_at_least():
    assert roof_seconds("kde_value", 1024, 4, 150e9) == pytest.approx(1024**2 / 2 * (13 + 4) / 75e9)
    assert roof_seconds("kde_entropy", 1024, 4, 150e9) == pytest.approx(1024**2 / 2 * (13 + 12) / 75e9)


def test_percentiles_lie_between_the_ordered_numbers():
    assert percentile([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0.2) == pytest.approx(2.0)
    assert percentile([1.0, 3.0], 0.8) == pytest.approx(2.6)
    assert percentile([7.0], 0.8) == 7.0
    assert percentile([], 0.5) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "–"), (2e-5, "20 µs"), (0.01234, "12.3 ms"), (0.9999, "1 s"), (61.23, "61.2 s")]
)
def test_times_have_three_figures(seconds, text):
    assert time_text(seconds) == text


def test_report_shows_who_lost_who_ran_out_and_where_we_are_slower(log, tmp_path):
    failed = {"status": "out of memory", "why": "tried to allocate 9 bytes", "seconds": []}
    peer = {"status": "timeout", "why": "first call took more than 60 s", "seconds": []}
    log.add(record("nt_xent", 64, 128, ours=result([2e-3]), matrix=result([1e-3]), compiled=failed, lightly=peer))
    log.add(record("row_sums", 64, 128, ours=result([2e-3]), matrix=result([4e-3])))
    found = rows(log)
    write_csv(found, tmp_path / "results.csv")
    again = read_csv(tmp_path / "results.csv")
    assert [(row.problem, row.contender, row.seconds, row.peak_mib) for row in again] == [
        (row.problem, row.contender, row.seconds, row.peak_mib) for row in found
    ]
    text = markdown(again, [])
    assert "| 64 | 128 | fp32 | 2 ms | – | – | 1 ms, **×0.50** | out of memory | timeout |" in text
    assert "- torch.compile, out of memory: tried to allocate 9 bytes (64 × 128 fp32)" in text
    assert "| `nt_xent` | 64 | 128 | fp32 | matrix form | 1 ms, ×0.50 |" in text
    assert "| `row_sums` | 64 | 128 | fp32 | 2 ms | – | 4 ms, ×2.00 |" in text


def test_report_shows_what_skipping_gains_and_what_it_changes(log):
    skips = result([0.1], value_difference=3e-7, gradient_difference=2e-6)
    none = result([2.0], value_difference=0.0, gradient_difference=0.0)
    log.add(record("kde_clustered", 1000, 2, ours=none, **{"skip_1e-6": skips}))
    text = markdown(rows(log), [])
    assert "| `kde_clustered` | 1,000 | 2 | skip_below=1e-6 | 100 ms | ×20.00 | 12 MiB | 3e-07, 2e-06 |" in text
    assert "## `kde_clustered`" not in text  # in its own section alone


def sleep(device):
    yield "begin", ("slow", "timing", 0.2)
    time.sleep(60)


def leave(device):
    yield "begin", ("gone", "timing", 30)
    sys.exit(3)


def allocate(device):
    yield "begin", ("large", "timing", 30)
    try:
        torch.zeros(10**9)
    except RuntimeError as error:
        yield "failed", measure._reason(device, error)


def lose(device):
    yield "begin", ("lost", "timing", 30)
    measure._reason(device, RuntimeError("CUDA error: an illegal memory access was encountered"))


def test_processes_are_stopped_and_limited_and_their_events_kept():
    small = Limits("cpu", seconds=1.0, memory_mib=500.0, threads=1)
    slow = supervise(sleep, (), small)
    assert (slow.ended, slow.during) == ("timeout", "slow")
    gone = supervise(leave, (), small)
    assert (gone.ended, gone.why, gone.during) == ("died", "the process ended by exit status 3", "gone")
    ((_, _), (_, (status, why))) = supervise(allocate, (), small).events
    assert status == "out of memory"
    assert why.startswith("can't allocate memory")
    assert supervise(lose, (), small).during == "lost"  # a lost device ends the process, and with it the contender


def test_server_of_processes_does_not_load_our_package():
    # Forked after it was loaded, they would be timed on threads of our own, which no user's process computes on.
    loads = "import sys, benchmarks.preload; sys.exit('jessl_kernels' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", loads], cwd=ROOT).returncode == 0


def test_quick_calls_are_not_disturbed_by_words_between_them(monkeypatch):
    monkeypatch.setattr(measure, "QUICK", 10.0)  # whatever else this machine is doing
    cell = cells.cell("nt_xent", 64, 16)
    found = [event for event, _ in measure.time_cell(Cpu(), cell, ("ours", "matrix"), 0.1, 10)]
    assert found.count("seconds") >= 2 * measure.FEWEST_ROUNDS
    assert set(found[found.index("seconds") :]) == {"seconds"}


def test_wrong_contender_is_not_timed(monkeypatch):
    problem = PROBLEMS["nt_xent"]
    wrong = measure.Contender("wrong", lambda: lambda z1, z2: 1.001 * problem.matrix(z1, z2))
    monkeypatch.setattr(measure, "contenders", lambda name, kind: {**contenders(name), "matrix": wrong})
    found = list(measure.time_cell(Cpu(), cells.cell("nt_xent", 64, 16), ("ours", "matrix"), 0.01, 10))
    timed = {payload[0] for event, payload in found if event == "seconds"}
    failed = {payload[0]: payload[1] for event, payload in found if event == "failed"}
    assert timed == {"ours"}
    assert failed == {"matrix": "wrong"}


def test_the_queue_has_as_many_columns_as_it_says():
    assert PROBLEMS["queue"].batches(2, 3)[2].shape == (QUEUE, 3)
    assert PROBLEMS["queue"].flops(2, 3) == 2 * 2 * 2 * QUEUE * 3


def test_tiny_grid_from_end_to_end(tmp_path, monkeypatch):
    # Without torch.compile and the rates of the machine, which take longer than all the rest.
    monkeypatch.setattr(cells, "quick", lambda: [cells.cell("sup_con", N, 128, compilers=False) for N in (64, 512)])
    same = command.setting(Cpu().name, 1, limit=60.0, memory=2.0, quick=True)
    open_log(tmp_path / "cells.jsonl", same, RATES)
    arguments = ["--quick", "--threads", "1", "--memory", "2", "--out", str(tmp_path)]
    assert command.main(arguments) == 0
    cell = read(tmp_path / "cells.jsonl").cells["sup_con 512 × 128 float32"]
    assert {name: r["status"] for name, r in cell["results"].items()} == dict.fromkeys(cell["results"], "ok")
    assert list(cell["results"]) == ["ours", "matrix", "metric_learning", "reference"]
    # Beyond its inputs the matrix form keeps matrices of 512 × 512 floats, 1 MiB each.
    assert cell["results"]["matrix"]["peak_bytes"] > 1.5 * 2**20
    text = (tmp_path / "report.md").read_text()
    assert re.search(r"^\| 512 \| 128 \| fp32 \| [\d.]+ [mµ]?s \|", text, re.MULTILINE)
    for name in ("time.png", "memory.png"):
        assert (tmp_path / name).stat().st_size > 5000
        assert f"({name})" in text
    # The second time there is nothing left to measure.
    monkeypatch.setattr("benchmarks.run.run_cell", pytest.fail)
    assert command.main(arguments) == 0
    (tmp_path / "report.md").unlink()
    assert command.main(["--render", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "report.md").read_text() == text
