"""The charts: time over N with its limit, memory over N, fraction of the peak over D, and density beside its roof.

A panel for each problem. Who ran out of memory or time is marked where that happened.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from .cells import Cell
from .contenders import label
from .problems import LOSSES
from .rows import Peaks, Row, peaks, roof_seconds
from .store import Store

COLORS = {"ours": "#1f5fa8", "matrix": "#d9822b", "compiled": "#4d9a6a"}
PEERS = ("#8c5aa8", "#c4487a")  # the first and the second library that a problem has
LIMIT = "#666666"
ENDS = {"out of memory": "x", "timeout": "1"}  # the mark of a contender that ends there
DIMENSION, TALL = 128, 4096
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "savefig.dpi": 130,
}


def draw(store: Store, found: list[Row], out: Path) -> list[Path]:
    """Write the charts for which there are results, and say where."""
    known = peaks(store)
    with plt.rc_context(STYLE):
        made = [
            _time(found, known, out / "time.png"),
            _memory(found, out / "memory.png"),
            _fraction(found, known, out / "fraction.png"),
            _density(found, known, out / "density.png"),
        ]
    return [path for path in made if path]


def _time(found: list[Row], known: Peaks, path: Path) -> Path | None:
    def panel(axes: Axes, problem: str, rows: list[Row]) -> None:
        _lines(axes, rows, lambda row: row.seconds, lambda row: row.N)
        sizes = sorted({row.N for row in rows})
        limit = [Cell(problem, N, DIMENSION, ()).flops / known.product for N in sizes]
        axes.plot(sizes, limit, color=LIMIT, linestyle=(0, (4, 2)), linewidth=1.2)
        _sizes(axes, sizes)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=12))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: _seconds(v)))

    rows = [row for row in found if row.D == DIMENSION]
    limit = Line2D([], [], color=LIMIT, linestyle=(0, (4, 2)), label="necessary flops at torch's peak")
    title = f"Value and gradient: time over N, D = {DIMENSION}"
    return _panels(rows, panel, path, title, "N, rows of the score matrix", [limit, *_ends(rows)])


def _memory(found: list[Row], path: Path) -> Path | None:
    def panel(axes: Axes, problem: str, rows: list[Row]) -> None:
        _lines(axes, rows, lambda row: max(row.peak_mib, 0.1) if row.peak_mib is not None else None, lambda row: row.N)
        sizes = sorted({row.N for row in rows})
        axes.plot(sizes, [N * N * 4 / 2**20 for N in sizes], color=LIMIT, linestyle=":", linewidth=1.2)
        _sizes(axes, sizes)
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.08)
        axes.yaxis.set_major_locator(FixedLocator([0.1, 1, 10, 100, 1024, 10_240]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: _mib(v)))

    rows = [row for row in found if row.D == DIMENSION]
    matrix = Line2D([], [], color=LIMIT, linestyle=":", label="one matrix of N × N scores")
    title = f"Value and gradient: memory beyond the inputs over N, D = {DIMENSION}"
    return _panels(rows, panel, path, title, "N, rows of the score matrix", [matrix, *_ends(rows)])


def _fraction(found: list[Row], known: Peaks, path: Path) -> Path | None:
    tall = [row.N for row in found if row.N <= TALL and row.fraction and row.problem in LOSSES]
    N, best = max(tall, default=0), known.best / known.product

    def panel(axes: Axes, problem: str, rows: list[Row]) -> None:
        _lines(axes, rows, lambda row: row.fraction, lambda row: row.D, marks=False)
        axes.axhline(1, color=LIMIT, linestyle=(0, (4, 2)), linewidth=1.2)
        if best > 1:
            axes.axhline(best, color=LIMIT, linestyle=":", linewidth=1.2)
        _sizes(axes, sorted({row.D for row in rows}), text=str)
        axes.set_ylim(0, 1.35 * best)  # room for the legend

    rows = [row for row in found if row.N == N and row.problem in LOSSES and row.D >= 16]
    limits = [Line2D([], [], color=LIMIT, linestyle=(0, (4, 2)), label="peak: torch's product")]
    if best > 1:
        limits.append(Line2D([], [], color=LIMIT, linestyle=":", label="best rate seen"))
    title = f"Fraction of the peak on necessary flops, N = {N:,}"
    return _panels(rows, panel, path, title, "D, dimensions of the embeddings", limits)


def _density(found: list[Row], known: Peaks, path: Path) -> Path | None:
    size = max((row.N for row in found if row.problem == "kde_value"), default=0)
    problems = {"kde_value": "value (every point counts itself)", "kde_entropy": "value and gradient (leave-one-out)"}
    largest = [row for row in found if size == row.N]
    asked = {row.D for row in largest if row.problem == "kde_value"}
    rows = [row for row in largest if row.D in asked and row.problem in problems]
    if not rows:
        return None
    figure, all_axes = plt.subplots(1, 2, figsize=(11, 5.2), sharey=True)
    for axes, (problem, title) in zip(all_axes, problems.items(), strict=True):
        here = [row for row in rows if row.problem == problem]
        _lines(axes, here, lambda row: row.seconds, lambda row: row.D)
        dimensions = sorted({row.D for row in here})
        roof = [roof_seconds(problem, size, D, known) for D in dimensions]
        axes.plot(dimensions, roof, color=LIMIT, linestyle=(0, (4, 2)), linewidth=1.2)
        _sizes(axes, dimensions, text=str)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=12))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: _seconds(v)))
        axes.set_title(title)
        axes.set_xlabel("D, dimensions")
        handles = _handles(here)
        handles.append(Line2D([], [], color=LIMIT, linestyle=(0, (4, 2)), label="roof: e^t and differences"))
        handles += _ends(here)
        axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, fontsize=9)
    figure.suptitle(f"Kernel density: time over D, N = {size:,}", x=0.01, ha="left", fontsize=13)
    return _save(figure, path)


def _panels(
    found: list[Row],
    panel: Callable[[Axes, str, list[Row]], None],
    path: Path,
    title: str,
    below: str,
    more: list[Line2D],
) -> Path | None:
    """A panel for each loss that has rows, one legend for all."""
    problems = [name for name in LOSSES if any(row.problem == name for row in found)]
    if not problems:
        return None
    columns = min(4, len(problems))
    lines = math.ceil(len(problems) / columns)
    figure, grid = plt.subplots(
        lines, columns, figsize=(max(3.6 * columns, 7.2), 3.1 * lines + 1.1), sharey=True, squeeze=False
    )
    for axes in grid.flat[len(problems) :]:
        axes.set_visible(False)
    for axes, problem in zip(grid.flat, problems, strict=False):
        rows = [row for row in found if row.problem == problem]
        panel(axes, problem, rows)
        peers = [h for h in _handles(rows) if h.get_label() not in ("ours", "matrix form", "torch.compile")]
        axes.set_title(problem, family="monospace")
        if peers:
            axes.legend(handles=peers, loc="upper left", fontsize=9, handlelength=1.4, borderaxespad=0.2)
    figure.supxlabel(below, fontsize=10)
    common = [h for h in _handles(found) if h.get_label() in ("ours", "matrix form", "torch.compile")]
    figure.suptitle(title, x=0.01, ha="left", fontsize=13)
    figure.legend(handles=[*common, *more], loc="outside upper right", ncols=2 if columns < 3 else 6, fontsize=10)
    return _save(figure, path)


def _save(figure: plt.Figure, path: Path) -> Path:
    figure.set_layout_engine("constrained")
    figure.savefig(path)
    plt.close(figure)
    return path


def _lines(
    axes: Axes, rows: list[Row], y: Callable[[Row], float | None], x: Callable[[Row], int], marks: bool = True
) -> None:
    """A line for each contender, ours on top; a mark where it ran out of memory or time."""
    for name in _names(rows)[::-1]:
        mine = sorted((row for row in rows if row.contender == name), key=x)
        points = [(x(row), value) for row in mine if (value := y(row)) is not None]
        color = _color(rows, name)
        axes.plot([p[0] for p in points], [p[1] for p in points], marker="o", markersize=4, linewidth=1.8, color=color)
        for row in mine:
            status = row.status if row.status in ENDS else row.memory_status
            if marks and y(row) is None and status in ENDS and points:
                last, height = points[-1]
                height *= (x(row) / last) ** (2 if x(row) == row.N else 1)  # where it was heading
                axes.plot([last, x(row)], [points[-1][1], height], linestyle=":", color=color, linewidth=1.2)
                axes.plot([x(row)], [height], marker=ENDS[status], markersize=8, markeredgewidth=2, color=color)
                break


def _names(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row.contender for row in rows))


def _color(rows: list[Row], name: str) -> str:
    peers = [n for n in _names(rows) if n not in COLORS]
    return COLORS[name] if name in COLORS else PEERS[peers.index(name) % len(PEERS)]


def _handles(rows: list[Row]) -> list[Line2D]:
    found = {}
    for problem in dict.fromkeys(row.problem for row in rows):
        own = [row for row in rows if row.problem == problem]
        for name in _names(own):
            text = label(problem, name)
            found.setdefault(text, Line2D([], [], color=_color(own, name), marker="o", markersize=4, label=text))
    return list(found.values())


def _ends(rows: list[Row]) -> list[Line2D]:
    """The legend of the marks that occur."""
    found = [status for status in ENDS if any(status in (row.status, row.memory_status) for row in rows)]
    style = {"linestyle": "", "markersize": 8, "markeredgewidth": 2, "color": LIMIT}
    return [Line2D([], [], marker=ENDS[status], label=status, **style) for status in found]


def _sizes(axes: Axes, sizes: list[int], text: Callable[[int], str] | None = None) -> None:
    """A logarithmic x axis with its sizes for ticks."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [(text or _rows)(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _rows(N: int) -> str:
    return f"{N // 1024}k" if N >= 1024 and N % 1024 == 0 else str(N)


def _seconds(value: float) -> str:
    if value < 0.999e-3:
        return f"{value * 1e6:.3g} µs"
    return f"{value * 1e3:.3g} ms" if value < 0.999 else f"{value:.3g} s"


def _mib(value: float) -> str:
    return f"{value:.3g} MiB" if value < 1024 else f"{value / 1024:.3g} GiB"
