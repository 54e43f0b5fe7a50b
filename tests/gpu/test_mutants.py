"""Kernels broken on purpose: `make nightly` runs the suite against all of them; here a few, and what is known of the others."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
pytest.importorskip("ttsem")

from tests.mutants import operators, outcomes, sources
from tests.mutants.survivors import EXPLAINED

# Mutants, and tests that catch them.
SAMPLE = [
    "pull: j < M → j <= M",
]
TESTS = ["tests/unit/test_reductions.py::test_alpha_0_is_legal_and_has_a_gradient[triton]"]


def test_every_reason_to_survive_is_that_of_a_mutant():
    """A reason for a mutant that is gone would hide the next one of its name."""
    functions = {key.split(":")[0] for key in EXPLAINED}
    assert set(EXPLAINED) <= {mutant.key for mutant in operators.chosen(functions)}


def test_outcomes_are_those_of_the_functions_there_are():
    """Of a function that has changed since they may be old: the command says so, and `make nightly` makes them anew."""
    assert set(outcomes.read()) == set(sources.functions())


def test_a_sample_is_caught():
    command = [sys.executable, "-m", "tests.mutants", "--only", *SAMPLE, "--tests", *TESTS]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert f"{len(SAMPLE)} mutants, {len(SAMPLE)} caught" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0
