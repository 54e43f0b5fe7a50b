"""pytest-benchmark: every operation, ours and as a matrix, at sizes from small to middling.

make bench                                                 all of it
make bench-quick                                           the smallest size, a few rounds
make bench BENCH_ARGS="-k nt_xent --benchmark-autosave"    some of it, kept to compare with
"""

import pytest
import torch

from .problems import LOSSES, OTHERS, PROBLEMS, errors, evaluate, in_double

D, CHECKED_ROWS = 128, 256
CASES = [(name, N, "float32") for N in (256, 1024, 4096) for name in LOSSES]
CASES += [(name, N, "bfloat16") for N in (1024, 4096) for name in LOSSES] + [(name, 256, "float32") for name in OTHERS]


@pytest.mark.parametrize("side", ["ours", "matrix"])
@pytest.mark.parametrize(("name", "rows", "dtype"), CASES, ids=[f"{name}-N{N}-{dtype}" for name, N, dtype in CASES])
def test_value_and_gradient(benchmark, name, rows, dtype, side):
    problem = PROBLEMS[name]
    function = getattr(problem, side)
    small = problem.batches(CHECKED_ROWS, D)
    assert max(e or 0.0 for e in errors(evaluate(problem, function, small), in_double(problem, small))) < 1e-4
    benchmark.group = f"{name}, {rows} rows, D = {D}, {dtype}"
    benchmark(evaluate, problem, function, [t.to(getattr(torch, dtype)) for t in problem.batches(rows, D)])
