"""Evidence 3: samplers and encoders are what they say, and the study runs from its trials to its figure."""

import pytest
import torch

from experiments import study, trials
from experiments.evidence3 import negatives
from experiments.evidence3.encoders import ENCODERS
from experiments.evidence3.run import STUDY, conditions, run

SIZES = {"data_set": "digits", "batch": 64, "rate": 3e-3, "steps": 40, "readings": 2}
PAIRS = {"batch_size": 64, "steps": 20, "rate": 1e-2, "readings": 10}


@pytest.mark.parametrize("shared", [False, True])
def test_each_pair_has_the_correlation_that_the_information_is_made_of(shared):
    generator = torch.Generator().manual_seed(0)
    n = 1 if shared else 20_000  # one pair of each batch, or all pairs of one
    found = [torch.cat(negatives.batch(max(n, 2), shared, generator), dim=1)[:n] for _ in range(20_000 // n)]
    covariance = torch.cov(torch.cat(found).T)
    torch.testing.assert_close(covariance, torch.tensor([[2.0, 0.4], [0.4, 2.0]]), atol=0.1, rtol=0)


def test_pairs_of_one_z_correlate_more_than_each_does():
    x, y = negatives.batch(20_000, True, torch.Generator().manual_seed(0))
    assert float(torch.corrcoef(torch.cat([x, y], dim=1).T)[0, 1]) == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("D", [32, 392])
def test_encoders_make_a_hundred_numbers(name, D):
    assert ENCODERS[name](D)(torch.rand(3, D)).shape == (3, 100)


def test_a_level_is_kept():
    found = run("equal", 0, encoder="mlp", level=1, **{**SIZES, "steps": 150})
    assert found["train_bound"][-1] == pytest.approx(1, abs=0.35)


def test_smoke(tmp_path, monkeypatch):
    small = study.Study("evidence3", run, [], conditions(SIZES, PAIRS), STUDY.draw, STUDY.tables)
    monkeypatch.setattr(study, "ROOT", tmp_path)
    with pytest.raises(SystemExit) as end:
        study.main(small, ["--quick", "--seeds", "2"])
    assert end.value.code == 0 and small.figure(False).stat().st_size > 10_000
    found = small.tables(trials.read(small.results(False)))
    assert {name: made.count("±") for name, made in found.items()} == {"capacity": 18, "equal": 16, "negatives": 4}


def test_tables_and_figures_are_made_of_some_trials_too():
    one = [{"settings": {"part": "negatives", "bound": "nwj", "shared": True, "seed": 0}, "numbers": {"estimate": 0.2}}]
    assert "0.2000" in STUDY.tables(one)["negatives"]
    STUDY.draw(one)
