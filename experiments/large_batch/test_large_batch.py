"""What a larger batch buys, made small."""

import math

import numpy as np
import pytest
import torch

import jessl_kernels as jk
from experiments import data, halves
from experiments.large_batch import cap, cost, losses, report, training, trials
from experiments.large_batch.run import STUDY


def test_both_forms_of_the_loss_are_one():
    torch.manual_seed(0)
    z = [torch.randn(50, 8, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    ours, theirs = (form(*z, temperature=0.1) for form in (jk.nt_xent, losses.matrix_nt_xent))
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(torch.autograd.grad(ours, z), torch.autograd.grad(theirs, z), strict=True):
        torch.testing.assert_close(a, b)


def test_a_loss_is_refused_by_its_name():
    with pytest.raises(ValueError, match="loss is triplet, must be"):
        losses.loss_of("triplet", 10)
    with pytest.raises(ValueError, match="matrix_form is True for spectral, must be False"):
        losses.loss_of("spectral", 10, matrix_form=True)


@pytest.mark.parametrize("information", [2.0, 15.0])
def test_readings_keep_below_log_k_and_information(information):
    found = cap.run(information, 256, seed=0, steps=100, read=2048)
    assert found["trained critic"] < found["best critic"] < min(information, found["cap"]) + 0.1
    assert found["cap"] == math.log(256)
    if information > found["cap"]:
        assert found["best critic"] > found["cap"] - 0.1


def test_the_best_critic_reads_what_its_formula_says_in_fp64():
    rho, draw = cap.correlated_gaussians(cap.D, 5.0)
    x, y = draw(256, np.random.default_rng([0, 256, 0]))
    v = 1 - rho**2
    s = (2 * rho * x @ y.T - rho**2 * (np.square(x).sum(1)[:, None] + np.square(y).sum(1))) / (2 * v)
    expected = np.mean(s.diagonal() - np.log(np.exp(s).mean(axis=1)))
    assert cap.run(5.0, 256, seed=0, steps=1, read=256)["best critic"] == pytest.approx(expected, abs=1e-4)


def test_a_training_in_matrix_form_is_the_same_training(monkeypatch):
    monkeypatch.setattr(training, "PROBED", 1000)
    monkeypatch.setattr(training, "HELD_OUT", 500)
    settings = {**trials.trained("simclr", 64, 1e-3, 640), "seed": 0, "digits": 1000}
    ours, theirs = (trials.run(**{**settings, "matrix_form": matrix_form}) for matrix_form in (False, True))
    for name in ("accuracy", "v_information", "bound at own candidates", report.ALL):
        assert ours[name] == pytest.approx(theirs[name], rel=0.02), name
    assert ours["steps"] == 10 and ours["loss stage seconds"] < ours["training seconds"]
    assert ours["bound at own candidates"] < math.log(64)


@pytest.mark.parametrize("name", ["sogclr", "flatnce", "spectral"])
def test_a_loss_for_small_batches_brings_views_together(name):
    images = data.load("mnist")[0].images[:512]
    torch.manual_seed(0)
    encoders = torch.nn.ModuleList([halves.Encoder(16, torch.nn.LayerNorm) for _ in range(2)])

    def read():
        with torch.no_grad():
            z = [e(view) for e, view in zip(encoders, data.halves(images), strict=True)]
        return training.bound(z, 512, 0.1)

    before = read()
    training.train(encoders, images, name, batch=64, steps=40, lr=1e-3, matrix_form=False)
    assert read() > before + 0.3


def test_a_bound_is_the_mean_over_groups():
    z = [torch.randn(10, 4) for _ in range(2)]
    groups = [training.bound([one[k : k + 5] for one in z], 5, 0.1) for k in (0, 5)]
    assert training.bound(z, 5, 0.1) == pytest.approx(np.mean(groups), rel=1e-5)


def test_memory_of_a_call_is_measured():
    assert 99 < cost.growth(lambda: torch.ones(100 * 2**18)) < 110
    found = cost.measure(256, 0, rounds=1)
    assert found["matrix form MiB, computed"] == 3 and found["here seconds"] > 0
    assert {"here MiB", "matrix form MiB"} < found.keys()


def test_a_matrix_form_that_does_not_fit_is_computed(monkeypatch):
    monkeypatch.setattr(cost, "LIMIT_MIB", cost.OTHER_MIB)
    assert "matrix form MiB" not in cost.measure(64, 0, rounds=1)


def test_in_matrix_form_a_run_has_the_trainings_that_fit():
    chosen = STUDY.trials(True, 1, matrix_form=True)
    assert {s["loss"] for s in chosen} == {"simclr"} and max(s["batch"] for s in chosen) == 4096
    assert len(STUDY.trials(True, 2)) == 2 * len(STUDY.full)
    assert len({str(settings) for settings in STUDY.full}) == len(STUDY.full)


def test_a_pass_has_every_image_once_and_views_are_shifted_halves():
    torch.manual_seed(0)
    images = torch.arange(12, dtype=torch.uint8).view(12, 1, 1).expand(12, 28, 28) + 1
    seen = [index for index, _ in halves.batches(images, 4, 6)]
    for half in (seen[:3], seen[3:]):
        assert sorted(torch.cat(half).tolist()) == list(range(12))
    (index, (top, bottom)) = next(halves.batches(images, 12, 1))
    assert top.shape == bottom.shape == (12, 392)
    torch.testing.assert_close(top.amax(1) * 255, index.float() + 1)


def test_embeddings_start_with_mean_zero():
    torch.manual_seed(0)
    encoders = torch.nn.ModuleList([halves.Encoder(16, torch.nn.LayerNorm) for _ in range(2)])
    pair = [torch.rand(100, 392) for _ in range(2)]
    halves.center(encoders, pair)
    for encoder, view in zip(encoders, pair, strict=True):
        torch.testing.assert_close(encoder(view).mean(dim=0), torch.zeros(16), atol=1e-5, rtol=0)


def test_a_learning_rate_is_chosen_on_held_out_digits():
    found = [
        {
            "settings": {**trials.trained("simclr", 64, lr), "seed": 0},
            "numbers": {"held-out accuracy": held, "accuracy": 1 - held},
            "peak_mib": 1,
        }
        for lr, held in zip(trials.RATES, (0.1, 0.3, 0.2), strict=True)
    ]
    assert report.best(found, "simclr", 64) == trials.trained("simclr", 64, trials.RATES[1])
    assert "70.00" in report.tables(found)["batch"]


def test_tables_and_figure_are_made_of_a_few_trials():
    settings = [{"part": "cost", "batch": trials.COSTS[0]}, {"part": "cap", "information": 2.0, "candidates": 64}]
    numbers = [
        {"here seconds": 1.0, "matrix form seconds": 4.0, "here MiB": 10.0, "matrix form MiB": 50.0},
        {"best critic": 1.9, "trained critic": 1.5},
    ]
    found = [
        {"settings": {**s, "seed": seed}, "numbers": n, "peak_mib": 1}
        for s, n in zip(settings, numbers, strict=True)
        for seed in (0, 1)
    ]
    made = report.tables(found)
    assert made.keys() == {"cap", "batch", "steps", "small", "cost"}
    assert "| 4.0 ± 0.0 | 0.20 ± 0.00 |" in made["cost"] and "1.90 ± 0.00, 1.50 ± 0.00" in made["cap"]
    assert len(report.draw(found).axes) == 4
