"""Train an encoder on MNIST halves by each objective of `jk.er`, with and without entropy, and probe what it learnt.

The top and the bottom half of a digit are its two views, and no label is seen. A linear probe then reads the digit off the
features of the top half alone, and off its pixels.

    python examples/entropy_reconstruction.py                          all eight, two minutes on two cores
    python examples/entropy_reconstruction.py --objective swav_er      one of them
    python examples/entropy_reconstruction.py --compare                SimCLR and BYOL, plain and ER, at 256 and 4,096 pairs

The last writes a table and a figure into runs/er/. Beside this file, mnist_halves.py reads the data and report.py has the probe.
"""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import mnist_halves
import report
import torch
import typer
from torch import Tensor, nn
from train_two_views import shifted

import jessl_kernels as jk

DIM, FEATURES, PROTOTYPES = 64, 256, 256
CONCENTRATION = 10.0  # κ of the densities, and 1/temperature of SimCLR
MOMENTUM = 0.97  # of the slow network at the start; in so few steps a slower one would stay where it began
PROBED = 20_000  # digits on which the probes are trained
COMPARED, BATCHES = ("simclr", "simclr_er", "byol", "byol_er"), (256, 4096)
ACCURACY, ENTROPY, SECONDS, MEMORY = "accuracy", "entropy", "seconds", "peak MiB"


def mlp(columns: int, hidden: int, outputs: int) -> nn.Sequential:
    """One hidden layer with batch normalisation."""
    return nn.Sequential(nn.Linear(columns, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs))


class Encoder(nn.Module):
    """Half a digit (n, 392) → features (n, 256) for the probe → embedding (n, 64)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            mlp(mnist_halves.ROWS * mnist_halves.COLUMNS, 512, FEATURES), nn.BatchNorm1d(FEATURES), nn.ReLU()
        )
        self.head = mlp(FEATURES, FEATURES, DIM)

    def forward(self, view: Tensor) -> Tensor:
        return self.head(self.features(view))


class Student(nn.Module):
    """An encoder and a predictor for each half, and prototypes: what a slow network is a copy of."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleList([Encoder(), Encoder()])
        self.predictors = nn.ModuleList([mlp(DIM, FEATURES, DIM), mlp(DIM, FEATURES, DIM)])
        self.prototypes = jk.er.Prototypes(PROTOTYPES, DIM)

    def forward(self, views: list[Tensor]) -> list[Tensor]:
        return [encoder(view) for encoder, view in zip(self.encoders, views, strict=True)]

    def predict(self, z: list[Tensor]) -> list[Tensor]:
        return [predictor(one) for predictor, one in zip(self.predictors, z, strict=True)]


class Objective(nn.Module):
    """Two views → loss, for a student; the slow network, where there is one, follows after each step."""

    def __init__(self, student: Student, steps: int) -> None:
        super().__init__()
        self.student = student

    def after_step(self) -> None:
        """Nothing to do without a slow network."""


class SimCLR(Objective):
    """NT-Xent."""

    def forward(self, views: list[Tensor]) -> Tensor:
        return jk.nt_xent(*self.student(views), temperature=1 / CONCENTRATION)


class SimCLRER(Objective):
    """The ER bound by kernel density."""

    def forward(self, views: list[Tensor]) -> Tensor:
        return jk.er.loss(*self.student(views), concentration=CONCENTRATION)


class SwAV(Objective):
    """Swapped prediction of balanced codes."""

    def forward(self, views: list[Tensor]) -> Tensor:
        return jk.er.swav(self.student(views), self.student.prototypes())


class SwAVER(Objective):
    """The same without Sinkhorn, and the entropy of the mean assignment."""

    def forward(self, views: list[Tensor]) -> Tensor:
        return jk.er.swav_er(self.student(views), self.student.prototypes())


class Distilled(Objective):
    """An objective with a slow network."""

    def __init__(self, student: Student, steps: int) -> None:
        super().__init__(student, steps)
        self.teacher = jk.er.EMATeacher(student, MOMENTUM, steps=steps)
        self.center = jk.er.Center(PROTOTYPES)

    def keys(self) -> Tensor:
        """The prototypes of the slow network."""
        network = self.teacher.network
        assert isinstance(network, Student)
        return network.prototypes()

    def after_step(self) -> None:
        self.teacher.update(self.student)


class BYOL(Distilled):
    """Regression of the slow network's embeddings."""

    def forward(self, views: list[Tensor]) -> Tensor:
        return jk.er.byol(self.student.predict(self.student(views)), self.teacher(views))


class BYOLER(Distilled):
    """The same as a density, and the entropy of the student's embeddings."""

    def forward(self, views: list[Tensor]) -> Tensor:
        z = self.student(views)
        return jk.er.byol_er(self.student.predict(z), self.teacher(views), concentration=CONCENTRATION, projections=z)


class DINO(Distilled):
    """Cross entropy with the slow network's assignment, centred."""

    def forward(self, views: list[Tensor]) -> Tensor:
        slow, keys = self.teacher(views), self.keys()
        loss = jk.er.dino(self.student(views), slow, self.student.prototypes(), keys, center=self.center.value)
        self.center.update(slow, keys)
        return loss


class DINOER(Distilled):
    """The same without a centre, and the entropy of the student's mean assignment."""

    def forward(self, views: list[Tensor]) -> Tensor:
        slow, keys = self.teacher(views), self.keys()
        return jk.er.dino_er(self.student(views), slow, self.student.prototypes(), keys)


OBJECTIVES: dict[str, type[Objective]] = {
    "simclr": SimCLR, "simclr_er": SimCLRER, "swav": SwAV, "swav_er": SwAVER,
    "byol": BYOL, "byol_er": BYOLER, "dino": DINO, "dino_er": DINOER,
}  # fmt: skip


def train(
    name: str, images: Tensor, *, batch_size: int, steps: int, lr: float, seed: int, say: Callable[[str], None]
) -> Student:
    """The student after `steps` batches."""
    torch.manual_seed(seed)
    objective = OBJECTIVES[name](Student(), steps)
    learnt = [p for p in objective.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 20) * (1 + math.cos(math.pi * step / steps)) / 2
    )
    order = torch.randperm(len(images))
    for step in range(steps):
        at = torch.arange(step * batch_size, (step + 1) * batch_size) % len(images)
        views = [shifted(view) for view in mnist_halves.views(images[order[at]])]
        optimizer.zero_grad()
        loss = objective(views)
        loss.backward()
        optimizer.step()
        schedule.step()
        objective.after_step()
        if (step + 1) % max(1, steps // 5) == 0:
            say(f"  {name} step {step + 1}/{steps}: loss {loss.item():.3f}")
    return objective.student.eval()


@torch.no_grad()
def look(student: Student, digits: mnist_halves.Digits) -> tuple[Tensor, Tensor]:
    """Features of the top halves (n, 256), and their embeddings (n, 64)."""
    encoder = student.encoders[0]
    assert isinstance(encoder, Encoder)
    top = mnist_halves.views(digits.images)[0]
    features = torch.cat([encoder.features(part) for part in top.split(2000)])
    return features, encoder.head(features)


def measured(
    name: str, train_set: mnist_halves.Digits, test_set: mnist_halves.Digits, say: Callable[[str], None], **options
) -> dict[str, float]:
    """Accuracy of the probe, entropy of the embeddings of the test set, and the cost of the training."""
    start = time.perf_counter()
    student = train(name, train_set.images, say=say, **options)
    seconds, memory = time.perf_counter() - start, report.peak_memory_mib()
    few = mnist_halves.Digits(*(part[:PROBED] for part in train_set))
    (columns, _), (test_columns, z) = look(student, few), look(student, test_set)
    return {
        ACCURACY: report.probe(columns, test_columns, few.labels, test_set.labels),
        ENTROPY: float(jk.kde_entropy(z, kernel="vmf", concentration=CONCENTRATION)),
        SECONDS: seconds,
        MEMORY: memory,
    }


def compare(epochs: float, options: list[str], out: Path, say: Callable[[str], None]) -> None:
    """Each cell in a process of its own, whose peak memory is its own; then the table and the figure."""
    rows = []
    for batch_size in BATCHES:
        for name in COMPARED:
            command = [sys.executable, __file__, "--objective", name, "--batch-size", str(batch_size), "--json"]
            done = subprocess.run(
                [*command, "--epochs", str(epochs), *options], capture_output=True, text=True, check=True
            )
            rows.append({"objective": name, "batch": batch_size, **json.loads(done.stdout)[name]})
            say(line(f"{name} at {batch_size:,}", rows[-1]))
    out.mkdir(parents=True, exist_ok=True)
    with (out / "compare.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    draw(rows, out / "compare.png")
    say(f"saved compare.csv and compare.png in {out}")


def draw(rows: list[dict], path: Path) -> None:
    """A panel for each measure, a group of bars for each batch size."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 4, figsize=(14, 3.2), layout="constrained")
    for panel, measure in zip(panels, (ACCURACY, ENTROPY, SECONDS, MEMORY), strict=True):
        for n, name in enumerate(COMPARED):
            heights = [row[measure] for row in rows if row["objective"] == name]
            places = [k + 0.2 * (n - 1.5) for k in range(len(BATCHES))]
            bars = panel.bar(places, heights, 0.18, label=name.replace("_er", "-ER"), color=f"C{n}")
            panel.bar_label(bars, [f"{h:.3g}" for h in heights], fontsize=6)
        panel.set_xticks(range(len(BATCHES)), [f"{size:,} pairs" for size in BATCHES])
        panel.set_title(measure if measure != ENTROPY else "entropy (nats)", fontsize=9)
        heights = [row[measure] for row in rows]
        if measure in (ACCURACY, ENTROPY):  # far from 0: only differences tell
            margin = 0.3 * (max(heights) - min(heights)) or 1.0
            panel.set_ylim(min(heights) - margin, max(heights) + margin)
    figure.legend(*panels[0].get_legend_handles_labels(), fontsize=7, loc="outside right center")
    figure.savefig(path, dpi=130)


def line(name: str, found: dict[str, float]) -> str:
    """One cell in words."""
    return (
        f"{name:20} accuracy {found[ACCURACY]:.3f}   entropy {found[ENTROPY]:7.2f}   "
        f"{found[SECONDS]:5.1f} s   {found[MEMORY]:,.0f} MiB"
    )


def main(
    objective: Annotated[str, typer.Option(help=f"all, or one of {', '.join(OBJECTIVES)}")] = "all",
    batch_size: Annotated[int, typer.Option(min=2, help="Pairs a step.")] = 512,
    epochs: Annotated[float, typer.Option(min=0.001, help="Passes over the digits.")] = 1.5,
    lr: Annotated[float, typer.Option(min=0.0, help="Peak learning rate of AdamW.")] = 2e-3,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and shifts.")] = 0,
    comparison: Annotated[bool, typer.Option("--compare", help="SimCLR and BYOL at 256 and 4,096 pairs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON alone.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the comparison's table and figure.")] = Path("runs/er"),
    data: Annotated[Path | None, typer.Option(help="Another mnist.pkl.gz than the installed one.")] = None,
) -> None:
    """Train by each objective, and probe."""
    names = list(OBJECTIVES) if objective == "all" else [objective]
    if not set(names) <= set(OBJECTIVES):
        raise typer.BadParameter(f"--objective is {objective}, must be all or one of {', '.join(OBJECTIVES)}")
    say = (lambda text: None) if as_json else print
    options = ["--lr", str(lr), "--seed", str(seed), *(["--data", str(data)] if data else [])]
    if comparison:
        compare(epochs, options, out, say)
        return
    train_set, test_set = mnist_halves.load(data)
    steps = max(1, round(epochs * len(train_set.images) / batch_size))
    found = {}
    for name in names:
        settings = {"batch_size": batch_size, "steps": steps, "lr": lr, "seed": seed}
        found[name] = measured(name, train_set, test_set, say, **settings)
        say(line(name, found[name]))
    if as_json:
        print(json.dumps(found))
        return
    pixels = [mnist_halves.views(d.images)[0] for d in (train_set, test_set)]
    of_pixels = report.probe(pixels[0][:PROBED], pixels[1], train_set.labels[:PROBED], test_set.labels)
    say(f"{'pixels':20} accuracy {of_pixels:.3f}")
    worse = [name for name in names if found[name][ACCURACY] <= of_pixels]
    say("every objective beats the pixels" if not worse else f"no better than the pixels: {', '.join(worse)}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except mnist_halves.DataError as error:
        sys.exit(f"error: {error}")
