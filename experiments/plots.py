"""Panels and curves of the experiments' figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .tables import interval

INK = "0.45"  # of what is beside the measurements


def row_of_panels(n: int, height: float = 3.8) -> tuple[Any, Any]:
    """A figure with n panels side by side, as wide as a README shows it."""
    from matplotlib import pyplot as plt

    return plt.subplots(1, n, figsize=(max(5.0 * n, 10.0) if n < 3 else 4.0 * n, height), layout="constrained")


def band(
    axes: Any, at: Sequence[float], curves: Sequence[Sequence[float]], color: str, label: str, scale: float = 1.0
) -> None:
    """Mean of curves over seeds, with their 95 % interval at each reading as a band."""
    if not curves:
        return
    columns = np.asarray(curves, dtype=float).T * scale
    mean, half = np.array([interval(column) for column in columns]).T
    axes.plot(at, mean, color=color, lw=1.8, label=label)
    axes.fill_between(at, mean - half, mean + half, color=color, alpha=0.2, lw=0)


def level(axes: Any, numbers: Sequence[float], color: str, label: str, scale: float = 1.0) -> None:
    """A horizontal line at the mean over seeds, with its 95 % interval."""
    if not numbers:
        return
    mean, half = interval(scale * float(x) for x in numbers)
    axes.axhline(mean, color=color, lw=1.8, label=label)
    if not np.isnan(half):
        axes.axhspan(mean - half, mean + half, color=color, alpha=0.2, lw=0)


def bars(axes: Any, groups: Mapping[str, Sequence[float]], colors: Sequence[str], form: str = "%.2f") -> None:
    """A bar for each group of numbers over seeds, its 95 % interval as a whisker and its mean beside it."""
    for i, (color, numbers) in enumerate(zip(colors, groups.values(), strict=True)):
        mean, half = interval(numbers)
        axes.bar(i, mean, 0.7, color=color, yerr=None if np.isnan(half) else half, capsize=3)
        if not np.isnan(mean):
            axes.annotate(form % mean, (i, mean), (0, 4), textcoords="offset points", ha="center", fontsize=9)
    axes.set_xticks(range(len(groups)), list(groups))


def legend(axes: Any, **where: Any) -> None:
    """Of the curves that are there."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, **where)
