"""Tables and figure of the trainings with and without entropy."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.plots import band
from experiments.tables import interval, table, text, values
from experiments.trials import Trial

from .objectives import FAMILIES, NAMES, SLOW, TARGETS
from .trials import DIMS, EPOCHS, HASTY, LARGE, LR, SMALL, Settings, cell, sphere

# Rodríguez-Gálvez et al., Table 2, ImageNet: points of accuracy lost at batch 512, and at a slow network's momentum of 0.8.
PAPER = {
    "dino": (6.76, 8.25), "dino_er": (2.35, 0.92), "byol": (23.65, 2.63), "byol_er": (2.35, 0.41),
    "simclr": (2.17, None), "simclr_er": (1.01, None), "swav": (None, None), "swav_er": (None, None),
}  # fmt: skip
PLOTTED = {(128, LARGE): "−45.5", (128, SMALL): "−47.35", (256, LARGE): "−77.8 (BYOL)"}  # read off its Figure 2
TITLES: dict[str, str] = dict(zip(FAMILIES, ("SimCLR", "SwAV", "BYOL", "DINO"), strict=True))
COLOURS: dict[str, str] = dict(zip(FAMILIES, ("#3b6fb6", "#4b9e5f", "#d9722b", "#8a5fa8"), strict=True))


def title(name: str) -> str:
    """The objective as the paper writes it."""
    family, _, form = name.partition("_")
    return TITLES[family] + {"": "", "er": " + ER", "uncentred": " without a centre"}[form]


def drops(trials: list[Trial], before: Settings, after: Settings) -> list[float]:
    """Points of accuracy lost, seed by seed, where both trainings are there."""
    of = [{t["settings"]["seed"]: t["numbers"]["accuracy"] for t in chosen(trials, s)} for s in (before, after)]
    return [100 * (of[0][seed] - of[1][seed]) for seed in sorted(of[0].keys() & of[1].keys())]


def chosen(trials: list[Trial], settings: Settings) -> list[Trial]:
    """The trials with these settings at any seed."""
    return [t for t in trials if {k: v for k, v in t["settings"].items() if k != "seed"} == settings]


def at_small(trials: list[Trial], name: str) -> list[float]:
    """Points lost at the small batch."""
    return drops(trials, cell(name, LARGE), cell(name, SMALL))


def when_hasty(trials: list[Trial], name: str) -> list[float]:
    """Points lost with a hasty slow network, at the small batch; none where there is no slow network."""
    return drops(trials, cell(name, SMALL), cell(name, SMALL, momentum=HASTY)) if slow(name) else []


def slow(name: str) -> bool:
    """Whether the objective has a slow network."""
    return name.partition("_")[0] in SLOW


def tables(trials: list[Trial]) -> dict[str, str]:
    """Four tables in markdown."""
    return {
        "drops": _drops(trials),
        "second-look": _second_look(trials),
        "entropy": _entropy(trials),
        "published": _published(trials),
    }


def _drops(trials: list[Trial]) -> str:
    header = [
        "objective",
        f"accuracy at {LARGE:,}, %",
        f"at {SMALL}, %",
        f"drop at {SMALL}",
        "paper's",
        "drop at EMA 0.8",
        "paper's",
    ]
    rows = []
    for name in NAMES:
        paper = ["–" if number is None else f"{number:.2f}" for number in PAPER[name]]
        accuracies = [text(values(trials, "accuracy", **cell(name, batch)), ".1f", 100) for batch in (LARGE, SMALL)]
        hasty = text(when_hasty(trials, name))
        rows.append([title(name), *accuracies, text(at_small(trials, name)), paper[0], hasty, paper[1]])
    return table(header, rows)


def _second_look(trials: list[Trial]) -> str:
    header = ["objective", f"drop at {SMALL}, equal steps", f"drop at {SMALL}, half the learning rate"]
    rows = []
    for name in NAMES:
        equal_steps = drops(trials, cell(name, LARGE), cell(name, SMALL, epochs=EPOCHS * SMALL / LARGE))
        slower = drops(trials, cell(name, LARGE, lr=LR / 2), cell(name, SMALL, lr=LR / 2))
        rows.append([title(name), text(equal_steps), text(slower)])
    return table(header, rows)


def rise(trials: list[Trial], number: str, settings: Settings) -> list[float]:
    """The last reading of a curve less its first, seed by seed."""
    return [curve[-1] - curve[0] for curve in values(trials, f"curve of {number}", **settings)]


def _entropy(trials: list[Trial]) -> str:
    header = [
        "objective",
        "entropy, rise",
        "reconstruction, rise",
        "their sum, rise",
        "of assignments: entropy, rise",
        "sum, rise",
    ]
    rows = []
    for name in (*NAMES, "dino_uncentred"):
        of = {number: rise(trials, number, cell(name, SMALL)) for number in ("entropy", "reconstruction")}
        row = [title(name), *map(text, of.values()), text(map(sum, zip(*of.values(), strict=True)))]
        discrete = [rise(trials, f"discrete {number}", cell(name, SMALL)) for number in of]
        if name.partition("_")[0] not in TARGETS:
            discrete = [[], []]
        rows.append([*row, text(discrete[0]), text(map(sum, zip(*discrete, strict=True)))])
    return table(header, rows)


def _published(trials: list[Trial]) -> str:
    numbers = ("published", "exact normaliser", "own point left out", "most possible", "clamp")
    header = [
        "points",
        "N",
        "as published",
        "exact normaliser",
        "own point left out",
        "most possible",
        "clamp",
        "paper's plot",
    ]
    rows = []
    for dim in DIMS:
        for pairs in (LARGE, SMALL):
            cells = [text(values(trials, number, **sphere(dim, pairs))) for number in numbers]
            rows.append([f"uniform, D = {dim}", f"{pairs:,}", *cells, PLOTTED.get((dim, pairs), "–")])
    for name in ("simclr", "simclr_er"):
        for pairs in (LARGE, SMALL):
            cells = [text(values(trials, f"{number}, {pairs}", **cell(name, pairs))) for number in numbers]
            rows.append([f"{title(name)}, D = 128", f"{pairs:,}", *cells, "–"])
    return table(header, rows)


def draw(trials: list[Trial]) -> Any:
    """What is lost, beside the paper's; entropy and reconstruction while training."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    _draw_drops(
        axes[0, 0], {name: at_small(trials, name) for name in NAMES}, 0, f"accuracy lost at batch {SMALL} (points)"
    )
    hasty = {name: when_hasty(trials, name) for name in NAMES if slow(name)}
    _draw_drops(axes[0, 1], hasty, 1, "accuracy lost at EMA 0.8 (points)")
    for axis, number in zip(axes[1], ("entropy", "reconstruction"), strict=True):
        for name in NAMES:
            _draw_curve(axis, trials, name, number)
        axis.set(title=f"{number} of embeddings, batch {SMALL} (nats)", xlabel="share of the training")
        axis.grid(alpha=0.25, lw=0.5)
    handles, labels = axes[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(NAMES), frameon=False, fontsize=9)
    return figure


def _draw_drops(axis: Any, lost: dict[str, list[float]], column: int, heading: str) -> None:
    for place, (name, points) in enumerate(lost.items()):
        mean, half = interval(points)
        form = {"fill": not name.endswith("_er"), "edgecolor": COLOURS[name.partition("_")[0]]}
        axis.bar(place, mean, 0.7, color=COLOURS[name.partition("_")[0]], yerr=half, capsize=3, **form)
        if PAPER[name][column] is not None:
            axis.plot(place, PAPER[name][column], "kx", label="paper (ImageNet)" if name == "byol" else None)
    axis.axhline(0, color="0.4", lw=0.8)
    # The paper's 23.65 would leave no room for differences below 1.
    axis.set_yscale("symlog", linthresh=1)
    axis.margins(y=0.1)
    axis.set_xticks(range(len(lost)), [title(name).replace(" + ", "\n+ ") for name in lost], fontsize=8)
    axis.set_title(heading)
    axis.legend(frameon=False)


def _draw_curve(axis: Any, trials: list[Trial], name: str, number: str) -> None:
    curves = values(trials, f"curve of {number}", **cell(name, SMALL)) or _any(trials, name, number)
    if not curves:
        return
    colour = COLOURS[name.partition("_")[0]]
    band(axis, np.linspace(0, 1, len(curves[0])).tolist(), curves, colour, title(name))
    axis.lines[-1].set_linestyle("--" if name.endswith("_er") else "-")


def _any(trials: list[Trial], name: str, number: str) -> list[list[float]]:
    """Of a quick run, whose trainings are shorter."""
    return values(trials, f"curve of {number}", objective=name)[:1]
