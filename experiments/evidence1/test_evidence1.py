"""Evidence 1: flows are invertible, and the study runs from its trials to its figure."""

import pytest
import torch

from experiments import study, trials
from experiments.evidence1.run import STUDY, conditions, run
from experiments.flows import Flow, log_condition, reconstruction_error

SMALL = {"couplings": 4, "width": 32, "steps": 60, "readings": 2, "batch": 32, "rate": 1e-2}


def moved(D: int, affine: bool) -> Flow:
    """A flow that is far from a permutation."""
    torch.manual_seed(0)
    flow = Flow(D, couplings=4, width=16, affine=affine)
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return flow


@pytest.mark.parametrize("affine", [False, True])
def test_a_flow_starts_at_a_permutation_and_its_condition_is_one(affine):
    x = torch.rand(5, 32)
    flow = Flow(32, couplings=4, width=16, affine=affine)
    torch.testing.assert_close(flow(x).sort(dim=1).values, x.sort(dim=1).values, atol=1e-5, rtol=0)
    assert abs(log_condition(flow, x[:2])) < 1e-3


@pytest.mark.parametrize("affine", [False, True])
def test_a_flow_is_undone_whatever_its_weights(affine):
    flow, x = moved(32, affine), torch.rand(20, 32)
    assert (flow(x) - x).abs().max() > 0.1
    single, double = reconstruction_error(flow, x)
    assert double < 1e-12 and single < 1e-3


def test_additive_couplings_keep_the_volume_and_affine_ones_do_not():
    x = torch.rand(8)
    for affine in (False, True):
        flow = moved(8, affine).double()
        jacobian = torch.func.jacrev(lambda row, flow=flow: flow(row[None])[0])(x.double())
        assert (abs(torch.linalg.slogdet(jacobian).logabsdet) < 1e-9) == (not affine)


def test_the_condition_is_that_of_a_known_map():
    linear = torch.nn.Linear(3, 3, bias=False)
    linear.weight.data = torch.diag(torch.tensor([2.0, 1.0, 0.5]))
    assert log_condition(linear, torch.rand(2, 3)) == pytest.approx(torch.tensor(4.0).log().item())


@pytest.mark.parametrize("bound", ["info_nce", "nwj"])
def test_the_bound_rises_on_test_pairs(bound):
    found = run("flow", "digits", 0, bound=bound, **SMALL)
    assert found["step"] == [0, 60] and found["bound"][1] > found["bound"][0] + 0.2
    assert found["error_fp64"] < 1e-9


def test_smoke(tmp_path, monkeypatch):
    small = study.Study("evidence1", run, [], conditions("digits", epochs=2, **SMALL), STUDY.draw, STUDY.tables)
    monkeypatch.setattr(study, "ROOT", tmp_path)
    with pytest.raises(SystemExit) as end:
        study.main(small, ["--quick", "--seeds", "2"])
    assert end.value.code == 0 and small.figure(False).stat().st_size > 10_000
    tables = small.tables(trials.read(small.results(False)))
    assert tables["accuracy"].count("±") == 4 and tables["training"].count("±") == 20


def test_tables_and_figures_are_made_of_some_trials_too():
    one = [{"settings": {"encoder": "supervised", "seed": 0}, "numbers": {"accuracy": 0.9}}]
    assert "90.0 %" in STUDY.tables(one)["accuracy"]
    STUDY.draw(one)
