"""The charts: time over N above the rivals' ratio, memory over N, the fraction of the peak over D, and density beside its roof.

A panel for each loss, whose rivals are named in their colours above it, off its lines. Where a rival ends, the cause stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from PIL import Image

from .contenders import RIVALS, contender
from .problems import LOSSES, PROBLEMS
from .rows import MACHINE, RECOMPUTED, Row, time_text

# What one e^t costs in lane operations: the instructions of exp_over in csrc/cpu/simd/math.h, AVX-512.
EXP = 13
COLORS = {"ours": "#1f5fa8", "matrix": "#d9822b", "compiled": "#4d9a6a"}
PEERS = ("#8c5aa8", "#c4487a", "#7a6a4f", "#2f8f9d")  # of a problem, in the order of the registry
LIMIT = "#666666"
DASHED = (0, (4, 2))
ENDS = ("out of memory", "timeout", "skipped", "not possible")
DIMENSION = 128
AXES_HEIGHT, RATIO_HEIGHT, WIDTH = 2.5, 1.3, 3.6
COLOURS_KEPT = 192  # of a picture, whose size in a repository falls to a third
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
    "savefig.dpi": 120,
}
Draw = Callable[[Axes, list[Row]], None]


def draw(found: list[Row], out: Path) -> list[Path]:
    """Write the charts for which there are rows, and say where. Each is of one dtype: that of most rows."""
    dtypes = [row.dtype for row in found if row.problem != MACHINE]
    if not dtypes:
        return []
    dtype = max(set(dtypes), key=dtypes.count)
    roof = next((row.rate for row in found if row.contender == f"best {dtype}"), None)
    of = [row for row in found if row.dtype == dtype and row.status != "not reached" and row.contender != "plain"]
    with plt.rc_context(STYLE):
        made = [_time(of, roof, out / "time.png"), _memory(of, out / "memory.png")]
        if roof:
            made += [_fraction(of, out / "fraction.png"), _density(of, roof, out / "density.png")]
    return [path for path in made if path]


def roof_seconds(problem: str, N: int, D: int, rate: float) -> float:
    """What a density takes at least at the best rate: N²/2 pairs, each one e^t and D multiply-adds for the value, 3D with the
    gradient. A multiply-add of one lane is two flops of the rate.
    """
    each = EXP + (1 if problem == "kde_value" else 3) * D
    return N * N / 2 * each / (rate / 2)


def _time(found: list[Row], roof: float | None, path: Path) -> Path | None:
    def times(axes: Axes, rows: list[Row]) -> None:
        _lines(axes, rows, lambda row: row.seconds, lambda row: row.N)
        sizes = sorted({row.N for row in rows})
        if roof:
            limit = [PROBLEMS[rows[0].problem].flops(N, DIMENSION) / roof for N in sizes]
            axes.plot(sizes, limit, color=LIMIT, linestyle=DASHED, linewidth=1.2)
        _log_time(axes)
        _sizes(axes, sizes)

    def ratios(axes: Axes, rows: list[Row]) -> None:
        _lines(
            axes, [row for row in rows if row.contender != "ours"], lambda row: row.ratio, lambda row: row.N, ends=False
        )
        axes.axhline(1, color=COLORS["ours"], linewidth=1.2)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(FixedLocator([0.5, 1, 2, 5, 10, 20, 50, 100]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"×{v:g}"))
        _sizes(axes, sorted({row.N for row in rows}))

    limit = Line2D([], [], color=LIMIT, linestyle=DASHED, label="necessary flops at the best rate seen")
    title = f"Value and gradient: time over N; below, a rival's time over ours ({_where(found)})"
    return _panels(
        _at_dimension(found), [times, ratios], path, title, "N, rows of the score matrix", [limit] if roof else []
    )


def _memory(found: list[Row], path: Path) -> Path | None:
    def panel(axes: Axes, rows: list[Row]) -> None:
        _lines(axes, rows, lambda row: max(row.peak_mib, 0.1) if row.peak_mib is not None else None, lambda row: row.N)
        sizes = sorted({row.N for row in rows})
        item = 2 if rows[0].dtype == "bfloat16" else 4
        axes.plot(sizes, [N * N * item / 2**20 for N in sizes], color=LIMIT, linestyle=":", linewidth=1.2)
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.08)
        axes.yaxis.set_major_locator(FixedLocator([0.1, 1, 10, 100, 1024, 10_240, 102_400]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(
            FuncFormatter(lambda v, _: f"{v:.3g} MiB" if v < 1024 else f"{v / 1024:.3g} GiB")
        )
        _sizes(axes, sizes)

    matrix = Line2D([], [], color=LIMIT, linestyle=":", label="one matrix of N × N scores")
    title = f"Value and gradient: memory beyond the inputs over N ({_where(found)})"
    return _panels(_at_dimension(found), [panel], path, title, "N, rows of the score matrix", [matrix])


def _fraction(found: list[Row], path: Path) -> Path | None:
    def panel(axes: Axes, rows: list[Row]) -> None:
        _lines(axes, rows, lambda row: row.fraction, lambda row: row.D, ends=False)
        axes.axhline(1, color=LIMIT, linestyle=DASHED, linewidth=1.2)
        axes.set_ylim(0, 1.05)
        _sizes(axes, sorted({row.D for row in rows}), text=str)

    widths = {N: len({row.D for row in found if row.N == N and row.fraction}) for N in {row.N for row in found}}
    N = max(widths, key=lambda N: (widths[N], N), default=0)
    rows = [row for row in found if row.N == N and row.problem in LOSSES and row.D >= 16 and N >= RECOMPUTED]
    limit = Line2D([], [], color=LIMIT, linestyle=DASHED, label="the best rate seen")
    title = f"Fraction of the best rate on necessary flops, over D at N = {N:,} ({found[0].device}, {found[0].dtype})"
    return _panels(rows, [panel], path, title, "D, dimensions of the embeddings", [limit])


def _density(found: list[Row], roof: float, path: Path) -> Path | None:
    size = max((row.N for row in found if row.problem == "kde_value"), default=0)
    titles = {"kde_value": "value (every point counts itself)", "kde_entropy": "value and gradient (leave-one-out)"}
    asked = {row.D for row in found if row.problem == "kde_value" and size == row.N}
    rows = [row for row in found if size == row.N and row.D in asked and row.problem in titles]
    if not rows:
        return None
    figure, all_axes = plt.subplots(1, 2, figsize=(11, 5.2), sharey=True)
    for axes, (problem, title) in zip(all_axes, titles.items(), strict=True):
        here = [row for row in rows if row.problem == problem]
        _lines(axes, here, lambda row: row.seconds, lambda row: row.D)
        dimensions = sorted({row.D for row in here})
        axes.plot(
            dimensions,
            [roof_seconds(problem, size, D, roof) for D in dimensions],
            color=LIMIT,
            linestyle=DASHED,
            linewidth=1.2,
        )
        _sizes(axes, dimensions, text=str)
        _log_time(axes)
        axes.set_title(title)
        axes.set_xlabel("D, dimensions")
        handles = [_handle(_color(here, name), contender(problem, name).label) for name in _names(here)]
        handles.append(Line2D([], [], color=LIMIT, linestyle=DASHED, label="roof: one e^t a pair and products"))
        axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, fontsize=9)
    figure.suptitle(f"Kernel density: time over D, N = {size:,} points", x=0.01, ha="left", fontsize=13)
    return _save(figure, path)


def _where(found: list[Row]) -> str:
    return f"D = {DIMENSION}, {found[0].dtype}, {found[0].device}"


def _at_dimension(found: list[Row]) -> list[Row]:
    return [row for row in found if row.D == DIMENSION]


def _panels(found: list[Row], draws: list[Draw], path: Path, title: str, below: str, more: list[Line2D]) -> Path | None:
    """A panel for each loss that has rows, of one axes or two above each other, and one legend for all."""
    problems = [name for name in LOSSES if any(row.problem == name for row in found)]
    if not problems:
        return None
    columns = len(problems) if len(problems) <= 5 else 4
    lines, heights = math.ceil(len(problems) / columns), [AXES_HEIGHT, RATIO_HEIGHT][: len(draws)]
    size = max(WIDTH * columns, 7.2), (sum(heights) + 0.6) * lines + 1.1
    figure, grid = plt.subplots(
        lines * len(draws), columns, figsize=size, sharey="row", squeeze=False, height_ratios=heights * lines
    )
    for place in range(lines * columns):
        line, column = divmod(place, columns)
        for step, panel in enumerate(draws):
            axes = grid[line * len(draws) + step][column]
            if place >= len(problems):
                axes.set_visible(False)
                continue
            rows = [row for row in found if row.problem == problems[place]]
            panel(axes, rows)
            if step == 0:
                axes.set_title(problems[place], family="monospace", pad=30)
                _name_peers(axes, problems[place], rows)
            if step < len(draws) - 1:
                axes.tick_params(labelbottom=False)
            elif place + columns >= len(problems):
                axes.set_xlabel(below, fontsize=9)
    figure.suptitle(title, x=0.01, ha="left", fontsize=13)
    common = [
        _handle(COLORS[name], contender(problems[0], name).label)
        for name in COLORS
        if any(row.contender == name for row in found)
    ]
    figure.legend(handles=[*common, *more], loc="outside lower center", ncols=2 if columns < 3 else 5, fontsize=10)
    return _save(figure, path)


def _name_peers(axes: Axes, problem: str, rows: list[Row]) -> None:
    """Above the panel, in their colours, in two lines where one is too short."""
    left, line = 0.0, 1
    for name in [name for name in _names(rows) if name not in COLORS][::-1]:
        text = contender(problem, name).label
        width = 0.021 * len(text) + 0.05
        if left + width > 1.1:
            left, line = 0.0, line + 1
        place = {"xytext": (0, 12 * line - 8), "textcoords": "offset points", "fontsize": 8.5}
        axes.annotate(text, (left, 1), xycoords="axes fraction", color=_color(rows, name), **place)
        left += width


def _save(figure: plt.Figure, path: Path) -> Path:
    figure.set_layout_engine("constrained")
    figure.savefig(path)
    plt.close(figure)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(COLOURS_KEPT).save(path, optimize=True)
    return path


def _lines(
    axes: Axes, rows: list[Row], y: Callable[[Row], float | None], x: Callable[[Row], int], ends: bool = True
) -> None:
    """A line for each contender, ours on top; where a rival ends, a mark with the cause."""
    last_size = max(map(x, rows), default=0)
    for name in _names(rows)[::-1]:
        mine = sorted((row for row in rows if row.contender == name), key=x)
        points = [(x(row), value) for row in mine if (value := y(row)) is not None]
        color = _color(rows, name)
        axes.plot([p[0] for p in points], [p[1] for p in points], marker="o", markersize=4, linewidth=1.8, color=color)
        ended = next((row for row in mine if ends and y(row) is None and _cause(row)), None)
        if ended is None or not points or x(ended) <= points[-1][0]:
            continue
        size, height = points[-1]
        at = height * (x(ended) / size) ** (2 if x(ended) == ended.N else 1)  # where it was heading
        axes.plot([size, x(ended)], [height, at], linestyle=":", color=color, linewidth=1.2)
        axes.plot([x(ended)], [at], marker="x", markersize=7, markeredgewidth=2, color=color)
        side = "right" if x(ended) == last_size else "left"
        axes.annotate(_cause(ended), (x(ended), at), (-6 if side == "right" else 6, -2), textcoords="offset points",
                      ha=side, va="top", fontsize=7.5, color=color)  # fmt: skip


def _cause(row: Row) -> str:
    """Why a rival has no number here, in words short enough for a chart; "" where nothing is known."""
    status = row.status if row.status in ENDS else row.memory_status
    if status == "skipped":  # its words begin with what it did at a smaller size
        return "out of memory" if row.why.startswith("out of memory") else "too slow"
    return {"out of memory": "out of memory", "timeout": "too slow", "not possible": "not possible"}.get(status, "")


def _names(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row.contender for row in rows))


def _color(rows: list[Row], name: str) -> str:
    if name in COLORS:
        return COLORS[name]
    return PEERS[list(RIVALS[rows[0].problem]).index(name) % len(PEERS)]


def _handle(color: str, label: str) -> Line2D:
    return Line2D([], [], color=color, marker="o", markersize=4, label=label)


def _log_time(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(numticks=12))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: time_text(v)))


def _sizes(axes: Axes, sizes: list[int], text: Callable[[int], str] | None = None) -> None:
    """A logarithmic x axis with its sizes for ticks."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(sizes[0] / 1.4, sizes[-1] * 1.4)
    axes.set_xticks(sizes, [(text or _rows)(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _rows(N: int) -> str:
    return f"{N // 1024}k" if N >= 1024 and N % 1024 == 0 else str(N)
