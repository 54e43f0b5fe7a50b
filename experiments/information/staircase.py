"""Every bound while its critic is trained, on Gaussians whose information rises in steps (Poole et al., arXiv 1905.06922).

python -m experiments.information.staircase --batch 128     # traces into runs/information; --draw: the figure and its table
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from jessl_kernels import mi

from .tasks import correlated_gaussians

D, LEVELS = 20, (2.0, 4.0, 6.0, 8.0, 10.0)
EVERY = 10  # steps between two readings
ALPHA = 0.01
TITLES = {
    "info_nce": "InfoNCE",
    "dv": "DV",
    "mine": "MINE",
    "nwj": "NWJ",
    "tuba": "TUBA",
    "js": "JS, read off by NWJ",
    "interpolated": f"interpolated, α = {ALPHA}",
    "flo": "FLO",
    "smile": "SMILE, τ = 5 (no bound)",
}
TRACES, DOCS = Path("runs/information"), Path("docs/information")


class Beside(nn.Module):
    """A network of some of (x, y), with one number a row: a baseline, or u."""

    def __init__(self, inputs: int):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(inputs, 128), nn.ReLU(), nn.Linear(128, 1))

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.net(torch.cat(inputs, dim=1))[:, 0]


def objective(name: str, critic: str) -> mi.Objective:
    """The bound, with a critic of two hidden layers of 128, and the networks that it needs beside it."""
    made = {"separable": mi.critics.Separable, "joint": mi.critics.Joint}[critic](D, D, hidden=(128, 128))
    options: dict = {
        "tuba": {"baseline": Beside(D)},
        "interpolated": {"baseline": Beside(D), "alpha": ALPHA},
        "flo": {"u": Beside(2 * D)},
    }
    return mi.Objective(name, made, **options.get(name, {}))  # pyright: ignore[reportArgumentType]


def trace(name: str, critic: str, batch: int, steps: int, rate: float, seed: int = 0) -> list[tuple[float, float]]:
    """(information, reading) of every tenth step, each on pairs that the critic has not seen."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    bound = objective(name, critic)
    optimizer = torch.optim.Adam(bound.parameters(), lr=rate)
    found = []
    for information in LEVELS:
        _, draw = correlated_gaussians(D, information)
        for step in range(steps):
            x, y = (torch.from_numpy(z).float() for z in draw(batch, generator))
            if step % EVERY == 0:
                found.append((information, bound.value(x, y).value))
            optimizer.zero_grad()
            bound(x, y).backward()
            optimizer.step()
    return found


def run(options: argparse.Namespace) -> None:
    """One file of readings a bound."""
    TRACES.mkdir(parents=True, exist_ok=True)
    for name in options.bounds or TITLES:
        start = time.perf_counter()
        found = trace(name, options.critic, options.batch, options.steps, options.rate)
        path = TRACES / f"staircase-{options.batch}-{options.critic}-{name}.csv"
        path.write_text("".join(f"{i},{v}\n" for i, v in found), encoding="utf-8")
        print(f"{path}   {time.perf_counter() - start:.0f} s", flush=True)


def read(path: Path) -> np.ndarray:
    """(readings, 2): information and reading."""
    return np.loadtxt(path, delimiter=",", ndmin=2)


def settled(readings: np.ndarray, information: float) -> np.ndarray:
    """Those of the last quarter of a step of the staircase."""
    of_level = readings[readings[:, 0] == information, 1]
    return of_level[-len(of_level) // 4 :]


def summary(traces: list[Path]) -> list[dict[str, str]]:
    """Mean and deviation at every step of the staircase, a row for each bound, batch and critic."""
    rows = []
    for path in traces:
        _, batch, critic, name = path.stem.split("-")
        readings = read(path)
        row = {"bound": name, "critic": critic, "batch": batch, "steps": str(len(readings) * EVERY // len(LEVELS))}
        for information in LEVELS:
            values = settled(readings, information)
            row[f"{information:g} nats"] = f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"
        rows.append(row)
    order = list(TITLES)
    return sorted(rows, key=lambda row: (row["critic"] != "separable", order.index(row["bound"]), int(row["batch"])))


def draw(traces: list[Path], path: Path) -> None:
    """A panel for each bound, of the separable critic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(3, 3, figsize=(10, 8), sharex=True, sharey=True, layout="constrained")
    batches = sorted({int(p.stem.split("-")[1]) for p in traces})
    colours = dict(zip(batches, ("#3b6fb6", "#d9722b", "#4b9e5f"), strict=False))
    for axis, (name, title) in zip(axes.flat, TITLES.items(), strict=True):
        axis.set_title(title, fontsize=11)
        edges = np.repeat(np.arange(len(LEVELS) + 1), 2)[1:-1]
        axis.plot(edges, np.repeat(LEVELS, 2), color="black", lw=1.4, label="truth", zorder=4)
        for batch in batches:
            path_of = TRACES / f"staircase-{batch}-separable-{name}.csv"
            if path_of not in traces:
                continue
            readings = read(path_of)
            at = np.linspace(0, len(LEVELS), len(readings))
            window = max(1, len(readings) // 50)
            smooth = np.convolve(readings[:, 1], np.ones(window) / window, mode="valid")
            axis.plot(at, readings[:, 1], color=colours[batch], lw=0.5, alpha=0.35)
            axis.plot(at[window - 1 :], smooth, color=colours[batch], lw=1.8, label=f"{batch:,} pairs", zorder=5)
            if name == "info_nce":
                axis.axhline(math.log(batch), color=colours[batch], lw=1.0, ls="--", label=f"log {batch:,}")
        axis.set(ylim=(-0.5, 14), xlim=(0, len(LEVELS)), xticks=range(len(LEVELS) + 1), xticklabels=[])
        axis.grid(alpha=0.25, lw=0.5)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=11)
    figure.supylabel("nats")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=85)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--critic", choices=("separable", "joint"), default="separable")
    parser.add_argument("--steps", type=int, default=400, help="of each of the five steps of the staircase")
    parser.add_argument("--rate", type=float, default=1e-3, help="Adam's learning rate")
    parser.add_argument("--bounds", nargs="*", choices=list(TITLES))
    parser.add_argument(
        "--draw", action="store_true", help="make the figure and the table of the traces that are there"
    )
    options = parser.parse_args(arguments)
    if not options.draw:
        return run(options)
    traces = sorted(TRACES.glob("staircase-*.csv"))
    draw([p for p in traces if p.stem.split("-")[2] == "separable"], DOCS / "staircase.png")
    rows = summary(traces)
    with (DOCS / "staircase.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
