"""The trainings with and without entropy, made small, and the entropies that published code would plot."""

import math

import pytest
import torch
from scipy import special

import jessl_kernels as jk
from experiments.er_table import objectives, readings, report, trials
from experiments.er_table.run import STUDY


def views(n=64):
    torch.manual_seed(0)
    return [torch.rand(n, 392) for _ in range(2)]


@pytest.mark.parametrize("name", [*objectives.NAMES, "dino_uncentred"])
def test_every_objective_is_trained_and_read(name):
    pair = views()
    torch.manual_seed(0)
    model = objectives.Objective(name, 0.8)
    before = [p.clone() for p in model.network.encoders.parameters()]
    images = torch.randint(0, 256, (64, 28, 28), dtype=torch.uint8)
    curves = trials.train(model, images, pair, batch=32, steps=3, lr=1e-3)
    assert curves["step"] == [0, 1, 2, 3]
    assert all(math.isfinite(value) for values in curves.values() for value in values)
    assert ("discrete entropy" in curves) == (model.family in ("swav", "dino"))
    after = [*model.network.encoders.parameters()]
    assert sum(not torch.equal(a, b) for a, b in zip(before, after, strict=True)) > len(after) / 2


def test_a_hasty_slow_network_moves_by_a_fifth_of_the_way():
    model = objectives.Objective("byol", 0.8)
    quick, slow = (next(network.parameters()) for network in (model.network, model.slow_network))
    start = slow.clone()
    with torch.no_grad():
        quick += 1.0
    model.after_step()
    torch.testing.assert_close(slow, start + 0.2)


def test_dino_without_a_centre_has_one_that_stays_at_zero():
    for name, moves in (("dino", True), ("dino_uncentred", False)):
        model = objectives.Objective(name, 0.99)
        model(views())
        assert isinstance(model.loss, jk.er.DINO) and model.loss.center is not None
        assert bool(model.loss.center.value.any()) is moves


def test_a_reading_leaves_the_networks_as_they_were():
    model = objectives.Objective("byol", 0.99)
    before = {name: value.clone() for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    readings.read(model.eval(), views())
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not model.network.training


def test_readings_are_the_sums_over_the_matrix_in_fp64():
    model = objectives.Objective("simclr", 0.99)
    pair = views()
    with torch.no_grad():
        z = [torch.nn.functional.normalize(one.double(), dim=1) for one in model.network.train()(pair)]
    d, k = objectives.DIM, objectives.KAPPA
    log_integral = (
        math.log(2) + d / 2 * math.log(math.pi) - math.lgamma(d / 2) + math.log(special.hyp0f1(d / 2, k * k / 4))
    )
    entropy = 0.0
    for one in z:
        s = (k * one @ one.T).fill_diagonal_(-torch.inf)
        entropy += float(log_integral + math.log(len(s) - 1) - s.logsumexp(dim=1).mean()) / 2
    found = readings.read(model, pair)
    assert found["entropy"] == pytest.approx(entropy, abs=1e-4)
    assert found["reconstruction"] == pytest.approx(float(k * (z[0] * z[1]).sum(1).mean()) - log_integral, abs=1e-4)


@pytest.mark.parametrize(("pairs", "plotted", "close"), [(4096, -45.5, 0.05), (512, -47.35, 0.02)])
def test_the_published_formula_gives_what_the_paper_plots(pairs, plotted, close):
    found = trials.run(objective="sphere", batch=pairs, dim=128, seed=0)
    assert found["published"] == pytest.approx(plotted, abs=close)
    assert found["clamp"] == pytest.approx(83.107, abs=1e-3)
    assert found["published"] - found["exact normaliser"] == pytest.approx(found["clamp"], abs=1e-6)
    assert found["published"] > found["most possible"] + 70
    assert found["own point left out"] == pytest.approx(found["most possible"], abs=0.01)


def test_a_trial_has_what_the_tables_ask_for(monkeypatch):
    monkeypatch.setattr(trials, "PROBED", 1000)
    monkeypatch.setattr(trials, "READ", 200)
    settings = trials.cell("swav_er", 64, epochs=1.0)
    found = trials.run(**settings, seed=0, digits=256)
    assert 0.5 < found["accuracy"] <= 1 and found["v_information"] < math.log(10)
    made = report.tables([{"settings": {**trials.cell("swav_er", trials.SMALL), "seed": 0}, "numbers": found}])
    assert made.keys() == {"drops", "second-look", "entropy", "published"}
    assert f"{100 * found['accuracy']:.1f}" in made["drops"]


def test_the_table_has_sixty_trainings_and_no_trial_twice():
    assert len({str(settings) for settings in STUDY.full}) == len(STUDY.full)
    assert STUDY.seeds * len([s for s in trials.table() if s["objective"] != "dino_uncentred"]) == 60


def test_drops_are_differences_seed_by_seed():
    accuracies = {trials.LARGE: (0.9, 0.8, 0.7), trials.SMALL: (0.89, 0.78)}
    found = [
        {"settings": {**trials.cell("byol", batch), "seed": seed}, "numbers": {"accuracy": accuracy}}
        for batch, values in accuracies.items()
        for seed, accuracy in enumerate(values)
    ]
    assert report.at_small(found, "byol") == pytest.approx([1.0, 2.0])
    assert report.when_hasty(found, "byol") == [] and report.at_small(found, "dino") == []


def test_the_figure_is_drawn_of_what_is_there():
    curve = {f"curve of {name}": [1.0, 2.0] for name in ("entropy", "reconstruction")}
    found = [
        {"settings": {**trials.cell("byol", batch), "seed": seed}, "numbers": {"accuracy": 0.9, **curve}}
        for batch in (trials.LARGE, trials.SMALL)
        for seed in range(2)
    ]
    assert len(report.draw(found).axes) == 4
