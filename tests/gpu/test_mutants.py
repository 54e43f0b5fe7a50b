"""Kernels broken on purpose, against which `make nightly` runs the suite."""

import pytest

pytest.importorskip("triton")
pytest.importorskip("ttsem")

from tests.mutants import operators
from tests.mutants.survivors import EXPLAINED


def test_every_reason_to_survive_is_that_of_a_mutant():
    """A reason for a mutant that is gone would hide the next one of its name."""
    functions = {key.split(":")[0] for key in EXPLAINED}
    assert set(EXPLAINED) <= {mutant.key for mutant in operators.chosen(functions)}
