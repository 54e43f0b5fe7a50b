"""Tables and figure of what a larger batch buys."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from experiments.tables import interval, table, text, values
from experiments.trials import Settings, Trial

from .cost import matrix_mib
from .trials import BATCHES, CANDIDATES, COSTS, EXAMPLES, INFORMATION, LOSSES, RATES, SMALL, STEPS, trained

TITLES = {"simclr": "SimCLR", "sogclr": "SogCLR", "flatnce": "FlatNCE", "spectral": "spectral"}
COLOURS = ("#3b6fb6", "#d9722b", "#4b9e5f", "#8a5fa8")
ALL = "bound at all candidates"


def of(trials: list[Trial], number: str, **settings: Any) -> list[Any]:
    """Numbers of trials by losses in O(N·D) memory."""
    return values(_in_our_form(trials), number, **settings)


def _in_our_form(trials: list[Trial]) -> list[Trial]:
    return [t for t in trials if not t["settings"].get("matrix_form")]


def best(trials: list[Trial], loss: str, batch: int, examples: int = EXAMPLES) -> Settings:
    """Settings at the learning rate of the best held-out accuracy."""

    def held_out(lr: float) -> float:
        found = of(trials, "held-out accuracy", **trained(loss, batch, lr, examples))
        return float(np.mean(found)) if found else -math.inf

    return trained(loss, batch, max(RATES, key=held_out), examples)


def tables(trials: list[Trial]) -> dict[str, str]:
    """Five tables in markdown."""
    return {
        "cap": _cap(trials),
        "batch": _batch(trials),
        "steps": _steps(trials),
        "small": _small(trials),
        "cost": _cost(trials),
    }


def _cap(trials: list[Trial]) -> str:
    header = ["K", "log K", *[f"I = {i:g}: best critic, trained" for i in INFORMATION]]
    rows = []
    for k in CANDIDATES:
        cells = []
        for i in INFORMATION:
            both = [text(of(trials, name, information=i, candidates=k)) for name in ("best critic", "trained critic")]
            cells.append(", ".join(both))
        rows.append([f"{k:,}", f"{math.log(k):.2f}", *cells])
    return table(header, rows)


def _batch(trials: list[Trial]) -> str:
    header = ["batch", "learning rate", "accuracy, %", "V-information", "bound, K = batch", "bound, K = 10,000", "log batch",
              "training s", "of it loss s", "peak MiB", "matrix form's loss MiB, computed"]  # fmt: skip
    rows = []
    for batch in BATCHES:
        settings = best(trials, "simclr", batch)
        numbers = [of(trials, name, **settings) for name in ("v_information", "bound at own candidates", ALL)]
        spent = [of(trials, name, **settings) for name in ("training seconds", "loss stage seconds")]
        peaks = [t["peak_mib"] for t in _in_our_form(trials) if settings.items() <= t["settings"].items()]
        rows.append(
            [
                f"{batch:,}", f"{settings['lr']:g}", text(of(trials, "accuracy", **settings), scale=100), *map(text, numbers),
                f"{math.log(batch):.2f}", *[text(s, ".0f") for s in spent],
                f"{np.median(peaks):,.0f}" if peaks else "–", f"{matrix_mib(batch):,.0f}",
            ]
        )  # fmt: skip
    return table(header, rows)


def _steps(trials: list[Trial]) -> str:
    header = ["batch", "learning rate", f"accuracy after {STEPS} steps, %", "bound, K = 10,000"]
    rows = []
    for batch in BATCHES[:-1]:
        settings = best(trials, "simclr", batch, STEPS * batch)
        accuracy = text(of(trials, "accuracy", **settings), scale=100)
        rows.append([f"{batch:,}", f"{settings['lr']:g}", accuracy, text(of(trials, ALL, **settings))])
    return table(header, rows)


def _small(trials: list[Trial]) -> str:
    header = ["batch", *[f"{TITLES[loss]}: accuracy %, bound" for loss in LOSSES]]
    rows = []
    for batch in SMALL:
        found = [best(trials, loss, batch) for loss in LOSSES]
        cells = [(text(of(trials, "accuracy", **s), scale=100), text(of(trials, ALL, **s))) for s in found]
        rows.append([f"{batch:,}", *[", ".join(pair) for pair in cells]])
    return table(header, rows)


def _cost(trials: list[Trial]) -> str:
    header = ["batch", "s here", "s matrix form", "MiB here", "MiB matrix form", "times faster", "share of the memory"]
    rows = []
    for batch in COSTS:
        numbers = [of(trials, name, part="cost", batch=batch) for name in
                   ("here seconds", "matrix form seconds", "here MiB", "matrix form MiB")]  # fmt: skip
        cells = [text(n, form) for n, form in zip(numbers, (".2f", ".2f", ",.0f", ",.0f"), strict=True)]
        if not numbers[3]:
            computed = of(trials, "matrix form MiB, computed", part="cost", batch=batch)
            cells[3] = f"{computed[0]:,.0f} (computed)" if computed else "–"
        faster = [theirs / ours for ours, theirs in zip(*numbers[:2], strict=False)]
        share = [ours / theirs for ours, theirs in zip(*numbers[2:], strict=False)]
        rows.append([f"{batch:,}", *cells, text(faster, ".1f"), text(share)])
    return table(header, rows)


def draw(trials: list[Trial]) -> Any:
    """The cap; accuracy and bounds against batch; losses for small batches."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    _draw_cap(axes[0, 0], trials)
    examples = {t["settings"]["examples"] for t in trials if t["settings"]["part"] == "training"}
    equal = EXAMPLES if EXAMPLES in examples else min(examples, default=EXAMPLES)  # a quick run has fewer
    simclr = {b: best(trials, "simclr", b, equal) for b in BATCHES}
    steps = {b: best(trials, "simclr", b, STEPS * b) for b in BATCHES[:-1]}
    _line(axes[0, 1], trials, "accuracy", simclr, COLOURS[0], "equal examples", 100)
    _line(axes[0, 1], trials, "accuracy", steps, COLOURS[1], "equal steps", 100)
    _line(axes[1, 0], trials, ALL, simclr, COLOURS[0], "read with K = 10,000")
    _line(axes[1, 0], trials, "bound at own candidates", simclr, COLOURS[1], "read with K = batch")
    axes[1, 0].plot(BATCHES, np.log(BATCHES), "k:", label="log batch")
    for colour, loss in zip(COLOURS, LOSSES, strict=True):
        chosen = {b: best(trials, loss, b, equal) for b in SMALL}
        _line(axes[1, 1], trials, "accuracy", chosen, colour, TITLES[loss], 100)
    for axis, heading, unit in (
        (axes[0, 1], "probe accuracy of SimCLR's encoder (%)", "batch"),
        (axes[1, 0], "InfoNCE bound of SimCLR's encoder (nats)", "batch"),
        (axes[1, 1], "losses for small batches: probe accuracy (%)", "batch"),
        (axes[0, 0], "InfoNCE of Gaussians (nats)", "candidates K"),
    ):
        axis.set_xscale("log", base=2)
        axis.set(title=heading, xlabel=unit)
        axis.grid(alpha=0.25, lw=0.5)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False, fontsize=9)
    return figure


def _draw_cap(axis: Any, trials: list[Trial]) -> None:
    for colour, information in zip(COLOURS, INFORMATION, strict=True):
        axis.axhline(information, color=colour, lw=0.8, ls="--")
        for name, mark, word in (("best critic", "o-", f"I = {information:g}"), ("trained critic", "x:", None)):
            settings = {k: {"information": information, "candidates": k} for k in CANDIDATES}
            _line(axis, trials, name, settings, colour, word, mark=mark)
    axis.plot(CANDIDATES, np.log(CANDIDATES), "k:", label="log K")


def _line(
    axis: Any, trials: list[Trial], number: str, settings: dict[int, Settings], colour: str, label: str | None,
    scale: float = 1, mark: str = "o-",
) -> None:  # fmt: skip
    found = {x: [scale * v for v in of(trials, number, **s)] for x, s in settings.items()}
    points = {x: interval(numbers) for x, numbers in found.items() if numbers}
    if points:
        mean, half = np.array(list(points.values())).T
        axis.errorbar(list(points), mean, half, fmt=mark, color=colour, label=label, capsize=3, lw=1.6, ms=4)
