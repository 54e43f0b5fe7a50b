"""The figure of an estimate: the bound as the training went on, the held-out value with its interval, and the cap."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .result import Estimate


def figure_of(estimate: Estimate) -> Figure:
    """Nats over steps."""
    figure = new_figure(7, 4.2)
    axes = figure.subplots()
    steps = [point.step for point in estimate.history]
    training, stopping = ([getattr(point, name) for point in estimate.history] for name in ("training", "stopping"))
    axes.plot(steps, training, color="#b8b8b8", label="training pairs")
    axes.plot(steps, stopping, color="#1f5fa8", label="pairs to stop by")
    low, high = estimate.interval
    axes.axhspan(low, high, color="#d9822b", alpha=0.25, linewidth=0)
    axes.axhline(
        estimate.value, color="#d9822b", label=f"held-out pairs: {estimate.value:.3f}, 95 % {low:.3f} to {high:.3f}"
    )
    axes.axvline(estimate.best_step, color="0.6", linestyle=":", label=f"step {estimate.best_step}, taken")
    if math.isfinite(estimate.cap):
        axes.axhline(estimate.cap, color="0.2", linestyle="--", label=f"cap {estimate.cap:.3f}")
    # The first values of some bounds are far below zero, and so are those of a critic that comes apart.
    tops = [value for value in (*training, *stopping, high, estimate.cap) if math.isfinite(value)]
    bottoms = [value for value in (*training, *stopping) if math.isfinite(value)]
    top = max(tops)
    bottom = max(min(0.0, low, *bottoms), min(0.0, low) - 0.25 * max(top, 1.0))
    margin = 0.05 * max(top - bottom, 0.1)
    axes.set_ylim(bottom - margin, top + margin)
    axes.set(
        xlabel="step", ylabel="nats", title=f"{estimate.bound}, {estimate.critic} critic, K = {estimate.batch_size}"
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    return figure
