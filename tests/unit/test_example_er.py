"""examples/entropy_reconstruction.py, on a few invented digits: every objective trains, and the comparison leaves its files."""

import csv
import importlib
import subprocess
import sys

import pytest

from tests.unit.test_example import EXAMPLES, data  # noqa: F401  a fixture


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("entropy_reconstruction")


def test_every_objective_trains_and_is_probed(example, data, capsys):  # noqa: F811
    example.main(batch_size=100, epochs=2, data=data)
    said = capsys.readouterr().out
    assert all(f"{name} " in said for name in example.OBJECTIVES)
    assert "pixels " in said and said.count("accuracy") == 9


@pytest.mark.nightly
def test_the_comparison_writes_a_row_for_each_cell_and_a_figure(data, tmp_path):  # noqa: F811
    command = [sys.executable, str(EXAMPLES / "entropy_reconstruction.py"), "--compare", "--epochs", "0.01"]
    done = subprocess.run([*command, "--data", str(data), "--out", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "compare.csv").open()))
    assert len(rows) == 8 and all(0 <= float(row["accuracy"]) <= 1 for row in rows)
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_objective_is_named(data):  # noqa: F811
    command = [sys.executable, str(EXAMPLES / "entropy_reconstruction.py"), "--objective", "moco"]
    done = subprocess.run([*command, "--data", str(data)], capture_output=True, text=True)
    assert done.returncode == 2 and "moco" in done.stderr
