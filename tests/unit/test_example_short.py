"""The seven short examples, run as they stand, with fewer steps where that is enough: each is short, and shows what it says."""

import importlib.util
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"
SHORT = ("simclr", "clip", "moco", "sup_con", "entropy", "mutual_information", "evaluate")


def run(name: str, **options):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.random.fork_rng():
        return module.main(**options)


@pytest.mark.parametrize("name", SHORT)
def test_a_short_example_has_40_lines_at_most_and_says_how_it_is_run(name):
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    assert f"    python examples/{name}.py\n" in text


def test_simclr_finds_other_views(capsys):
    before, after = run("simclr")
    assert before < 0.5 and after > 0.8
    assert f"{after:.0%}" in capsys.readouterr().out


def test_clip_finds_texts_and_learns_its_scale(capsys):
    found, scale = run("clip")
    assert found > 0.6 and abs(scale - 1 / 0.07) > 1
    assert f"{scale:.1f}" in capsys.readouterr().out


def test_moco_finds_other_views(capsys):
    found = run("moco")
    assert found > 0.7
    assert f"{found:.0%}" in capsys.readouterr().out


def test_sup_con_gathers_labels(capsys):
    raw, learnt = run("sup_con")
    assert raw < 0.7 and learnt > 0.8
    assert f"{learnt:.0%}" in capsys.readouterr().out


def test_a_learnt_bandwidth_is_closer_to_the_closed_form_than_a_rule(capsys):
    exact, by_rule, learnt = run("entropy")
    assert exact < learnt < by_rule < exact + 1
    assert f"{exact:.2f}" in capsys.readouterr().out


def test_the_closed_form_is_inside_the_interval_of_the_bound_and_near_it(capsys):
    exact, found, neighbours = run("mutual_information", max_steps=150)
    low, high = found.interval
    assert exact - 0.3 < low < exact < high + 0.1 and found.value < found.cap
    assert abs(neighbours - exact) < 0.2
    assert f"closed form {exact:.2f}; InfoNCE {found.value:.2f}" in capsys.readouterr().out


def test_training_makes_digits_more_even_and_their_neighbours_right(capsys, tmp_path):
    before, after = run("evaluate", steps=100, figure=str(tmp_path / "a.png"))
    assert after["uniformity"].value < before["uniformity"].value - 0.3
    assert after["nn_accuracy"].value > before["nn_accuracy"].value + 0.04
    assert str(after) in capsys.readouterr().out and (tmp_path / "a.png").exists()
