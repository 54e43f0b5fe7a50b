"""pytest-benchmark: each loss, ours and as a matrix, at sizes from small to large. `make bench`."""

import pytest

from .problems import PROBLEMS, gradient_error, value_and_gradient

ROWS, D = (256, 1024, 4096), 128


@pytest.mark.parametrize("side", ["ours", "matrix"])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_value_and_gradient(benchmark, name, rows, side):
    problem = PROBLEMS[name]
    assert gradient_error(problem.ours, problem, problem.batches(256, D)) < 1e-4
    benchmark.group = f"{name}, {rows} rows, D = {D}"
    benchmark(value_and_gradient, getattr(problem, side), problem.batches(rows, D))
