"""Kernels broken on purpose: `make nightly` runs the suite against all of them; here a few, and what is known of the others."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
pytest.importorskip("ttsem")

from tests.mutants import operators, outcomes, sources
from tests.mutants.survivors import EXPLAINED

SAMPLE = [
    "exp: tl.exp(x) → tl.exp2(x)",
    "exp: x * LOG2_E → x",
    "norms: z * z → z",
    "norms: i < count → i <= count",
    "norms: range(0, D, BD) → range(0 + BD, D, BD)",
]
TESTS = [
    "tests/unit/test_row_loss.py::test_label_smoothing_takes_the_mean_over_negatives_off_their_log_sum_exp[triton]",
    "tests/unit/test_reductions.py::test_minus_inf_in_a_bias_excludes_and_a_nan_stays_in_its_row[triton]",
    "tests/unit/test_tiles.py::test_losses_of_several_tiles[an index-triton]",
]


def test_every_reason_to_survive_is_that_of_a_mutant():
    """A reason for a mutant that is gone would hide the next one of its name."""
    functions = {key.split(":")[0] for key in EXPLAINED}
    assert set(EXPLAINED) <= {mutant.key for mutant in operators.chosen(functions)}


def test_outcomes_are_those_of_the_functions_there_are():
    """Outcomes of a function that has changed since may be old, which the command says and `make nightly` mends."""
    assert set(outcomes.read()) == set(sources.functions())


def test_these_tests_catch_a_sample():
    command = [sys.executable, "-m", "tests.mutants", "--only", *SAMPLE, "--tests", *TESTS]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert f"{len(SAMPLE)} mutants, {len(SAMPLE)} caught" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
