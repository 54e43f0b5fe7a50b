"""Figures of results, by matplotlib if it is installed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = (".png", ".pdf", ".svg")  # endings of files


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches; ImportError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure  # by itself: pyplot would open windows and keep figures
    except ImportError:
        raise ImportError("plot: needs matplotlib: pip install matplotlib") from None
    return Figure(figsize=(width, height), layout="constrained")


def saved(figure: Figure, path: str | Path | None) -> Figure:
    """The figure, written to this file unless it is None."""
    if path is not None:
        figure.savefig(path)
    return figure


def picture(figure: Figure, ending: str) -> bytes:
    """The figure as a file of this ending, one of PICTURES."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=ending[1:], dpi=130)
    return buffer.getvalue()
