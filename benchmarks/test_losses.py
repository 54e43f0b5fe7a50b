"""pytest-benchmark: every problem, ours and as a matrix, at sizes from small to middling.

make bench                                                 all of it
make bench-quick                                           the smallest size, a few rounds
make bench BENCH_ARGS="-k nt_xent --benchmark-autosave"    some of it, kept to compare with
"""

import pytest

from .problems import PROBLEMS, errors, evaluate, in_double

ROWS, D = {"N256": 256, "N1024": 1024, "N4096": 4096}, 128
CHECKED_ROWS = 256


@pytest.mark.parametrize("side", ["ours", "matrix"])
@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("name", [name for name, problem in PROBLEMS.items() if not problem.skips])
def test_value_and_gradient(benchmark, name, rows, side):
    problem = PROBLEMS[name]
    function = getattr(problem, side)
    small = problem.batches(CHECKED_ROWS, D)
    assert max(e or 0.0 for e in errors(evaluate(problem, function, small), in_double(problem, small))) < 1e-4
    benchmark.group = f"{name}, {rows} rows, D = {D}"
    benchmark(evaluate, problem, function, problem.batches(rows, D))
