"""Numbers of trials as cells of a table: means over seeds with their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy import stats

from .trials import Trial


def values(trials: Iterable[Trial], number: str, **settings: Any) -> list[Any]:
    """One number of all trials that have these settings, in the order of their seeds."""
    chosen = [
        t for t in trials if all(t["settings"].get(k) == v for k, v in settings.items()) and number in t["numbers"]
    ]
    return [t["numbers"][number] for t in sorted(chosen, key=lambda t: t["settings"]["seed"])]


def interval(numbers: Iterable[float]) -> tuple[float, float]:
    """Mean, and half of the 95 % interval of Student's t over seeds; NaN where there are too few."""
    x = np.asarray(list(numbers), dtype=float)
    if len(x) < 2:
        return (float(x.mean()) if len(x) else math.nan), math.nan
    return float(x.mean()), float(stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))


def text(numbers: Iterable[float], form: str = ".2f", scale: float = 1.0) -> str:
    """ "mean ± half" as a cell of a table; "–" where there is no number."""
    mean, half = interval(scale * float(x) for x in numbers)
    if math.isnan(mean):
        return "–"
    return f"{mean:{form}}".replace("-", "−") + ("" if math.isnan(half) else f" ± {half:{form}}")


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    """In markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
