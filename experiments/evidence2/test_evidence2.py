"""Evidence 2: the contest runs from its trials to its figure, and its flow can be undone."""

import pytest

from experiments import study, trials
from experiments.evidence2.run import STUDY, Contest, run

SMALL = {
    "data_set": "digits", "couplings": 4, "width": 32, "rounds": 60, "inner": 5, "warm_up": 300, "batch": 64, "rate": 1e-2,
    "readings": 2, "epochs": 2,
}  # fmt: skip


def test_the_flow_makes_its_classifier_worse_than_training_made_it():
    contest = Contest("digits", couplings=4, width=32, batch=64, rate=1e-2, seed=0)
    for _ in range(500):
        contest.classify()
    before = contest.adversary()
    for _ in range(30):
        contest.hide()
    assert before > 0.6 and contest.adversary() < before - 0.2


def test_smoke(tmp_path, monkeypatch):
    small = study.Study("evidence2", run, [], [SMALL], STUDY.draw, STUDY.tables)
    monkeypatch.setattr(study, "ROOT", tmp_path)
    with pytest.raises(SystemExit) as end:
        study.main(small, ["--quick", "--seeds", "2"])
    found = trials.read(small.results(False))
    assert end.value.code == 0 and small.figure(False).stat().st_size > 10_000
    assert all(float(t["numbers"]["error_fp64"]) < 1e-6 for t in found)
    assert small.tables(found)["contest"].count("±") == 13
