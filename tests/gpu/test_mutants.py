"""Would the suite notice a broken kernel? docs/gpu-mutants.md has the answer for each of many; a few are asked again."""

import zlib

import pytest

pytest.importorskip("triton")
pytest.importorskip("ttsem")

from tests.mutants import operators, outcomes, sources, table
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


def test_the_committed_table_lists_the_mutants_of_this_source(mutants):
    """Otherwise: python -m tests.mutants."""
    assert set(table.committed()) == {mutant.key for mutant in mutants}


def test_every_mutant_has_been_run():
    assert table.NOT_RUN not in table.committed().values()


def test_every_survivor_is_explained_and_nothing_else():
    """A reason for a mutant that is caught, or that is gone, would hide the next one of its name."""
    survivors = {key for key, outcome in table.committed().items() if outcome is None}
    assert survivors == set(EXPLAINED)


def test_each_kernel_is_reached_by_many(mutants):
    for kernel in sources.kernels():
        own = [m for m in mutants if m.function == kernel]
        assert len(own) >= 15, f"{kernel}: {len(own)}"


@pytest.mark.parametrize("check", CHECKS)
def test_the_kernels_themselves_pass(bench, check):
    CHECKS[check]()


def test_a_sample_is_caught_as_the_table_says(bench, mutants):
    listed = table.committed()
    sample = sorted((m for m in mutants if listed[m.key] in CHECKS), key=lambda m: zlib.crc32(m.source.encode()))[
        :SAMPLE
    ]
    assert {m.key: bench.catching(m) for m in sample} == {m.key: listed[m.key] for m in sample}
