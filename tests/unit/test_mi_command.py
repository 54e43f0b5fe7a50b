"""`python -m jessl_kernels.mi`: files in, one result out, and nothing written unless all went well."""

import importlib
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from jessl_kernels import mi

command = importlib.import_module("jessl_kernels.mi.__main__")
FEW = ["--batch-size", "20", "--max-steps", "12", "--learning-rate", "3e-3"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    x = draw.normal(size=(300, 3))
    y = (x + draw.normal(size=x.shape)).astype("float32")
    np.save("x.npy", x)
    np.save("y.npy", y)
    np.save("line.npy", y[:, 0])
    np.save("short.npy", y[:-1])
    np.save("cube.npy", x.reshape(100, 3, 3))
    np.save("counts.npy", x.astype(int))
    np.save("constant.npy", 0 * y + 0.1)
    np.save("objects.npy", np.array([{}, {}], dtype=object))
    y[5, 1] = np.nan
    np.save("nan.npy", y)
    np.savez("both.npz", x=x, y=np.load("y.npy"))
    np.savez("x_alone.npz", x=x)
    (tmp_path / "text.npy").write_text("0.1, 0.2\n")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:200])
    (tmp_path / "empty.npy").write_bytes(b"")
    np.savez_compressed("flipped.npz", x=x, y=x)
    flipped = bytearray((tmp_path / "flipped.npz").read_bytes())
    flipped[100:300] = 200 * b"\xff"
    (tmp_path / "flipped.npz").write_bytes(flipped)
    header = (tmp_path / "x.npy").read_bytes().replace(b"(300, 3)", b"(300, 3 ")
    (tmp_path / "header.npy").write_bytes(header)
    (tmp_path / "text.npz").write_text("0.1, 0.2\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "both.npy").write_bytes((tmp_path / "both.npz").read_bytes())
    return tmp_path


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_the_command_prints_the_estimate_and_writes_it_as_json_and_as_a_picture(folder, capsys):
    options = ["--bound", "nwj", "--critic", "bilinear", "--seed", "3", "--out", "result.json", "--plot", "result.png"]
    assert command.main(["x.npy", "y.npy", *FEW, *options]) == 0
    found = json.loads((folder / "result.json").read_text())
    x, y = np.load("x.npy"), np.load("y.npy")
    same = mi.estimate(x, y, "nwj", "bilinear", seed=3, batch_size=20, max_steps=12, learning_rate=3e-3)
    assert {**found, "seconds": 0} == {**json.loads(json.dumps(same.to_dict())), "seconds": 0}
    captured = capsys.readouterr()
    assert str(same).splitlines()[:2] == captured.out.splitlines()[:2] and captured.err == ""
    assert (folder / "result.png").read_bytes().startswith(b"\x89PNG")
    assert not [name for name in os.listdir() if name.endswith(".part")]


@pytest.mark.parametrize("files", [["both.npz"], ["both.npz:x", "both.npz:y"], ["x.npy", "both.npz:y"]])
def test_arrays_of_an_npz_are_those_of_two_files(files, capsys):
    def first_line(files):
        assert command.main([*files, *FEW[:-4], "--max-steps", "1"]) == 0
        return capsys.readouterr().out.splitlines()[0]

    assert first_line(files) == first_line(["x.npy", "y.npy"])


def test_ksg_is_at_hand_for_comparison(folder, capsys):
    assert command.main(["x.npy", "line.npy", "--bound", "ksg", "--k", "4", "--out", "ksg.json"]) == 0
    x, y = (torch.from_numpy(np.load(file).astype("f8").reshape(300, -1)) for file in ("x.npy", "line.npy"))
    x, y = ((z - z.mean(dim=0)) / z.std(dim=0) for z in (x, y))
    found = json.loads((folder / "ksg.json").read_text())
    value = found.pop("value")
    assert value == pytest.approx(float(mi.ksg(x, y, k=4)), abs=1e-12)
    assert found == {"bound": "ksg", "note": "", "k": 4, "pairs": 300}
    assert f"{value:.3f} nats" in capsys.readouterr().out


def test_ksg_does_not_depend_on_the_units_of_columns(capsys):
    np.save("moved.npy", 1024 * np.load("x.npy"))
    found = []
    for x in ("x.npy", "moved.npy"):
        assert command.main([x, "y.npy", "--bound", "ksg"]) == 0
        found.append(capsys.readouterr().out)
    assert found[0] == found[1]


def test_ksg_of_coinciding_pairs_is_printed_with_a_note(capsys):
    np.save("few.npy", np.arange(300.0) % 3)
    assert command.main(["few.npy", "few.npy", "--bound", "ksg"]) == 0
    assert "100% of the pairs coincide with 3 others, where it reads far too high" in capsys.readouterr().out


def test_a_value_near_its_cap_is_printed_with_a_warning(capsys):
    np.save("wide.npy", np.random.default_rng(0).normal(size=(300, 40)))
    options = ["--batch-size", "2", "--max-steps", "40", "--critic", "inner_product"]
    assert command.main(["wide.npy", "wide.npy", *options]) == 0
    assert "near its cap of 0.693 nats, which limits the value: a larger batch size" in capsys.readouterr().out


BAD = {
    "no file": (["nope.npy", "y.npy"], "x is nope.npy, which cannot be read: No such file"),
    "no y": (["x.npy"], "y is missing"),
    "no file at all": ([], "the following arguments are required: x"),
    "ending": (["x.npy", "y.txt"], "y is y.txt, must be file.npy or file.npz:name"),
    "folder": (["folder", "y.npy"], "x is folder, must be file.npy or file.npz:name"),
    "text": (["text.npy", "y.npy"], "x is text.npy, which is not a readable array"),
    "cut off": (["cut.npy", "y.npy"], "x is cut.npy, which is not a readable array"),
    "empty file": (["empty.npy", "y.npy"], "x is empty.npy, which is not a readable array"),
    "objects": (["objects.npy", "y.npy"], "x is objects.npy, which is not a readable array"),
    "npz named npy": (["both.npy", "y.npy"], "x is both.npy, which is not a readable array: it is an archive"),
    "npz without a name": (["both.npz", "y.npy"], "x is both.npz, must be file.npy or file.npz:name"),
    "array of no such name": (
        ["both.npz:z", "y.npy"],
        "x is both.npz:z, which is not a readable array: its arrays are x, y",
    ),
    "npz without y": (["x_alone.npz"], "y is x_alone.npz:y, which is not a readable array: its arrays are x"),
    "npz of text": (["text.npz"], "x is text.npz:x, which is not a readable array"),
    "dimensions": (["cube.npy", "y.npy"], "x is of shape (100, 3, 3), must have 1 or 2 dimensions"),
    "integers": (["x.npy", "counts.npy"], "y is an array of shape (300, 3) and dtype int64"),
    "nan": (["x.npy", "nan.npy"], "y is nan at row 5, column 1"),
    "constant": (["x.npy", "constant.npy"], "y is constant in column 0"),
    "lengths": (["x.npy", "short.npy"], "y is of 299 rows, must have 300 like x"),
    "rows": (["x.npy", "y.npy", "--batch-size", "256"], "batch_size is 256, must be at most 30"),
    "bound": (["x.npy", "y.npy", "--bound", "nwjj"], "argument --bound: invalid choice: 'nwjj' (choose from"),
    "critic": (["x.npy", "y.npy", "--critic", "mlp"], "argument --critic: invalid choice: 'mlp'"),
    "number": (["x.npy", "y.npy", "--batch-size", "many"], "argument --batch-size: invalid int value: 'many'"),
    "held out": (["x.npy", "y.npy", "--held-out", "0.9"], "held_out is 0.9, must be above 0"),
    "device": (["x.npy", "y.npy", "--device", "gpu"], "device is 'gpu', must be a device"),
    "neighbours": (["x.npy", "y.npy", "--bound", "ksg", "--k", "300"], "k is 300, must be"),
    "nan of ksg": (["x.npy", "nan.npy", "--bound", "ksg"], "y is nan at row 5, column 1"),
    "broken numbers of an npz": (["flipped.npz"], "x is flipped.npz:x, which is not a readable array"),
    "broken header": (["header.npy", "y.npy"], "x is header.npy, which is not a readable array"),
    "neighbours of a bound": (["x.npy", "y.npy", "--bound", "nwj", "--k", "3"], "--k is given with --bound nwj"),
    "constant of ksg": (
        ["x.npy", "constant.npy", "--bound", "ksg"],
        "y is constant in column 0 of the 300 rows, must vary",
    ),
} | {
    f"{option} of ksg": (["x.npy", "y.npy", "--bound", "ksg", option, value], f"{option} is given with --bound ksg")
    for option, value in (
        ("--critic", "joint"),
        ("--batch-size", "256"),
        ("--held-out", "0.2"),
        ("--learning-rate", "1e-3"),
        ("--max-steps", "5000"),
        ("--patience", "10"),
        ("--seed", "0"),
        ("--device", "cpu"),
        ("--plot", "a.png"),
    )
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_argument_is_one_line_with_its_name_and_nothing_is_written(case, folder, capsys):
    arguments, message = BAD[case]
    before = contents(folder)
    few = [] if "--batch-size" in arguments or "ksg" in arguments else ["--batch-size", "20", "--max-steps", "1"]
    with pytest.raises(SystemExit) as stopped:
        command.main([*arguments, *few, "--out", "result.json"])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m jessl_kernels.mi: ") and message in line
    assert contents(folder) == before


TARGETS = {
    "missing folder": (
        ["--out", "nowhere/result.json"],
        "--out is nowhere/result.json, must be in a folder that exists",
    ),
    "a folder": (["--out", "folder"], "--out is folder, which is a folder, must be a file"),
    "an input": (["--out", "x.npy"], "--out is x.npy, which it would overwrite"),
    "an input by another name": (["--plot", "folder/../both.npz"], "which it would overwrite"),
    "each other": (["--out", "a.png", "--plot", "./a.png"], "--plot is ./a.png, which it would overwrite"),
    "a pipe": (["--out", "fifo"], "--out is fifo, which is no regular file"),
    "a link to a pipe": (["--out", "to_fifo"], "--out is to_fifo, which is no regular file"),
    "a device": (["--out", "/dev/null"], "--out is /dev/null, which is no regular file"),
    "a link to itself": (["--out", "loop"], "--out is loop, which is no regular file"),
    "a link to an input": (["--out", "to_x"], "--out is to_x, which it would overwrite"),
    "too long a name": (["--out", 300 * "a"], "which cannot be written: File name too long"),
    "too long a name for another beside it": (["--out", 250 * "a"], "which cannot be written: File name too long"),
    "not a picture": (["--plot", "a.txt"], "--plot is a.txt, must end in one of .png, .pdf, .svg"),
}


def never(*args, **kwargs):
    raise AssertionError("training began")


@pytest.mark.parametrize("case", TARGETS)
def test_a_result_that_could_not_be_written_is_refused_before_the_training(case, capsys, monkeypatch):
    arguments, message = TARGETS[case]
    os.mkfifo("fifo")
    for link, to in (("to_fifo", "fifo"), ("loop", "loop"), ("to_x", "x.npy")):
        os.symlink(to, link)
    monkeypatch.setattr(command, "estimate", never)
    with pytest.raises(SystemExit) as stopped:
        command.main(["x.npy", "both.npz:y", *arguments])
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_without_matplotlib_a_picture_is_refused_before_the_training(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(command, "estimate", never)
    with pytest.raises(SystemExit):
        command.main(["x.npy", "y.npy", "--plot", "a.png"])
    assert "plot: needs matplotlib: pip install matplotlib" in capsys.readouterr().err


def test_a_training_that_comes_apart_is_one_line_and_exit_1_and_an_older_result_stays(folder, capsys):
    (folder / "result.json").write_text("older")
    hot = ["--bound", "nwj", "--batch-size", "20", "--max-steps", "50", "--learning-rate", "1e4"]
    assert command.main(["x.npy", "y.npy", *hot, "--out", "result.json"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "try a smaller learning_rate (it was 10000)" in line
    assert (folder / "result.json").read_text() == "older"


def test_an_interrupted_training_writes_nothing_and_exits_with_130(folder, monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    before = contents(folder)
    monkeypatch.setattr(command, "estimate", interrupted)
    assert command.main(["x.npy", "y.npy", "--out", "result.json"]) == 130
    assert contents(folder) == before and capsys.readouterr() == ("", "")


def test_a_result_goes_through_a_symbolic_link_to_its_file(folder):
    (folder / "folder" / "kept.json").write_text("older")
    os.symlink("folder/kept.json", "result.json")
    os.symlink("folder/new", "result.png")
    assert command.main(["x.npy", "y.npy", *FEW, "--out", "result.json", "--plot", "result.png"]) == 0
    assert os.path.islink("result.json") and os.path.islink("result.png")
    assert json.loads((folder / "folder" / "kept.json").read_text())["bound"] == "info_nce"
    assert (folder / "folder" / "new").read_bytes().startswith(b"\x89PNG")


def test_a_result_that_nobody_reads_is_written_all_the_same(folder):
    reader, writer = os.pipe()
    os.close(reader)
    files = [str(folder / name) for name in ("x.npy", "y.npy", "result.json")]
    run = [sys.executable, "-m", "jessl_kernels.mi", *files[:2], "--bound", "ksg", "--out", files[2]]
    root = Path(__file__).parents[2]
    done = subprocess.run(run, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, cwd=root)
    os.close(writer)
    assert json.loads((folder / "result.json").read_text())["bound"] == "ksg"
    assert done.returncode == 1
    assert done.stderr == "python -m jessl_kernels.mi: the result is not printed: Broken pipe\n"


def test_a_write_that_fails_is_one_line_below_the_result_and_leaves_an_older_one(folder, monkeypatch, capsys):
    def full(*args):
        raise OSError("no space left")

    (folder / "result.json").write_text("older")
    before = contents(folder)
    monkeypatch.setattr(os, "replace", full)
    assert command.main(["x.npy", "y.npy", *FEW, "--out", "result.json"]) == 1
    assert contents(folder) == before
    captured = capsys.readouterr()
    assert captured.out.startswith("info_nce, lower bound")
    assert captured.err == "python -m jessl_kernels.mi: the result is not written: no space left\n"


def test_the_module_runs_as_a_command(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mi", "x.npy", "y.npy", "--bound", "ksg"])
    monkeypatch.delitem(sys.modules, "jessl_kernels.mi.__main__")
    with pytest.raises(SystemExit) as done:
        runpy.run_module("jessl_kernels.mi", run_name="__main__")
    assert done.value.code == 0 and "nats" in capsys.readouterr().out
