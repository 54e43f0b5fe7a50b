"""Probe, tables, figure and JSON of train_two_views.py."""

from __future__ import annotations

import json
import math
import platform
import resource
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

import jessl_kernels as jk

# The concentration of the published entropy estimates (arXiv 2307.10907). A kernel this wide sees the whole sphere.
CONCENTRATION = 10.0
PROBE_STEPS, PROBE_L2 = 50, 1e-4
COLORS = {"pixels": "#b8b8b8", "untrained encoder": "#7f9fbf", "trained encoder": "#1f5fa8"}


def probe_halves(train: Tensor, test: Tensor, train_labels: Tensor, test_labels: Tensor) -> dict[str, float]:
    """Test accuracy of a linear probe on both halves' columns (N, 2F), and on the top half's columns (N, F)."""
    half = train.shape[1] // 2
    return {
        "both halves": probe(train, test, train_labels, test_labels),
        "top half": probe(train[:, :half], test[:, :half], train_labels, test_labels),
    }


def probe(train: Tensor, test: Tensor, train_labels: Tensor, test_labels: Tensor) -> float:
    """Accuracy of logistic regression on standardised columns, with the same steps and penalty for all columns."""
    mean, spread = train.mean(0), train.std(0)
    # A pixel lit in a handful of digits would be blown up to values in the hundreds.
    spread = spread.clamp_min(0.01 * spread.max().item())
    train, test = (train - mean) / spread, (test - mean) / spread
    weight = torch.zeros(int(train_labels.max()) + 1, train.shape[1], requires_grad=True)
    bias = torch.zeros(len(weight), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=PROBE_STEPS, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(train, weight, bias), train_labels) + PROBE_L2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(objective)
    with torch.no_grad():
        return (F.linear(test, weight, bias).argmax(1) == test_labels).float().mean().item()


@torch.no_grad()
def measure(z1: Tensor, z2: Tensor, temperature: float) -> dict[str, float]:
    """The package's measures of unit embeddings of two views (N, dim): information, entropy, geometry, retrieval."""
    values: dict[str, Any] = {
        # ≤ I(view 1; view 2), whichever loss trained the scores; ≤ log K, K the number of candidates
        "info_nce_bound": math.log(len(z1)) - jk.info_nce(z1, z2, temperature=temperature, symmetric=True),
        "info_nce_cap": math.log(len(z1)),
        "kde_entropy_vmf": jk.kde_entropy(z1, kernel="vmf", concentration=CONCENTRATION),
        "kde_entropy_vmf_uniform": log_sphere_area(z1.shape[1]),
        "kde_entropy_gaussian": jk.kde_entropy(z1, bandwidth="silverman"),
        "uniformity": jk.uniformity(z1),
        "alignment": jk.alignment(z1, z2),
        **jk.retrieval_metrics(z1, z2, k=(1, 5)),
    }
    return {name: float(value) for name, value in values.items()}


def log_sphere_area(dim: int) -> float:
    """Entropy of the uniform distribution on the unit sphere of R^dim, in nats: the most that unit vectors can have."""
    return math.log(2) + dim / 2 * math.log(math.pi) - math.lgamma(dim / 2)


def environment() -> dict[str, Any]:
    """The environment, on which the numbers depend beside the settings."""
    return {
        "jessl_kernels": jk.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
    }


def peak_memory_mib() -> float:
    """The most memory this process has held so far: its resident set."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, whose ru_maxrss would also count what the process had held that started this one
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def chance(settings: dict[str, Any]) -> float | None:
    """The loss of equal scores, the log of the number of candidates; None for SigLIP, which chooses among none."""
    pairs = settings["batch_size"]
    candidates = {"info_nce": pairs, "clip": pairs, "nt_xent": 2 * pairs - 1, "dcl": 2 * pairs - 2}
    return math.log(candidates[settings["loss"]]) if settings["loss"] in candidates else None


def show(console: Console, results: dict[str, Any]) -> None:
    """Print the tables."""
    console.print(_training_table(results), _probe_table(results), _representation_table(results))


def _training_table(results: dict[str, Any]) -> Table:
    settings, training = results["settings"], results["training"]
    history = training["history"]
    first, last = history[0]["loss"], history[-1]["loss"]
    table = Table(title="training", show_header=False)
    level = chance(settings)
    table.add_row("loss", f"{first:.3f} → {last:.3f}" + (f"   (all scores equal: {level:.3f})" if level else ""))
    table.add_row("temperature", f"{settings['temperature']:.4f} → {training['temperature']:.4f}")
    pace = sum(row["seconds"] for row in history) / len(history)
    pairs = settings["batch_size"]
    table.add_row("throughput", f"{pairs / pace:,.0f} pairs/s, {pace:.2f} s a step of {pairs:,}")
    verdict = "within" if training["peak_mib"] <= training["ceiling_mib"] else "[bold red]exceeds[/]"
    peak, ceiling = (f"{training[key]:,.0f} MiB" for key in ("peak_mib", "ceiling_mib"))
    table.add_row("peak memory of the process", f"{peak}, {verdict} the ceiling of {ceiling}")
    matrix = settings["batch_size"] ** 2 * 4 / 2**20
    table.add_row("one matrix of scores", f"{matrix:,.0f} MiB; the matrix form holds several")
    return table


def _probe_table(results: dict[str, Any]) -> Table:
    table = Table("linear probe, test accuracy", title="what a linear classifier can read off")
    for column in next(iter(results["probe"].values())):
        table.add_column(column, justify="right")
    for title, accuracy in results["probe"].items():
        table.add_row(title, *(f"{value:.2%}" for value in accuracy.values()))
    return table


def _representation_table(results: dict[str, Any]) -> Table:
    columns = results["representation"]
    table = Table("test embeddings, unit vectors", title="representation")
    for title in columns:
        table.add_column(title, justify="right")
    table.add_column("at most", justify="right")
    some = next(iter(columns.values()))
    rows = [
        ("InfoNCE bound, log K − loss, nats", "info_nce_bound", f"log K = {some['info_nce_cap']:.3f}"),
        (f"KDE entropy, vMF κ = {CONCENTRATION:g}, nats", "kde_entropy_vmf", f"{some['kde_entropy_vmf_uniform']:.3f}"),
        ("KDE entropy, Gaussian, nats", "kde_entropy_gaussian", ""),
        ("uniformity, lower is more even", "uniformity", ""),
        ("alignment, lower is closer", "alignment", ""),
        ("recall@1, top → bottom", "x_to_y/recall@1", ""),
        ("recall@5, top → bottom", "x_to_y/recall@5", ""),
        ("recall@1, bottom → top", "y_to_x/recall@1", ""),
        ("recall@5, bottom → top", "y_to_x/recall@5", ""),
        ("mean cosine, positives", "mean_positive", ""),
        ("mean cosine, hardest negatives", "hardest_negative", ""),
    ]
    for label, key, most in rows:
        table.add_row(label, *(f"{values[key]:.3f}" for values in columns.values()), most)
    return table


def save(out: Path, results: dict[str, Any]) -> None:
    """report.json and report.png in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(out / "report.png", results)


def draw(path: Path, results: dict[str, Any]) -> None:
    """Two panels: loss and probe."""
    import matplotlib

    matplotlib.use("Agg")  # no display needed
    import matplotlib.pyplot as plt

    style: dict[Any, Any] = {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "font.size": 10,
    }
    with plt.rc_context(style):
        figure, (loss, bars) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
        _draw_loss(loss, results)
        _draw_probe(bars, results)
        figure.savefig(path, dpi=130)
        plt.close(figure)


def _draw_loss(axes: Any, results: dict[str, Any]) -> None:
    settings = results["settings"]
    values = [row["loss"] for row in results["training"]["history"]]
    axes.plot(range(1, len(values) + 1), values, color=COLORS["trained encoder"], linewidth=2)
    axes.set(title=f"{settings['loss']}, {settings['batch_size']:,} pairs a step", xlabel="step", ylabel="loss (nats)")
    level = chance(settings)
    if level is not None:
        axes.axhline(level, color="0.5", linestyle="--", linewidth=1)
        label = f"all scores equal: log {math.exp(level):,.0f} = {level:.2f}"
        axes.annotate(label, (len(values), level), (0, 5), textcoords="offset points", ha="right", color="0.4")
        axes.set_ylim(0, 1.12 * max(level, *values))
    if level is not None and settings["loss"] in ("info_nce", "clip"):
        end, gap = (len(values), values[-1]), level - values[-1]
        axes.annotate("", end, (end[0], level), arrowprops={"arrowstyle": "<->", "color": "0.4"})
        label = f"log K − loss = {gap:.2f} nats "
        axes.text(end[0], values[-1] + gap / 2, label, ha="right", va="center", color="0.3")


def _draw_probe(axes: Any, results: dict[str, Any]) -> None:
    probes = results["probe"]
    places = list(next(iter(probes.values())))
    width = 0.8 / len(probes)
    for i, (title, accuracy) in enumerate(probes.items()):
        x = [place + (i - (len(probes) - 1) / 2) * width for place in range(len(places))]
        # errors, not accuracies: bars must start at zero, and from zero the accuracies look alike
        errors = [100 * (1 - accuracy[place]) for place in places]
        bars = axes.bar(x, errors, 0.92 * width, color=COLORS[title], label=title)
        axes.bar_label(bars, fmt="%.1f", padding=2)
    axes.margins(y=0.1)
    axes.set_xticks(range(len(places)), places)
    axes.set(title="linear probe: error on the test digits (%)")
    axes.legend(frameon=False)
