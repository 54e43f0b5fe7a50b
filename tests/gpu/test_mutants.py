"""Would the suite notice a broken kernel? `make nightly` asks it of many; here a few are asked."""

import zlib

import pytest

pytest.importorskip("triton")
pytest.importorskip("ttsem")

from tests.mutants import operators, outcomes, sources
from tests.mutants.checks import CHECKS
from tests.mutants.survivors import EXPLAINED

SAMPLE = 8


@pytest.fixture(scope="module")
def mutants():
    return operators.chosen()


@pytest.fixture(scope="module")
def bench():
    with outcomes.bench() as opened:
        yield opened


@pytest.mark.nightly
def test_every_reason_to_survive_is_that_of_a_mutant(mutants):
    """A reason for a mutant that is gone would hide the next one of its name."""
    assert set(EXPLAINED) <= {mutant.key for mutant in mutants}


@pytest.mark.nightly
def test_each_kernel_is_reached_by_many(mutants):
    for kernel in sources.kernels():
        own = [m for m in mutants if m.function == kernel]
        assert len(own) >= 15, f"{kernel}: {len(own)}"


@pytest.mark.parametrize("check", CHECKS)
def test_the_kernels_themselves_pass(bench, check):
    CHECKS[check]()


@pytest.mark.nightly
def test_a_sample_is_caught(bench, mutants):
    sample = sorted((m for m in mutants if m.key not in EXPLAINED), key=lambda m: zlib.crc32(m.source.encode()))[
        :SAMPLE
    ]
    assert [m.key for m in sample if bench.catching(m) is None] == []
