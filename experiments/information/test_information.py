"""Experiments on mutual information: tasks have the information that they claim, and each script does what it says."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import special, stats

from experiments.information import optimal, staircase, tasks
from jessl_kernels import mi

HERE = Path(__file__).parent
BY_NAME = {task.name: task for task in tasks.TASKS}


def test_there_are_eight_tasks_or_more_and_no_two_of_a_name():
    assert len(BY_NAME) == len(tasks.TASKS) >= 8


@pytest.mark.parametrize("task", tasks.TASKS, ids=list(BY_NAME))
def test_samples_of_a_task_are_the_seeds_finite_and_pairs(task):
    (x, y), (again, _) = task.sample(50, seed=1), task.sample(50, seed=1)
    assert len(x) == len(y) == 50 and x.isfinite().all() and y.isfinite().all()
    assert torch.equal(x, again) and not torch.equal(x, task.sample(50, seed=2)[0])


@pytest.mark.parametrize(
    "name", ["1v1-normal-0.75", "normal_cdf-1v1-normal-0.75", "1v1-additive-0.1", "1v1-additive-0.75"]
)
def test_information_of_two_numbers_is_what_nearest_neighbours_find(name):
    x, y = BY_NAME[name].sample(3000, seed=0)
    x, y = ((z - z.mean(dim=0)) / z.std(dim=0) for z in (x, y))
    assert abs(float(mi.ksg(x, y)) - BY_NAME[name].information) < 0.05


def test_information_of_students_t_is_the_integral_of_its_density():
    """Of one dimension each: ∫∫ p log(p / (p_x p_y)) over z = tan u, by Gauss and Legendre's rule on a quarter of the plane."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    u, w = (nodes + 1) * math.pi / 4, weights * math.pi / 4
    z = np.stack(np.meshgrid(np.tan(u), np.tan(u)), axis=-1)
    log_p = stats.multivariate_t(shape=np.eye(2), df=1).logpdf(z)
    integrand = np.exp(log_p) * (log_p - stats.t(df=1).logpdf(z).sum(axis=-1)) * (1 + z**2).prod(axis=-1)
    assert 4 * w @ integrand @ w == pytest.approx(tasks.student(1, 1).information, abs=1e-3)


@pytest.mark.parametrize(("D", "df"), [(3, 2), (5, 2)])
def test_information_of_students_t_is_the_mean_of_its_log_ratio(D, df):
    task = tasks.student(D, df)
    x, y = (z.numpy() for z in task.sample(40_000, seed=0))
    joint, margin = (stats.multivariate_t(shape=np.eye(n), df=df) for n in (2 * D, D))
    ratio = joint.logpdf(np.hstack([x, y])) - margin.logpdf(x) - margin.logpdf(y)
    assert abs(ratio.mean() - task.information) < 4 * ratio.std() / math.sqrt(len(ratio))


@pytest.mark.parametrize(
    "task", [tasks.multinormal_dense(5), tasks.multinormal_two_pairs(5)], ids=lambda task: task.name
)
def test_information_of_normal_variables_is_that_of_their_samples_covariance(task):
    x, y = task.sample(200_000, seed=0)
    information, _ = tasks.normal(torch.cov(torch.cat([x, y], dim=1).T).numpy(), x.shape[1])
    assert information == pytest.approx(task.information, abs=0.005)


@pytest.mark.parametrize("made", [tasks.spiral, tasks.half_cube, tasks.asinh, tasks.normal_cdf])
def test_maps_keep_points_apart_and_spirals_keep_their_length(made):
    base = tasks.multinormal_two_pairs(3)
    (x, _), (mapped, _) = base.sample(200, seed=0), made(base).sample(200, seed=0)
    assert not torch.allclose(x, mapped)
    if made is tasks.spiral:
        torch.testing.assert_close(mapped.norm(dim=1), x.norm(dim=1))
    else:
        assert torch.equal(x.argsort(dim=0), mapped.argsort(dim=0))


@pytest.mark.parametrize("name", optimal.BOUNDS)
def test_mean_of_a_bound_at_its_best_critic_is_what_it_should_be(name):
    """2 nats, 50 batches of 128 pairs."""
    reading = optimal.measure(name, 2.0, 128, 50)
    assert reading.judged and reading.holds
    assert reading.error < 0.05


def test_bounds_whose_expectation_is_the_information_are_one_number_at_their_best_critics():
    values = [optimal.measure(name, 2.0, 64, 2).mean for name in optimal.UNBIASED]
    assert max(values) - min(values) < 1e-9


def test_variance_of_the_mean_over_negatives_is_its_closed_form():
    """Of e^f at the best critic: ((1 − ρ²)^−D + (1 − ρ⁴)^−D − 2)/(K(K − 1)), which docs/information.md states."""
    D, K = optimal.D, 16
    rho, draw = tasks.correlated_gaussians(D, 0.5)
    samples = (optimal.scores(*draw(K, np.random.default_rng(seed)), rho) for seed in range(4000))
    means = [np.exp(s)[~np.eye(K, dtype=bool)].mean() for s in samples]
    variance = ((1 - rho**2) ** -D + (1 - rho**4) ** -D - 2) / (K * (K - 1))
    assert np.mean(means) == pytest.approx(1, abs=4 * math.sqrt(variance / len(means)))
    assert np.var(means) == pytest.approx(variance, rel=0.2)


@pytest.mark.parametrize("name", ["nwj", "js", "tuba", "flo", "dv", "mine"])
def test_positives_among_the_negatives_cap_a_bound_at_log_k(name):
    x = torch.eye(8)
    critic = mi.InnerProduct(100.0)
    assert mi.bound(name, x, x, critic, negatives="all").value <= math.log(8) + 1e-6
    assert mi.bound(name, x, x, critic).value > math.log(8) or name == "flo"


def test_nearest_neighbours_read_at_most_a_digamma_of_n_less_one_of_k():
    x, _ = tasks.binormal().sample(500, seed=0)
    assert float(mi.ksg(x, x, k=3)) == pytest.approx(float(special.digamma(500) - special.digamma(3)))


def test_a_mean_that_is_off_fails_the_script(monkeypatch, capsys):
    moved = optimal.Reading("nwj", 2.0, 128, 50, 2.4, 0.2, 2.0, 0.03)
    monkeypatch.setattr(optimal, "measure", lambda *_: moved)
    with pytest.raises(SystemExit, match="1 of 1 means"):
        optimal.main(["--pairs", "128", "--bounds", "nwj", "--information", "2"])
    assert "FAILS" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "critic"), [*((name, "separable") for name in staircase.TITLES), ("nwj", "joint")])
def test_a_critic_is_trained_and_read_on_every_step_of_the_staircase(name, critic):
    found = staircase.trace(name, critic, batch=32, steps=11, rate=1e-3)
    assert [information for information, _ in found] == [i for i in staircase.LEVELS for _ in range(2)]
    assert np.isfinite([value for _, value in found]).all()


def test_the_staircase_draws_its_figure_and_table(tmp_path, monkeypatch):
    monkeypatch.setattr(staircase, "TRACES", tmp_path)
    monkeypatch.setattr(staircase, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(staircase, "trace", lambda *_: [(i, i / 2) for i in staircase.LEVELS for _ in range(20)])
    staircase.main(["--batch", "8"])
    staircase.main(["--draw"])
    assert (tmp_path / "docs/staircase.png").stat().st_size > 10_000
    table = (tmp_path / "docs/staircase.csv").read_text(encoding="utf-8").splitlines()
    assert table[0] == "bound,critic,batch,steps,2 nats,4 nats,6 nats,8 nats,10 nats"
    assert table[1] == "info_nce,separable,8,200,1.00 ± 0.00,2.00 ± 0.00,3.00 ± 0.00,4.00 ± 0.00,5.00 ± 0.00"


def test_the_scripts_use_the_public_package_alone():
    imported = {
        m for path in HERE.glob("*.py") for m in re.findall(r"from jessl_kernels(\S*) import (\w+)", path.read_text())
    }
    assert imported <= {("", "mi")}
