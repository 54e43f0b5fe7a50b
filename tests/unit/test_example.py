"""The main example, end to end on a few invented digits, and the reader of the data file."""

import gzip
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"


def digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Blurred patterns with a label each, in the layout of the real file."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 10, count)
    patterns = np.random.default_rng(0).random((10, 784))
    images = 0.7 * patterns[labels] + 0.3 * generator.random((count, 784))
    return images.astype(np.float32) * 255 / 256, labels.astype(np.int64)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "mnist.pkl.gz"
    with gzip.open(path, "wb") as file:
        pickle.dump((digits(400, 1), digits(100, 2), digits(200, 3)), file, protocol=4)
    return path


def run(data: Path, out: Path, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(EXAMPLES / "train_two_views.py"), "--quick", "--batch-size", "128"]
    command += ["--chunk-size", "50", "--data", str(data), "--out", str(out), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.nightly
def test_a_resumed_run_reports_and_ends_with_the_weights_of_an_uninterrupted_one(data, tmp_path):
    # One run trains without a pause to step 6; another stops at step 5, as if interrupted.
    script = f"""
import sys; sys.path.insert(0, {str(EXAMPLES)!r})
import train_two_views as job, mnist_halves
from pathlib import Path
train, _ = mnist_halves.load(Path({str(data)!r}))
settings = job.Settings("info_nce", 128, 6, None, 64, 0.1, 4e-3, 50, 0)
for name, last in (("whole", 6), ("parts", 5)):
    run = job.Run(settings, Path({str(tmp_path)!r}) / name / "checkpoint.pt")
    job.train(run, train.images, lambda: run.step == last)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)
    resumed = run(data, tmp_path / "parts", "--steps", "6")
    assert resumed.returncode == 0, resumed.stderr
    assert "continuing after step 5 of 6" in " ".join(resumed.stdout.split())
    models = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["model"] for name in ("whole", "parts")]
    for name, weight in models[0].items():
        assert torch.equal(weight, models[1][name]), name
    report = json.loads((tmp_path / "parts" / "report.json").read_text())
    assert len(report["training"]["history"]) == 6
    assert set(report["probe"]) == {"pixels", "untrained encoder", "trained encoder"}
    assert (tmp_path / "parts" / "report.png").stat().st_size > 10_000


MORE = [
    (("--loss", "hinge"), "--loss is hinge, must be one of"),
    (("--backend", "fast"), "name is 'fast', must be one of"),
    (("--dim", "1"), "Invalid value for '--dim'"),
    (("--out", "{data}/runs"), "--out {data}/runs cannot be made"),
    (("--batch-size", "5000"), "--batch-size is 5000, must be at most"),
]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(pytest.param(*case, marks=pytest.mark.nightly) for case in MORE),
        (("--lr", "1e9"), "try a smaller --lr"),
    ],
)
def test_wrong_options_are_one_line_and_no_traceback(data, tmp_path, options, message):
    done = run(data, tmp_path, *(option.format(data=data) for option in options))
    message = message.format(data=data)
    assert done.returncode in (1, 2)  # 2: typer's own complaint
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_data_file_is_unpickled_without_running_what_it_names(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import mnist_halves

    class Harmful:
        def __reduce__(self):
            return print, ("this must not be called",)

    path = tmp_path / "mnist.pkl.gz"
    with gzip.open(path, "wb") as file:
        pickle.dump(Harmful(), file, protocol=4)
    with pytest.raises(mnist_halves.DataError):
        mnist_halves.load(path)
