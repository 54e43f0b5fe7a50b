"""Measures of a representation, and how they print, plot and save themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..figures import saved
from ..plain import Z, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Measure:
    """One number.

    value      of the data, or their mean over the queries
    stderr     standard error of that mean; NaN for a number that is no mean
    reference  a number to hold it against, or NaN
    meaning    what the reference is
    setting    what the number depends on, such as a width; ""
    note       a reason to doubt it, or ""
    share_of   queries that the value is a share of; 0 for another number
    """

    value: float
    stderr: float = math.nan
    reference: float = math.nan
    meaning: str = ""
    setting: str = ""
    note: str = ""
    share_of: int = 0

    @property
    def interval(self) -> tuple[float, float]:
        """95 %: for a share Wilson's, which has a width where all queries agree; else 1.96 standard errors to each side."""
        if self.share_of:
            n, p, z2 = self.share_of, self.value, Z * Z
            middle, half = p + z2 / (2 * n), Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
            return (middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n)
        return self.value - Z * self.stderr, self.value + Z * self.stderr

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it: null for a number that is not finite."""
        return plain({**vars(self), "interval": self.interval})


@dataclass(frozen=True)
class Curves:
    """What the figure shows beside the measures.

    singular       singular values, the largest first
    concentration  (κ, entropy of the directions by the first queries)
    accuracy       (k, share of queries whose k neighbours vote for their class); empty without labels
    recall         (k, share of queries whose other view is among the k nearest); empty without a second view
    """

    singular: tuple[float, ...]
    concentration: Curve
    accuracy: Curve = ()
    recall: Curve = ()


@dataclass(frozen=True, repr=False)
class Evaluation:
    """A representation, judged.

    measures  by name, in the order of the table; `found["uniformity"].value` is one of them
    curves    for the figure
    N, D      rows and columns
    queries   rows that were compared with all others
    exact     whether these were all rows
    sweeps    runs over all pairs of a query and a row
    seconds   of the computation
    """

    measures: dict[str, Measure]
    curves: Curves
    N: int
    D: int
    queries: int
    exact: bool
    sweeps: int
    seconds: float = field(compare=False)

    def __getitem__(self, name: str) -> Measure:
        return self.measures[name]

    def to_dict(self) -> dict[str, Any]:
        """Numbers, words and lists, as JSON takes them: null for a number that is not finite."""
        measures = {name: measure.to_dict() for name, measure in self.measures.items()}
        return plain({**vars(self), "measures": measures, "curves": vars(self.curves)})

    def plot(self, path: str | Path | None = None) -> Figure:
        """Singular values, entropy over κ, and accuracy and recall over k, as a matplotlib figure.

        path  where to save it, or None
        """
        from .plot import figure_of  # matplotlib is not a requirement

        return saved(figure_of(self), path)

    def __str__(self) -> str:
        asked = "all of them queries" if self.exact else f"{self.queries:,} of them queries"
        lines = [f"{self.N:,} rows of {self.D} columns, {asked}; {self.sweeps} sweeps, {self.seconds:.1f} s", ""]
        rows = [("", "value", "95 %", "beside"), *(_row(name, of_name) for name, of_name in self.measures.items())]
        wide = [max(len(row[column]) for row in rows) for column in range(3)]
        for name, value, interval, beside in rows:
            lines.append(f"{name:<{wide[0]}}  {value:>{wide[1]}}  {interval:<{wide[2]}}  {beside}".rstrip())
        notes = [f"{name}: {measure.note}" for name, measure in self.measures.items() if measure.note]
        return "\n".join([*lines, *([""] if notes else []), *notes])

    __repr__ = __str__


def _row(name: str, measure: Measure) -> tuple[str, str, str, str]:
    low, high = measure.interval
    interval = f"{_short(low)} to {_short(high)}" if math.isfinite(low) else ""
    known = f"{_short(measure.reference)} {measure.meaning}" if math.isfinite(measure.reference) else ""
    return name, _short(measure.value), interval, ", ".join(part for part in (known, measure.setting) if part)


def _short(value: float) -> str:
    """Four digits, and at most three behind the point."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    digits = max(0, min(3, 3 - math.floor(math.log10(abs(value)))))
    return f"{round(value, digits) + 0.0:,.{digits}f}"  # + 0.0: no "-0.000"
