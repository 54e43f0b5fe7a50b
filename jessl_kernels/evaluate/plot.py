"""The figure of an evaluation: singular values, entropy over the kernel's width, accuracy and recall over k."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .result import Evaluation

BLUE, ORANGE, GREY = "#1f5fa8", "#d9822b", "0.4"


def figure_of(found: Evaluation) -> Figure:
    """Two panels, or three with labels or a second view."""
    shares = bool(found.curves.accuracy or found.curves.recall)
    figure = new_figure(12 if shares else 8, 3.8)
    panels = figure.subplots(1, 3 if shares else 2)
    _spectrum(panels[0], found)
    _entropy(panels[1], found)
    if shares:
        _shares(panels[2], found)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize="small")
    return figure


def _spectrum(axes: Any, found: Evaluation) -> None:
    singular = found.curves.singular
    share = [value / singular[0] for value in singular]
    axes.plot(range(1, len(share) + 1), share, color=BLUE, label="singular values")
    rank = found["effective_rank"].value
    axes.axvline(rank, color=ORANGE, label=f"effective rank {rank:.1f}")
    # Those that are 0 up to rounding would stretch the axis over eight decades.
    axes.set_ylim(max(0.5 * min(share), 1e-6), 1.3)
    axes.set(yscale="log", xlabel="place", ylabel="share of the largest", title="spectrum")


def _entropy(axes: Any, found: Evaluation) -> None:
    curve = [(kappa, value) for kappa, value in found.curves.concentration if math.isfinite(value)]
    even = found["vmf_entropy"].reference
    axes.plot(*zip(*curve, strict=True), color=BLUE, marker=".", label="leave-one-out")
    axes.axhline(even, color=GREY, linestyle="--", label=f"even on the sphere: {even:.1f}")
    axes.axhline(found["vmf_entropy"].value, color=ORANGE, label=f"lowest: {found['vmf_entropy'].value:.1f}")
    # A width that is too narrow reads hundreds of nats too high.
    low = min(found["vmf_entropy"].value, even)
    span = max(abs(even - low), 1.0)
    axes.set_ylim(low - 0.3 * span, max(even, low) + 1.5 * span)
    axes.set(xscale="log", xlabel="concentration κ", ylabel="nats", title="entropy of directions")


def _shares(axes: Any, found: Evaluation) -> None:
    for curve, label, color in (
        (found.curves.accuracy, "accuracy of k neighbours", BLUE),
        (found.curves.recall, "recall at k of the other view", ORANGE),
    ):
        if curve:
            axes.plot(*zip(*curve, strict=True), color=color, marker=".", label=label)
    axes.set_ylim(0, 1.02)
    axes.set(xscale="log", xlabel="k", ylabel="share of queries", title="neighbours")
