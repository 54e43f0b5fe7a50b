"""The frame of the experiments: trials go on where they stopped, and pages have the numbers of the committed results."""

import gzip
import json
import math
import subprocess

import pytest
import torch
import typer

from examples.mnist_halves import DataError
from experiments import data, pages, probe, study, tables, trials


def draw(found):
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots()
    axes.plot([t["numbers"]["y"] for t in found])
    return figure


def made(run, tmp_path, monkeypatch, **more) -> study.Study:
    monkeypatch.setattr(study, "ROOT", tmp_path)
    conditions = [{"a": 1}, {"a": 2}]
    return study.Study("squares", run, conditions, conditions[:1], draw, **more)


def command(which, *arguments):
    with pytest.raises(SystemExit) as end:
        study.main(which, list(arguments))
    return end.value.code


def test_every_condition_has_its_first_seed_before_one_has_its_second(tmp_path, monkeypatch):
    one = made(lambda **_: {}, tmp_path, monkeypatch)
    assert [(t["a"], t["seed"]) for t in one.trials(True, 2)] == [(1, 0), (2, 0), (1, 1), (2, 1)]


def test_a_stopped_run_keeps_what_is_whole_and_goes_on(tmp_path, monkeypatch):
    ran = []

    def run(a, seed):
        ran.append((a, seed))
        if len(ran) == 3:
            raise KeyboardInterrupt
        return {"y": a**2 + 1e-9, "curve": [1 / 3, math.nan]}

    one = made(run, tmp_path, monkeypatch)
    assert command(one, "--full", "--seeds", "2") == 130
    assert [t["settings"]["a"] for t in trials.read(one.results())] == [1, 2]
    assert command(one, "--full", "--seeds", "2") == 0
    assert ran == [(1, 0), (2, 0), (1, 1), (1, 1), (2, 1)]
    first = trials.read(one.results())[0]
    assert first["numbers"] == {"y": 1.0, "curve": [0.33333, "nan"]}
    assert set(first) == {"settings", "numbers", "seconds", "peak_mib", "commit", "versions", "hardware"}
    assert len(one.results().read_text().splitlines()) == 4 + 2
    assert one.figure().stat().st_size > 1000
    assert command(one, "--full", "--draw") == 0 and len(ran) == 5


def test_quick_runs_leave_the_committed_results_alone(tmp_path, monkeypatch):
    one = made(lambda a, seed: {"y": a}, tmp_path, monkeypatch)
    assert command(one, "--quick") == 0
    assert not one.results().exists() and len(trials.read(tmp_path / "runs/squares/quick.json")) == 1


def test_a_command_refuses_what_no_trial_has(tmp_path, monkeypatch, capsys):
    one = made(lambda a, seed: {"y": a}, tmp_path, monkeypatch)
    for arguments in ((), ("--quick", "--full"), ("--full", "--only", "a=3"), ("--full", "--matrix-form")):
        assert command(one, *arguments) == 2
    assert not one.results().exists()


def test_only_and_matrix_form_choose_trials(tmp_path, monkeypatch):
    one = made(lambda a, seed, matrix_form: {"y": a}, tmp_path, monkeypatch, matrix_form=True)
    assert command(one, "--full", "--seeds", "1", "--only", "a=2", "--matrix-form") == 0
    assert [t["settings"] for t in trials.read(one.results())] == [{"a": 2, "matrix_form": True, "seed": 0}]


def test_the_peak_of_a_trial_is_its_own():
    def run(mib, seed):
        return {"bytes": len(bytearray(mib << 20))}

    trials.measured(run, {"mib": 1, "seed": 0})  # what the first one loads is not in those that are compared
    peaks = [trials.measured(run, {"mib": mib, "seed": 0})["peak_mib"] for mib in (200, 1)]
    assert peaks[0] - peaks[1] > 150


def test_interval_is_that_of_students_t():
    mean, half = tables.interval([1.0, 2.0, 3.0])
    assert mean == 2 and half == pytest.approx(4.302653 / math.sqrt(3))
    assert tables.text([0.5, 0.5], ".1f", 100) == "50.0 ± 0.0"
    assert tables.text([-1.0]) == "−1.00" and tables.text([]) == "–"


def test_values_are_in_the_order_of_seeds():
    found = [{"settings": {"a": 1, "seed": seed}, "numbers": {"y": seed}} for seed in (1, 0)]
    assert tables.values(found, "y", a=1) == [0, 1] and tables.values(found, "z") == []


def test_pages_have_the_numbers_of_the_committed_results():
    made, drawn = pages.tables(), pages.figures()
    for page in pages.pages():
        text = page.read_text(encoding="utf-8")
        assert pages.filled(page, made, drawn) == text, f"{page}: run python -m experiments.pages"


def test_committed_results_say_where_they_were_made():
    for one in pages.studies().values():
        for trial in trials.read(one.results()):
            assert all(trial[key] for key in ("settings", "numbers", "commit", "versions", "hardware")), one.name
            assert not trial["commit"].endswith("+"), f"{one.name}: {trial['settings']} ran with changed sources"
            assert trial["peak_mib"] < 4096, one.name


def test_tables_and_figures_are_put_in_their_places_and_a_table_that_no_study_makes_is_an_error(tmp_path):
    page = tmp_path / "docs/page.md"
    page.parent.mkdir()
    page.write_text("<!-- table: a b -->\nold\n<!-- end -->\n<!-- figure: a two words -->\n<!-- end -->\n")
    drawn = {"a": tmp_path / "experiments/a/figure.png"}
    assert pages.filled(page, {"a": {"b": "new"}}, drawn) == (
        "<!-- table: a b -->\n\nnew\n\n<!-- end -->\n"
        "<!-- figure: a two words -->\n\n![two words](../experiments/a/figure.png)\n\n<!-- end -->\n"
    )
    without = pages.filled(page, {"a": {}}, {})
    assert without.count(pages.NONE_YET) == 1 and "![" not in without
    with pytest.raises(KeyError, match="b"):
        pages.filled(page, {"a": {"c": "new"}}, {})


def test_digits_are_halved_and_a_probe_reads_them():
    train, test = data.load("digits")
    (x, y), (u, _) = data.halves(train.images), data.halves(test.images)
    assert x.shape == y.shape == (1297, 32) and float(x.min()) >= 0 and float(x.max()) == 1
    assert torch.equal(torch.cat([x, y], dim=1).mul(255).round().byte().view(-1, 8, 8), train.images)
    found = probe.probe(x, train.labels, u, test.labels)
    assert 0.8 < found.accuracy < 0.95
    assert found.v_information == pytest.approx(found.label_entropy - found.cross_entropy) and found.v_information > 1.5


def test_a_probe_of_noise_finds_no_information():
    torch.manual_seed(0)
    z, labels = torch.randn(4000, 4), torch.arange(4000) % 10
    found = probe.probe(z[:2000], labels[:2000], z[2000:], labels[2000:])
    assert found.label_entropy == pytest.approx(math.log(10)) and abs(found.v_information) < 0.05


def test_absent_fashion_images_say_so(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CACHE", tmp_path)
    monkeypatch.setattr(data, "INSIDE", data.Path("nowhere"))

    def refused(command, **_):
        raise subprocess.CalledProcessError(100, command, stderr=b"E: Unable to locate package")

    monkeypatch.setattr(subprocess, "run", refused)
    with pytest.raises(DataError, match=r"Fashion-MNIST is absent.*Unable to locate"):
        data.load.__wrapped__("fashion")
    assert list(tmp_path.iterdir()) == []


def test_files_of_bytes_are_read_by_their_header(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\x02" + (2).to_bytes(4, "big") + (3).to_bytes(4, "big") + bytes(range(6))))
    assert data._idx(path).tolist() == [[0, 1, 2], [3, 4, 5]]
    path.write_bytes(gzip.compress(b"text"))
    with pytest.raises(DataError, match="expected"):
        data._idx(path)


def test_results_are_json_with_a_line_a_trial(tmp_path):
    trials.write(tmp_path / "results.json", "squares", [{"settings": {"a": 1}}])
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["command"] == "python -m experiments.squares.run --full" and not list(tmp_path.glob("*.new"))


def test_steps_count_with_and_without_a_study(tmp_path, monkeypatch):
    one = made(lambda a, seed: {"y": len(list(study.steps(3)))}, tmp_path, monkeypatch)
    assert command(one, "--quick") == 0 and list(study.steps(3)) == [0, 1, 2]
    assert trials.read(one.results(False))[0]["numbers"]["y"] == 3


def test_nothing_is_drawn_of_no_trials(tmp_path, monkeypatch):
    with pytest.raises(typer.BadParameter, match="no trials"):
        study.draw_figure(made(lambda **_: {}, tmp_path, monkeypatch), full=True)
