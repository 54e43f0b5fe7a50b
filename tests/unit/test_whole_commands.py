"""`python -m jessl_kernels.entropy` and `… .evaluate`: what `test_mi_command.py` asks of the frame that all commands share holds
for them too; here is what they add."""

import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import jessl_kernels as jk
from jessl_kernels.entropy import rows, sweep

entropy = importlib.import_module("jessl_kernels.entropy.__main__")
evaluation = importlib.import_module("jessl_kernels.evaluate.__main__")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    z = draw.normal(size=(300, 4)).astype("float32")
    np.save("z.npy", z)
    np.savez("both.npz", z=z, w=draw.uniform(size=300))
    np.save("z2.npy", z + 0.1 * draw.normal(size=z.shape).astype("float32"))
    np.save("labels.npy", np.arange(300) % 3)
    np.save("short.npy", np.arange(299))
    np.save("alone.npy", np.arange(300))
    z[5, 1] = np.nan
    np.save("nan.npy", z)
    return tmp_path


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_entropy_is_printed_and_written_as_json(folder, capsys):
    options = ["--bandwidth", "silverman", "--weights", "both.npz:w", "--out", "result.json"]
    assert entropy.main(["both.npz:z", *options]) == 0
    same = jk.entropy_of(np.load("z.npy"), bandwidth="silverman", weights=np.load("both.npz")["w"])
    told = json.loads((folder / "result.json").read_text())
    assert {**told, "seconds": 0} == {**same.to_dict(), "seconds": 0}
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == str(same).splitlines()[0] and printed.err == ""


def test_entropy_on_the_sphere_takes_a_concentration(capsys):
    assert entropy.main(["z.npy", "--kernel", "vmf", "--concentration", "5", "--estimator", "resubstitution"]) == 0
    same = jk.entropy_of(np.load("z.npy"), kernel="vmf", concentration=5.0, estimator="resubstitution")
    assert f"entropy: {same.value:.4f} nats" in capsys.readouterr().out


@pytest.mark.parametrize(("command", "function"), [(entropy, jk.entropy_of), (evaluation, jk.evaluate)])
def test_every_argument_of_the_function_is_an_option(command, function):
    options = {action.dest for action in command._parser()._actions}
    assert set(inspect.signature(function).parameters) - {"progress"} == options - {"help", "out", "plot"}


def test_an_interrupted_run_goes_on_by_the_same_command(folder, capsys, monkeypatch):
    monkeypatch.setattr(rows, "BLOCK", 100)
    made = []

    def third(*args, **options):
        made.append(1)
        if len(made) == 3:
            raise KeyboardInterrupt
        return jk.pairwise_logsumexp(*args, **options)

    monkeypatch.setattr(sweep, "pairwise_logsumexp", third)
    run = ["z.npy", "--bandwidth", "0.5", "--state", "sums", "--out", "result.json"]
    assert entropy.main(run) == 130
    line = "python -m jessl_kernels.entropy: interrupted; the same command goes on with sums\n"
    assert capsys.readouterr() == ("", line) and not (folder / "result.json").exists()
    assert torch.load("sums", weights_only=True)["done"] == 2
    assert entropy.main(run) == 0 and len(made) == 3 + 4
    assert (
        json.loads((folder / "result.json").read_text())["value"]
        == jk.entropy_of(np.load("z.npy"), bandwidth=0.5).value
    )


def test_an_interrupted_run_without_a_state_says_nothing(monkeypatch, capsys):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "pairwise_logsumexp", interrupted)
    assert entropy.main(["z.npy", "--bandwidth", "0.5"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_representation_is_printed_written_and_drawn(folder, capsys):
    options = ["--labels", "labels.npy", "--z2", "z2.npy", "--k", "5", "--queries", "100", "--seed", "3"]
    assert evaluation.main(["z.npy", *options, "--out", "result.json", "--plot", "result.png"]) == 0
    same = jk.evaluate(np.load("z.npy"), np.load("labels.npy"), np.load("z2.npy"), k=5, queries=100, seed=3)
    told = json.loads((folder / "result.json").read_text())
    assert {**told, "seconds": 0} == {**same.to_dict(), "seconds": 0}
    assert (folder / "result.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.splitlines()[1:] == str(same).splitlines()[1:]


def test_widths_and_all_queries_are_options(capsys):
    options = ["--exact", "--concentration", "5", "--bandwidth", "0.5", "--temperature", "0.2", "--z2", "z2.npy"]
    assert evaluation.main(["z.npy", *options]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("all of them queries", "κ = 5", "h = 0.5", "temperature 0.2"))


BAD = {
    "no file": (entropy, ["nope.npy", "--bandwidth", "1"], "z is nope.npy, which cannot be read: No such file"),
    "no bandwidth": (entropy, ["z.npy"], "bandwidth is None, must be > 0"),
    "bandwidth": (entropy, ["z.npy", "--bandwidth", "scot"], "bandwidth is 'scot', must be one of 'scott'"),
    "kernel": (entropy, ["z.npy", "--kernel", "box"], "argument --kernel: invalid choice: 'box'"),
    "nan": (entropy, ["nan.npy", "--bandwidth", "1"], "z is nan at row 5, column 1"),
    "weights": (
        entropy,
        ["z.npy", "--bandwidth", "1", "--weights", "labels.npy"],
        "weights is an array of shape (300,)",
    ),
    "state": (entropy, ["z.npy", "--bandwidth", "1", "--state", "z2.npy"], "state is z2.npy, which is no state"),
    "state in place of z": (entropy, ["z.npy", "--bandwidth", "1", "--state", "z.npy"], "state is z.npy, which is no"),
    "state and result": (
        entropy,
        ["z.npy", "--bandwidth", "1", "--state", "result.json"],
        "--out is result.json, which it would overwrite",
    ),
    "labels of another length": (evaluation, ["z.npy", "--labels", "short.npy"], "labels is of shape (299,), must be"),
    "classes of one": (evaluation, ["z.npy", "--labels", "alone.npy"], "labels is different in all rows"),
    "labels of floats": (
        evaluation,
        ["z.npy", "--labels", "z2.npy"],
        "labels is an array of shape (300, 4) and dtype float32",
    ),
    "nan of z": (evaluation, ["nan.npy"], "z is nan at row 5, column 1"),
    "k": (evaluation, ["z.npy", "--labels", "labels.npy", "--k", "300"], "k is 300, must be >= 1 and < 300"),
    "picture": (evaluation, ["z.npy", "--plot", "a.txt"], "--plot is a.txt, must end in one of .png"),
    "temperature": (evaluation, ["z.npy", "--temperature", "1"], "temperature is given, must be None without z2"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_argument_is_one_line_with_its_name_and_nothing_is_written(case, folder, capsys):
    command, arguments, message = BAD[case]
    before = contents(folder)
    with pytest.raises(SystemExit) as stopped:
        command.main([*arguments, "--out", "result.json"])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{command._parser().prog}: ") and message in line
    assert contents(folder) == before


@pytest.mark.parametrize(
    "arguments", [["entropy", "z.npy", "--bandwidth", "1"], ["evaluate", "z.npy"]], ids=lambda a: a[0]
)
def test_the_modules_run_as_commands(arguments, folder):
    name, file, *options = arguments
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    run = [sys.executable, "-W", "error", "-m", f"jessl_kernels.{name}", str(folder / file), *options]
    done = subprocess.run(run, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "") and "entropy" in done.stdout
