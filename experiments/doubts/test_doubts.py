"""Doubts: views are what they say, the bracket holds the information, and the study runs from its trials to its figure."""

import math

import pytest
import torch

from experiments import data, study, supervised, trials, views
from experiments.doubts import run as doubts

SMALL = {"couplings": 4, "width": 32, "steps": 60, "readings": 2, "batch": 32, "rate": 1e-2, "epochs": 2}


@pytest.mark.parametrize("name", ["halves", "crops", "same_class"])
def test_both_views_and_the_probes_input_have_half_an_images_numbers(name):
    train, _ = data.load("digits")
    made = views.of(name, train)
    x, y = made.pairs(torch.arange(50), torch.Generator().manual_seed(0))
    assert x.shape == y.shape == (50, 32) and made.plain.shape == (1297, 32)
    assert all(float(z.min()) >= 0 and float(z.max()) <= 1 + 1e-6 for z in (x, y, made.plain))


def test_views_of_a_class_are_of_that_class_and_reach_all_of_it():
    images = torch.arange(20, dtype=torch.uint8)[:, None, None].expand(20, 4, 4).contiguous()
    labels = torch.arange(20) % 3
    made = views.of("same_class", data.Images(images, labels))
    i = torch.arange(20).repeat(200)
    _, y = made.pairs(i, torch.Generator().manual_seed(0))
    partner = (y[:, 0] * 255).round().long()
    assert torch.equal(labels[partner], labels[i])
    assert len(set(zip(i.tolist(), partner.tolist(), strict=True))) == 7 * 7 + 7 * 7 + 6 * 6


def test_crops_of_one_image_differ_and_an_images_middle_is_in_all_of_them():
    image = torch.zeros(100, 8, 8, dtype=torch.uint8)
    image[:, 3:5, 3:5] = 255
    crops = views.cropped(image, torch.Generator().manual_seed(0))
    assert len(crops.unique(dim=0)) > 90 and float(crops.max(dim=1).values.min()) > 0.2


def test_the_information_of_perfect_answers_is_the_class_entropy_and_of_chance_it_is_none():
    labels = torch.arange(10).repeat(100)
    assert supervised.shared_information(labels, labels) == pytest.approx(math.log(10))
    assert supervised.shared_information(labels[torch.arange(1000) // 100], labels) == pytest.approx(0, abs=1e-12)


def test_the_information_of_answers_that_are_half_of_the_time_wrong_is_its_closed_form():
    """Two classes, symmetric with error e each: the answers agree with probability (1 − e)² + e²."""
    labels = torch.tensor([0, 1]).repeat(500)
    found = torch.where(torch.arange(1000) < 200, 1 - labels, labels)  # e = 0.2
    p = 0.8**2 + 0.2**2
    truth = math.log(2) + p * math.log(p) + (1 - p) * math.log(1 - p)
    assert supervised.shared_information(found, labels) == pytest.approx(truth)


def test_absent_fashion_images_are_replaced_and_said(monkeypatch):
    def load(name):
        if name == "fashion":
            raise data.DataError("Fashion-MNIST is absent")

    monkeypatch.setattr(data, "load", load)
    with study.console.capture() as told:
        assert doubts.present("fashion") == "mnist"
    assert "this trial runs on MNIST" in told.get()


def test_a_verdict_needs_an_interval_on_one_side_of_zero():
    assert doubts.verdict([0.1]) == "too few seeds"
    assert [doubts.verdict(g) for g in ([1.0, 1.1], [-1.0, -1.1], [-1.0, 1.1])] == [
        "yes",
        "no, worse",
        "cannot be told",
    ]


def test_smoke(tmp_path, monkeypatch):
    conditions = [{**c, "data_set": "digits"} for c in doubts.conditions(SMALL)]
    small = study.Study("doubts", doubts.run, [], conditions, doubts.STUDY.draw, doubts.STUDY.tables)
    monkeypatch.setattr(study, "ROOT", tmp_path)
    with pytest.raises(SystemExit) as end:
        study.main(small, ["--quick", "--seeds", "2"])
    found = trials.read(small.results(False))
    assert end.value.code == 0 and small.figure(False).stat().st_size > 10_000
    assert all(float(t["numbers"]["error_fp64"]) < 1e-6 for t in found)
    made = small.tables(found)
    assert made["measures"].count("±") == 40 and made["verdict"].count("±") == 15 and " to 2.3" in made["known"]


def test_tables_and_figures_are_made_of_some_trials_too():
    found = {name: [0.1, 0.2] for name in ("step", "bound", "accuracy", "cross_entropy", "v_information")}
    one = [{"settings": {"change": "crops", "seed": 0}, "numbers": {**found, "used": "mnist"}}]
    assert "too few seeds" in doubts.STUDY.tables(one)["verdict"]
    doubts.STUDY.draw(one)
